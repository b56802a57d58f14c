"""Write the results of a batch for programs and for people, and push what callbacks and messages need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_veo.batch.results import Results
    from airflow_provider_veo.log import Log


def publish(
    context: Context,
    results: Results,
    folder: ObjectStoragePath,
    about: Mapping[str, Any],
    log: Log,
    make_sure: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """
    Write results, summary and report, push ``summary_text`` and ``report_path``, and return what the task returns.

    :param context: of the task.
    :param results: of the batch.
    :param folder: to write to.
    :param about: the task instance, ``try_number`` and ``account``.
    :param log: the task's.
    :param make_sure: as of :meth:`~airflow_provider_veo.batch.results.Results.write`.
    """
    from airflow_provider_veo.batch.failures import Failures
    from airflow_provider_veo.batch.report import Report, summary_text

    ti = context["ti"]
    short = results.write(folder, about, make_sure)
    failures = Failures(results.rows())
    report = Report(results, failures, folder, about, getattr(ti, "log_url", None))
    short["report"] = report.write(make_sure, log)
    # Pushed, not returned: callbacks of a task that fails need them, too.
    ti.xcom_push(key="summary_text", value=summary_text(results, failures, about, short["report"]))
    if short["report"]:
        ti.xcom_push(key="report_path", value=str(report.path))
    return short
