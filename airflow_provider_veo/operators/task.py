"""What the operators and the sensor share: their hook, the handling of errors, and their templates."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_veo.journal.spend import SPEND
from airflow_provider_veo.operators.mapped import RendersNoXComs
from airflow_provider_veo.protocol import VeoError, VeoValidationError
from airflow_provider_veo.protocol.prices import calculating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_veo.hooks import VeoHook


log = logging.getLogger(__name__)


class VeoTask(RendersNoXComs):
    """Mixin for tasks that talk to a relay. It goes before Airflow's own base class."""

    veo_conn_id: str | XComArg
    task_id: str
    returned: Mapping[str, Any] | None = None
    """Fields set by a decorated function, except those that are needed only for submitting."""
    final_errors: ClassVar[tuple[type[VeoError], ...]] = ()
    """Errors that no retry can fix, in addition to those that are marked as final."""

    @cached_property
    def hook(self) -> VeoHook:
        """The hook to the relay."""
        from airflow_provider_veo.hooks import VeoHook

        return VeoHook(str(self.veo_conn_id))

    @property
    def is_from_mapped(self) -> bool:
        """Whether a worker made it from a mapped task, so that its arguments are already rendered."""
        return bool(getattr(self, "_BaseOperator__from_mapped", False))

    def refuse(self, mistakes: Sequence[str]) -> None:
        """
        Raise if arguments are invalid.

        :raises VeoValidationError: there are mistakes.
        """
        if mistakes:
            raise VeoValidationError(f"The arguments of task {self.task_id!r} are not valid.", mistakes)

    def push_spend(self, context: Context, rows: Callable[[], list[dict[str, Any]]]) -> None:
        """
        Push what was spent. If that fails, it is only logged: the videos are billed either way.

        :param rows: returns the value, see :func:`~airflow_provider_veo.journal.spend.spend_of`.
        """
        try:
            if found := rows():
                context["ti"].xcom_push(key=SPEND, value=found)
        except Exception as error:
            log.warning("Could not push %s: %s: %s", SPEND, type(error).__name__, error)

    def for_airflow(self, error: VeoError) -> Exception:
        """Return the exception that makes Airflow fail for good, or leaves the decision to ``retries``."""
        if error.final or isinstance(error, self.final_errors):
            return AirflowFailException(str(error))
        return error

    @contextmanager
    def talking_to_the_relay(self) -> Iterator[None]:
        """Raise errors as :meth:`for_airflow` returns them, and close the hook."""
        try:
            with calculating():
                yield
        except VeoError as error:
            meant = self.for_airflow(error)
            if meant is error:
                raise
            raise meant from error
        finally:
            if "hook" in vars(self):
                self.hook.close()

    @property
    def kwargs_to_resume(self) -> dict[str, Any] | None:
        """
        What Airflow stores while the task is deferred.

        The task resumes in a new process, with an operator made from the DAG file. A decorated function is not called
        again, so its choice of destination and account would be lost.
        """
        return {"returned": dict(self.returned)} if self.returned else None

    def take_returned(self, returned: Mapping[str, Any] | None) -> None:
        """Restore the fields that a decorated function has set."""
        self.returned = returned
        for name, value in (returned or {}).items():
            setattr(self, name, value)
