"""The state that a process of a try passes to the next one, through the trigger between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class BatchCheckpoint:
    """
    State of a single try, which is not on record.

    :param try_id: identifies the try, also among those of a cleared run.
    :param since: epoch seconds when the try began.
    :param ended_before: jobs that had ended by then.
    :param told_at: epoch seconds when progress was last logged.
    :param held_until: epoch seconds before which the relay wants no requests.
    :param refused_since: epoch seconds since when the relay has accepted nothing.
    :param images_failing_since: epoch seconds since when no image could be fetched.
    :param faults: see :class:`~airflow_provider_veo.batch.backoff.RelayBackoff`.
    """

    try_id: str = field(default_factory=lambda: uuid4().hex)
    since: float | None = None
    ended_before: int = 0
    told_at: float = 0.0
    held_until: float | None = None
    refused_since: float | None = None
    images_failing_since: float | None = None
    faults: int = 0

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> BatchCheckpoint:
        """Read the fields that a trigger's event has; triggers of earlier versions have fewer."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in event.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict."""
        return asdict(self)
