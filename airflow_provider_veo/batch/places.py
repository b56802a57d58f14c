"""
The place of each job of a batch: exactly one of six.

=============  ==========================================  =====================================================
place          entered when                                left when
=============  ==========================================  =====================================================
``QUEUED``     not submitted yet; refused for now;         its intent is on record: *in flight*; the budget is
               failed, and another attempt is allowed      exhausted: *settled*
``PREPARING``  as *queued*, if images have to be fetched   its intent is on record: *in flight*; its images can't be
               and uploaded with its request               used, or the budget is exhausted: *settled*
``IN_FLIGHT``  its intent is on record                     its video is ready: *storing*, or *settled* if no
                                                           files are stored; not accepted, or failed: *queued*,
                                                           *preparing* or *settled*; blocked: as failed, or
                                                           *rewording*; given up: *settled*
``REWORDING``  its video was blocked, and ``on_blocked``   there is another prompt: *queued* or *preparing*; there
               may return another prompt                   is none: *settled*
``STORING``    its video is ready                          its file is stored, or could not be: *settled*
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
    PREPARING = auto()
    IN_FLIGHT = auto()
    REWORDING = auto()
    STORING = auto()
    SETTLED = auto()


MOVES = {
    None: set(Place),
    Place.QUEUED: {Place.IN_FLIGHT, Place.SETTLED},
    Place.PREPARING: {Place.IN_FLIGHT, Place.SETTLED},
    Place.IN_FLIGHT: {Place.QUEUED, Place.PREPARING, Place.REWORDING, Place.STORING, Place.SETTLED},
    Place.REWORDING: {Place.QUEUED, Place.PREPARING, Place.SETTLED},
    Place.STORING: {Place.SETTLED},
    Place.SETTLED: set(),
}
"""Allowed moves from each place; ``None``: not in a place yet."""


class Places:
    """The places of a batch's jobs."""

    def __init__(self) -> None:
        self.queue: deque[Job] = deque()
        """Jobs to submit, the next one first."""
        self.preparing: dict[str, Job] = {}
        """Jobs to submit with images, by key."""
        self.in_flight: dict[str, Job] = {}
        """Jobs that are being submitted or generated, by key."""
        self.rewording: set[str] = set()
        """Keys of the jobs that get another prompt."""
        self._of: dict[str, Place] = {}

    def __getitem__(self, key: str) -> Place | None:
        return self._of.get(key)

    @property
    def to_submit(self) -> set[str]:
        """Keys of all jobs to submit, or that will be if they get another prompt."""
        return {job.key for job in self.queue} | self.preparing.keys() | self.rewording

    def queued(self, job: Job, *, first: bool = False) -> None:
        """Put a job at the end of the queue, or with ``first`` back at its start."""
        self._move(job, Place.QUEUED)
        (self.queue.appendleft if first else self.queue.append)(job)

    def next(self, count: int) -> list[Job]:
        """Take the next jobs out of the queue, to pass to :meth:`flies` or :meth:`settled`."""
        return [self.queue.popleft() for _ in range(min(count, len(self.queue)))]

    def prepares(self, job: Job) -> None:
        """Note that a job's images have to be fetched before it can be submitted."""
        self._move(job, Place.PREPARING)
        self.preparing[job.key] = job

    def flies(self, job: Job) -> None:
        """Note that a job's intent is on record, or its video is being generated."""
        self._move(job, Place.IN_FLIGHT)
        self.in_flight[job.key] = job

    def rewords(self, job: Job) -> None:
        """Note that a job may get another prompt."""
        self._move(job, Place.REWORDING)
        self.rewording.add(job.key)

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
        self.preparing.pop(job.key, None)
        self.rewording.discard(job.key)
