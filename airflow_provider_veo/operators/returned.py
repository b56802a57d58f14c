"""What the function of a decorated task has returned, carried to the process that goes on after a wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ReturnedFields:
    """
    An operator whose fields a function may have set.

    A task that has waited without a worker goes on in a new process, with an operator that is made of the DAG file:
    the function is not called again, and where the files go and who is billed would be forgotten.
    """

    returned: Mapping[str, Any] | None = None
    """The fields, without those that are submitted already."""

    @property
    def kwargs_to_resume(self) -> dict[str, Any] | None:
        """What Airflow keeps while the task waits."""
        return {"returned": dict(self.returned)} if self.returned else None

    def take_returned(self, returned: Mapping[str, Any] | None) -> None:
        """Set the fields again."""
        self.returned = returned
        for name, value in (returned or {}).items():
            setattr(self, name, value)
