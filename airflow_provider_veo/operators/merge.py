"""Merge the results of a batch's shards. This task sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AssetAlias,
    BaseOperator,
    ObjectStoragePath,
    XComArg,
)

from airflow_provider_veo.journal.identity import owner_of
from airflow_provider_veo.operators.publishing import publish
from airflow_provider_veo.operators.storing import announce_batch
from airflow_provider_veo.operators.task import VeoTask
from airflow_provider_veo.protocol import VeoError, coerce

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_veo.batch.merging import MergedResults


class VeoMergeShardsOperator(VeoTask, BaseOperator):
    """
    Merge the results of a sharded batch: ``results.jsonl``, ``summary.json`` and ``report.html`` as of one batch.

    It goes downstream of the shards, and runs when all of them have ended, even if some have failed. It fails if a
    shard has no results, if shards have read different inputs, or if no job succeeded. Files and XComs are written in
    any case, unless no shard has results. It needs no connection to the relay, and may be cleared at any time.

    XComs: ``return_value``, ``summary_text`` and ``report_path``, as of
    :class:`~airflow_provider_veo.operators.VeoVideoBatchOperator`.

    :param result_path: as of the shards (templated).
    :param fail_on_partial_error: fail unless all jobs succeeded. Default: fail only if none did.
    :param trigger_rule: when to run. Default: ``"all_done"``, so that the results of the others are merged if a shard
        fails.
    """

    template_fields: Sequence[str] = ("result_path",)
    ui_color = "#e8eaf6"

    def __init__(
        self,
        *,
        result_path: str | XComArg,
        fail_on_partial_error: bool = False,
        trigger_rule: str = "all_done",
        **kwargs: Any,
    ) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.result_path = result_path
        self.fail_on_partial_error = fail_on_partial_error

    def execute(self, context: Context) -> dict[str, Any]:
        """Merge what the shards have written."""
        try:
            return self._merge(context)
        except VeoError as error:
            meant = self.for_airflow(error)
            if meant is error:
                raise
            raise meant from error

    def _merge(self, context: Context) -> dict[str, Any]:
        from airflow_provider_veo.batch.merging import MergedResults

        if coerce.is_nothing(self.result_path):
            self.refuse(["result_path: expected the URI of a folder"])
        folder = ObjectStoragePath(str(self.result_path).rstrip("/"))
        results = MergedResults(folder)
        problems = [f"  - {problem}" for problem in results.problems]
        if len(results.about["shards"]) == 0:
            raise AirflowFailException("\n".join(["No shard has results. Nothing was written.", *problems]))
        about = {**owner_of(context), "try_number": context["ti"].try_number, **results.about}
        short = publish(context, results, folder, about, self.log)
        self.log.info("%s", ", ".join(f"{name} {value}" for name, value in short.items()))
        self._fail_on(problems, short, results)
        announce_batch(context, self.outlets, short, self._files(results))
        return short

    def _fail_on(self, problems: list[str], short: Mapping[str, Any], results: MergedResults) -> None:
        is_partial = short["succeeded"] < short["total"] and (self.fail_on_partial_error or not short["succeeded"])
        if not problems and not is_partial:
            return
        text = f"{short['succeeded']} of {short['total']} jobs succeeded. Result of each: {short['results']}"
        reasons = [f"  - {reason}" for reason in results.reasons()]
        raise AirflowFailException("\n".join([text, *problems, *reasons]))

    def _files(self, results: MergedResults) -> Iterator[dict[str, Any]]:
        """Return the facts of each file, if they are announced."""
        if any(isinstance(outlet, AssetAlias) for outlet in self.outlets):
            yield from results.files()
