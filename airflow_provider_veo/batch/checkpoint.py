"""What one process of a try tells the next one, by way of the trigger that waits in between."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class BatchCheckpoint:
    """
    What is not on record, since it is of one try only.

    :param try_id: tells the try from all others, also from those of a run that was begun anew.
    :param since: epoch seconds when the try began.
    :param ended_before: jobs that had ended by then.
    :param told_at: epoch seconds when it was told how far the batch is.
    :param held_until: epoch seconds before which the relay wants to hear nothing.
    :param refused_since: epoch seconds since when it has taken nothing.
    :param faults: see :class:`~airflow_provider_veo.batch.backoff.RelayBackoff`.
    """

    try_id: str = field(default_factory=lambda: uuid4().hex)
    since: float | None = None
    ended_before: int = 0
    told_at: float = 0.0
    held_until: float | None = None
    refused_since: float | None = None
    faults: int = 0

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> BatchCheckpoint:
        """Take what a trigger's event has of it; triggers of an earlier version have less."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in event.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return asdict(self)
