"""
Where each job of a batch is: in exactly one of four places.

=============  ==========================================  =====================================================
place          it gets there                               it leaves
=============  ==========================================  =====================================================
``QUEUED``     not submitted yet; not accepted, for now;   its intent is on record: *in flight*; there is no
               failed, and another attempt is allowed      money left for it: *settled*
``IN_FLIGHT``  its intent is on record                     its video is ready: *storing*, or *settled* where no
                                                           files are stored; not accepted, or failed: *queued* or
                                                           *settled*; given up: *settled*
``STORING``    its video is ready, its file is stored      stored or not: *settled*
``SETTLED``    nothing is left to do in this try           never
=============  ==========================================  =====================================================
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_veo.batch.jobs import Job


class Place(Enum):
    """See the module's table."""

    QUEUED = auto()
    IN_FLIGHT = auto()
    STORING = auto()
    SETTLED = auto()


MOVES = {
    None: set(Place),
    Place.QUEUED: {Place.IN_FLIGHT, Place.SETTLED},
    Place.IN_FLIGHT: {Place.QUEUED, Place.STORING, Place.SETTLED},
    Place.STORING: {Place.SETTLED},
    Place.SETTLED: set(),
}
"""Where a job may go from each place; ``None`` is nowhere yet."""


class Places:
    """The places of a batch's jobs."""

    def __init__(self) -> None:
        self.queue: deque[Job] = deque()
        """Jobs to submit, the next one first."""
        self.in_flight: dict[str, Job] = {}
        """Jobs that are being submitted or generated, by key."""
        self._of: dict[str, Place] = {}

    def __getitem__(self, key: str) -> Place | None:
        return self._of.get(key)

    def queued(self, job: Job, *, first: bool = False) -> None:
        """Put a job into the queue, at its end unless it was there a moment ago."""
        self._move(job, Place.QUEUED)
        (self.queue.appendleft if first else self.queue.append)(job)

    def next(self, count: int) -> list[Job]:
        """Take the next jobs out of the queue, for :meth:`flies` or :meth:`settled`."""
        return [self.queue.popleft() for _ in range(min(count, len(self.queue)))]

    def flies(self, job: Job) -> None:
        """Note that a job's intent is recorded, or its video generated."""
        self._move(job, Place.IN_FLIGHT)
        self.in_flight[job.key] = job

    def stores(self, job: Job) -> None:
        """Note that a job's file is being stored."""
        self._move(job, Place.STORING)

    def settled(self, job: Job) -> None:
        """Note that nothing is left to do for a job in this try."""
        self._move(job, Place.SETTLED)

    def _move(self, job: Job, to: Place) -> None:
        came_from = self._of.get(job.key)
        if to not in MOVES[came_from]:
            raise AssertionError(f"job {job.key} can't go from {came_from} to {to}")
        self._of[job.key] = to
        self.in_flight.pop(job.key, None)
