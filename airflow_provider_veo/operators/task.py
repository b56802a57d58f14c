"""What the operators and the sensor share: their hook, what Airflow makes of their failures, and their templates."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_veo.operators.mapped import RendersNoXComs
from airflow_provider_veo.protocol import VeoError, VeoValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_veo.hooks import VeoHook


class VeoTask(RendersNoXComs):
    """A task that talks to a relay. A mixin, which goes before Airflow's own base class."""

    veo_conn_id: str
    task_id: str
    returned: Mapping[str, Any] | None = None
    """The fields that a decorated function has set, without those that are submitted already."""
    final_errors: ClassVar[tuple[type[VeoError], ...]] = ()
    """Errors that no retry can fix, besides those that say so themselves."""

    @cached_property
    def hook(self) -> VeoHook:
        """The hook to the relay."""
        from airflow_provider_veo.hooks import VeoHook

        return VeoHook(self.veo_conn_id)

    @property
    def is_from_mapped(self) -> bool:
        """Whether it was made in a worker, of a mapped task: its arguments are values that were rendered."""
        return bool(getattr(self, "_BaseOperator__from_mapped", False))

    def refuse(self, mistakes: Sequence[str]) -> None:
        """
        Refuse arguments.

        :raises VeoValidationError: there are mistakes in them.
        """
        if mistakes:
            raise VeoValidationError(f"The arguments of task {self.task_id!r} are not valid.", mistakes)

    def for_airflow(self, error: VeoError) -> Exception:
        """Return the exception that makes Airflow do what is right: fail for good, or leave it to ``retries``."""
        if error.final or isinstance(error, self.final_errors):
            return AirflowFailException(str(error))
        return error

    @contextmanager
    def talking_to_the_relay(self) -> Iterator[None]:
        """Raise errors as Airflow takes them, and close the hook."""
        try:
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
        What Airflow keeps while the task is deferred.

        It resumes in a new process, with an operator that is made of the DAG file: a decorated function is not called
        again, and where the files go and who is billed would be forgotten.
        """
        return {"returned": dict(self.returned)} if self.returned else None

    def take_returned(self, returned: Mapping[str, Any] | None) -> None:
        """Set the fields again that a decorated function has set."""
        self.returned = returned
        for name, value in (returned or {}).items():
            setattr(self, name, value)
