"""
Runs an :class:`~airflow_provider_veo.batch.engine.Engine` in this process, and ends it without losing an answer.

A signal (Airflow's kill, its ``execution_timeout``) ends the work between two steps of the event loop. An exception
raised inside a step could replace an answer that was just read, and its id would be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.batch.backoff import RelayBackoff
from airflow_provider_veo.batch.engine import Engine
from airflow_provider_veo.batch.progress import SECONDS_BETWEEN, Progress
from airflow_provider_veo.batch.slots import CREATES_AT_ONCE
from airflow_provider_veo.hooks.batch import VeoBatchHook
from airflow_provider_veo.journal.signals import intercepted
from airflow_provider_veo.journal.writer import JournalWriter
from airflow_provider_veo.polling.poller import POLLS_AT_ONCE
from airflow_provider_veo.polling.rate_limiter import RateLimiter
from airflow_provider_veo.protocol import VeoJournalRecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_provider_veo.batch.budget import Budget
    from airflow_provider_veo.batch.checkpoint import BatchCheckpoint
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.batch.options import Options
    from airflow_provider_veo.hooks import VeoHook
    from airflow_provider_veo.journal.batch_journal import BatchJournal
    from airflow_provider_veo.journal.submission import Submission
    from airflow_provider_veo.log import Log
    from airflow_provider_veo.metrics import TaskMetrics


TRIGGER_BYTES = 42_000
"""MySQL stores up to 64 KiB of a trigger's arguments; encryption turns three bytes into four."""
_BYTES_BESIDE_AN_ID = 24
PAUSE_SECONDS = 300.0
"""How long nothing is submitted after the relay has refused everything for a while."""


@dataclass(frozen=True)
class Remaining:
    """
    The work that one process leaves for later, determined once, at its end.

    :param in_flight: number of videos being generated.
    :param has_more: whether there are jobs left to submit in this try.
    :param wake_at: epoch seconds at which to continue in any case: until then, the relay accepts nothing.
    """

    in_flight: int
    has_more: bool
    wake_at: float | None = None

    def __bool__(self) -> bool:
        return bool(self.in_flight or self.has_more)


class Run:
    """
    One worker process's work on a batch. Used once.

    :param jobs: all jobs, in their order.
    :param records: the records by job key. Kept up to date.
    :param options: the options of the batch.
    :param hook: reads the connection.
    :param journal: stores the records.
    :param budget: limits the cost.
    :param checkpoint: the state that an earlier process of this try has left.
    :param store: stores the file of a job, in a thread.
    :param reword: returns another prompt for a job whose video was blocked, in a thread.
    :param publish: called with the progress from time to time.
    :param metrics: the task's.
    :param log: the task's logger.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        records: dict[str, Submission],
        options: Options,
        *,
        hook: VeoHook,
        journal: BatchJournal,
        budget: Budget,
        checkpoint: BatchCheckpoint,
        store: Callable[[Job, Submission], Mapping[str, Any]],
        reword: Callable[[Job, Submission], str],
        publish: Callable[[Progress], None],
        metrics: TaskMetrics,
        log: Log,
    ) -> None:
        self._options = options
        self._jobs = {job.key: job for job in jobs}
        self._checkpoint = checkpoint
        self.reported_at = checkpoint.told_at
        """When progress was last reported, in epoch seconds, possibly by another process."""
        self._publish = publish
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signalled: list[Callable[[], Any]] = []
        self._writer = JournalWriter(journal, records.values())
        # A create never waits for a socket: a recorded intent is sent at once.
        self._hook = VeoBatchHook(hook, POLLS_AT_ONCE + CREATES_AT_ONCE)
        self.limiter = RateLimiter(options.requests_per_minute)
        """Limits all requests."""
        self.limiter.hold(checkpoint.held_until)
        self.backoff = RelayBackoff(self.limiter, checkpoint.refused_since, checkpoint.faults)
        """Decides from the relay's answers how many creates may be sent."""
        self.engine = Engine(
            jobs,
            records,
            options,
            hook=self._hook,
            writer=self._writer,
            limiter=self.limiter,
            backoff=self.backoff,
            budget=budget,
            store=store,
            reword=reword,
            metrics=metrics,
            log=log,
            images_failing_since=checkpoint.images_failing_since,
        )

    @property
    def progress(self) -> Progress:
        """The current progress."""
        engine = self.engine
        # Records of jobs that are no longer in the input are not counted.
        records = {key: engine.records[key] for key in self._jobs.keys() & engine.records.keys()}
        generating, to_submit = set(engine.places.in_flight), engine.places.to_submit
        began, ended_before = self._checkpoint.since, self._checkpoint.ended_before
        return Progress.of(len(self._jobs), records, generating, to_submit, began, ended_before)

    @property
    def checkpoint(self) -> BatchCheckpoint:
        """What the next process of this try needs in addition to the records."""
        return replace(
            self._checkpoint,
            told_at=self.reported_at,
            held_until=self.backoff.held_until,
            refused_since=self.backoff.refused_since,
            images_failing_since=self.engine.preparation.failing_since,
            faults=self.backoff.faults,
        )

    @property
    def watched(self) -> dict[str, float]:
        """
        Submission times of the videos being generated, by id: as many as a trigger can hold, the oldest first.

        The others follow when some of these have ended.
        """
        records = sorted(
            (self.engine.records[key] for key in self.engine.places.in_flight), key=lambda each: each.submitted
        )
        watched: dict[str, float] = {}
        room = TRIGGER_BYTES
        for record in records:
            room -= len(str(record.veo_task_id)) + _BYTES_BESIDE_AN_ID
            if room < 0:
                break
            watched[str(record.veo_task_id)] = record.submitted
        return watched

    def report(self, *, at_once: bool = False) -> None:
        """
        Publish the progress, unless that was done a moment ago.

        :param at_once: publish it in any case.
        """
        if not at_once and time.time() < self.reported_at + SECONDS_BETWEEN:
            return
        self.reported_at = time.time()
        try:
            self._publish(self.progress)
        except Exception as error:  # must not end a batch of billed videos
            self._log.warning("The progress could not be reported: %s: %s", type(error).__name__, error)

    def go(self, outcomes: Mapping[str, Mapping[str, Any]]) -> Remaining:
        """
        Work until there is nothing left to do in this process, and return what remains.

        Whatever ends it, even a signal: the answers to all sent creates are awaited and recorded first.

        :param outcomes: what a trigger has seen, by id.
        :raises VeoJournalRecordError: accepted videos could not be recorded; the error lists their ids.
        :raises VeoError: the work can't continue.
        """
        with self._signals_between_steps(), contextlib.closing(asyncio.new_event_loop()) as self._loop:
            run = self._loop.run_until_complete
            try:
                run(self._work(outcomes))
            except BaseException:
                run(self.engine.settle())
                raise
            finally:
                run(self._end())
                self._fail_for_what_is_not_on_record()
        if self.engine.killed:  # after the work had ended
            raise self.engine.killed
        return self._remaining()

    def _remaining(self) -> Remaining:
        in_flight, has_more = len(self.engine.places.in_flight), self.engine.has_more
        # Jobs are left although there is room: the relay accepts nothing for a while, or no image can be fetched.
        is_paused = has_more and in_flight < self._options.max_in_flight
        wake_at = (self.backoff.held_until or time.time() + PAUSE_SECONDS) if is_paused else None
        return Remaining(in_flight, has_more, wake_at)

    def kill(self, error: BaseException) -> None:
        """End the work, from a signal handler: :meth:`go` raises the error."""
        self._soon(self.engine.kill, error)

    @contextlib.contextmanager
    def _signals_between_steps(self) -> Iterator[None]:
        def note(act: Callable[[], None]) -> None:
            self._signalled.append(act)
            self._soon(self._heed)

        try:
            with intercepted(note):
                yield
        finally:
            self._heed()

    def _soon(self, do: Callable[..., None], *args: Any) -> None:
        """Call something between two steps of the event loop, from a signal handler."""
        if self._loop is None or self._loop.is_closed():
            do(*args)
        else:
            self._loop.call_soon_threadsafe(do, *args)

    def _heed(self) -> None:
        """Run the actions of received signals. An exception that one raises ends the work."""
        while self._signalled:
            try:
                self._signalled.pop(0)()
            except BaseException as error:
                self.engine.kill(error)

    async def _work(self, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
        self.engine.begin(outcomes)
        if self._checkpoint.since is None:
            before = self.progress
            self._checkpoint = replace(self._checkpoint, since=time.time(), ended_before=before.done + before.failed)
        reporting = asyncio.ensure_future(self._report())
        try:
            await self.engine.run()
        finally:
            reporting.cancel()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self.reported_at + SECONDS_BETWEEN - time.time()))
            self.report()

    async def _end(self) -> None:
        self.engine.close()
        await self._writer.close()
        await self._hook.close()
        await self.engine.counting.end()

    def _fail_for_what_is_not_on_record(self) -> None:
        lost = [each for each in self._writer.lost if self._jobs[each.key].existing_veo_task_id != each.veo_task_id]
        if lost:
            ids = "\n".join(f"  - job {record.key}: video {record.veo_task_id}" for record in lost)
            raise VeoJournalRecordError(
                f"{len(lost)} videos were accepted by the relay and are billed, but could not be recorded: "
                f"{self._writer.broken}\n{ids}\nGive these jobs their ids as existing_veo_task_id, and clear this task."
            )
