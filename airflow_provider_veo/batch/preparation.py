"""
Prepares the jobs of a batch to be sent: images that are uploaded with a request must be fetched first.

All this happens before an intent is on record, and costs nothing. Jobs without such images never wait for those with
them. A job whose images can't be fetched for now is prepared again after a growing pause, after all others. If no image
can be fetched for half an hour, this try gives up the jobs that need one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict, deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from airflow_provider_veo.batch.backoff import PATIENCE_IN_A_WORKER
from airflow_provider_veo.protocol import VeoError, VeoImageError
from airflow_provider_veo.protocol.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.batch.places import Places
    from airflow_provider_veo.hooks.batch import VeoBatchHook
    from airflow_provider_veo.hooks.uploads import Prepared
    from airflow_provider_veo.log import Log

AT_ONCE = 4
"""Maximum jobs that are being prepared, or are prepared and not sent yet: each may hold several images in memory. It is
below the number of the event loop's threads, which also look up the relay's address."""
FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 300.0


class Preparation:
    """
    Jobs to submit, in the order in which they can be sent.

    :param places: the places of all jobs.
    :param hook: prepares requests.
    :param body_of: returns the body to send for a job.
    :param spawn: starts a task of the event loop.
    :param give_up: called with a job that can't be prepared in this try, and the reason.
    :param log: the task's logger.
    :param may_wait: whether a worker waits for a host for longer than a minute.
    :param failing_since: epoch seconds since when no image could be fetched, as seen by another process.
    """

    def __init__(
        self,
        places: Places,
        hook: VeoBatchHook,
        body_of: Callable[[Job], Mapping[str, Any]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        give_up: Callable[[Job, VeoError], None],
        log: Log,
        *,
        may_wait: bool,
        failing_since: float | None,
    ) -> None:
        self.failing_since = failing_since
        """Epoch seconds since when no image could be fetched; ``None``: the last one could."""
        self.tasks: set[asyncio.Task[None]] = set()
        self._places = places
        self._hook = hook
        self._body_of = body_of
        self._spawn = spawn
        self._give_up = give_up
        self._log = log
        self._may_wait = may_wait
        self._failing_here_since: float | None = None
        self._queue: deque[Job] = deque()
        self._paused: list[tuple[float, int, Job]] = []
        """A heap: until when, a serial number, and the job."""
        self._errors: defaultdict[str, list[VeoError]] = defaultdict(list)
        self._ready: deque[tuple[Job, Prepared]] = deque()

    def queue(self, job: Job, *, first: bool = False) -> None:
        """Put a job at the end of those to submit, or with ``first`` back at their start."""
        if "images" in job.body and self._hook.settings.api.create(job.body).files:
            self._places.prepares(job)
            (self._queue.appendleft if first else self._queue.append)(job)
        else:
            self._places.queued(job, first=first)

    def begin(self) -> None:
        """Begin with another job than an earlier process that could fetch nothing."""
        if self.failing_since is not None and self._queue:
            self._queue.rotate(random.randrange(len(self._queue)))  # noqa: S311  no secret

    @property
    def ready(self) -> int:
        """Number of jobs that can be sent at once."""
        return len(self._ready) + len(self._places.queue)

    async def take(self, count: int) -> list[tuple[Job, Prepared]]:
        """Remove and return the next jobs that can be sent: first those with images, which occupy memory."""
        taken = [self._ready.popleft() for _ in range(min(count, len(self._ready)))]
        for job in self._places.next(count - len(taken)):
            try:
                taken.append((job, await self._hook.prepare(self._body_of(job))))
            except VeoError as error:
                self._give_up(job, error)
        return taken

    def start(self, free: int) -> None:
        """
        Begin to prepare the next jobs, or give up all that are left.

        :param free: number of jobs that could be submitted if they were prepared.
        """
        if self._is_out_of_patience:
            self._give_up_all()
        while self._busy < min(AT_ONCE, free) and not self._is_long() and (job := self._next()):
            task = self._spawn(self._prepare(job))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def seconds_to_start(self, free: int) -> float | None:
        """Return the seconds until :meth:`start` may begin something without another event; ``None``: it won't."""
        if self._busy >= min(AT_ONCE, free) or not self._paused:
            return None
        seconds = max(0.0, self._paused[0][0] - time.monotonic())
        return None if self._is_long(seconds) else seconds

    def cancel(self) -> None:
        """Wait for images no longer. Their jobs are still to be submitted."""
        for task in self.tasks:
            task.cancel()

    async def end(self) -> None:
        """Leave the other jobs to a later process."""
        self.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def _busy(self) -> int:
        return len(self.tasks) + len(self._ready)

    @property
    def _is_out_of_patience(self) -> bool:
        """Whether this process, too, fetched nothing, and half an hour has passed since any image could be fetched."""
        since = self.failing_since if self._failing_here_since is not None else None
        return since is not None and time.time() - since > PATIENCE_SECONDS

    def _is_long(self, seconds: float = 0.0) -> bool:
        """Whether no image can be fetched for longer than a worker should wait, if it waits some more seconds."""
        since = None if self._may_wait else self._failing_here_since
        return since is not None and time.monotonic() + seconds - since > PATIENCE_IN_A_WORKER

    def _next(self) -> Job | None:
        if self._queue:
            return self._queue.popleft()
        if self._paused and self._paused[0][0] <= time.monotonic():
            return heappop(self._paused)[-1]
        return None

    async def _prepare(self, job: Job) -> None:
        began = time.monotonic()
        try:
            prepared = await self._hook.prepare(self._body_of(job))
        except VeoImageError as error:
            self._failed(job, error, began)
        except VeoError as error:
            self._give_up(job, error)
        else:
            self.failing_since = self._failing_here_since = None
            self._ready.append((job, prepared))

    def _failed(self, job: Job, error: VeoError, began: float) -> None:
        if self._failing_here_since is None:
            self._log.warning("Job %s (%s) has to wait for its images. %s", job.key, job.source, error)
            self._failing_here_since = began
        self.failing_since = self.failing_since or time.time()
        errors = self._errors[job.key]
        pause = min(FIRST_PAUSE_SECONDS * 2 ** len(errors), _LONGEST_PAUSE_SECONDS)
        errors.append(error)
        heappush(self._paused, (time.monotonic() + pause, id(job), job))

    def _give_up_all(self) -> None:
        last = next(reversed(self._errors.values()))[-1]
        jobs = [*self._queue, *(job for *_, job in self._paused)]
        self._queue.clear()
        self._paused.clear()
        for job in jobs:
            self._give_up(job, self._errors[job.key][-1] if job.key in self._errors else last)
