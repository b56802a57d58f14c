"""
Runs an :class:`~airflow_provider_veo.batch.engine.Engine` in this process, whatever happens to it.

A signal (Airflow's kill, its ``execution_timeout``) ends the work between two steps of the event loop. Raised inside
one, it could take the place of an answer that was just read: an id that nobody would ever know.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.asking import AT_ONCE
from airflow_provider_veo.batch.backoff import RelayBackoff
from airflow_provider_veo.batch.engine import Engine
from airflow_provider_veo.batch.progress import SECONDS_BETWEEN, Progress
from airflow_provider_veo.batch.scribe import Scribe
from airflow_provider_veo.batch.slots import CREATES_AT_ONCE
from airflow_provider_veo.hooks.batch import VeoBatchHook
from airflow_provider_veo.pace import Pace
from airflow_provider_veo.protocol import VeoJournalRecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from logging import Logger

    from airflow_provider_veo.batch.budget import Budget
    from airflow_provider_veo.batch.checkpoint import BatchCheckpoint
    from airflow_provider_veo.batch.entry import Entry
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.batch.ledger import Ledger
    from airflow_provider_veo.batch.options import Options
    from airflow_provider_veo.hooks import VeoHook


TRIGGER_BYTES = 42_000
"""MySQL keeps 64 KiB of a trigger's arguments, which are encrypted: four bytes for each three."""
_BYTES_BESIDE_AN_ID = 24
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


class Run:
    """
    One worker process's work on a batch. Used once.

    :param jobs: all of them, in their order.
    :param entries: what is on record of them, by key. It is kept up to date.
    :param options: how to go about it.
    :param hook: reads the connection.
    :param ledger: keeps the records.
    :param budget: what may be spent.
    :param checkpoint: what an earlier process of this try has left.
    :param store: stores the file of a job, in a thread.
    :param publish: is told every now and then how far it is.
    :param log: the task's.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        entries: dict[str, Entry],
        options: Options,
        *,
        hook: VeoHook,
        ledger: Ledger,
        budget: Budget,
        checkpoint: BatchCheckpoint,
        store: Callable[[Job, Entry], Mapping[str, Any]],
        publish: Callable[[Progress], None],
        log: Logger,
    ) -> None:
        self._jobs = {job.key: job for job in jobs}
        self._checkpoint = checkpoint
        self.told_at = checkpoint.told_at
        """When it was told how far it is, in epoch seconds; it may have been another process."""
        self._publish = publish
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signalled: list[Callable[[], Any]] = []
        self._scribe = Scribe(ledger, entries.values())
        # A create never waits for a socket: what is on record is sent at once.
        self._hook = VeoBatchHook(hook, AT_ONCE + CREATES_AT_ONCE)
        self.pace = Pace(options.requests_per_minute)
        """The pace of all requests."""
        self.pace.hold(checkpoint.held_until)
        self.backoff = RelayBackoff(self.pace, checkpoint.refused_since, checkpoint.faults)
        """What the relay's answers say about sending more."""
        self.engine = Engine(
            jobs,
            entries,
            options,
            hook=self._hook,
            scribe=self._scribe,
            pace=self.pace,
            backoff=self.backoff,
            budget=budget,
            store=store,
            log=log,
        )

    @property
    def progress(self) -> Progress:
        """How far it is."""
        engine = self.engine
        # What is on record of jobs that are no longer asked for is not counted.
        entries = {key: engine.entries[key] for key in self._jobs.keys() & engine.entries.keys()}
        generating, to_submit = set(engine.in_flight), {job.key for job in engine.queue}
        began, ended_before = self._checkpoint.since, self._checkpoint.ended_before
        return Progress.of(len(self._jobs), entries, generating, to_submit, began, ended_before)

    @property
    def checkpoint(self) -> BatchCheckpoint:
        """What the next process of this try has to know beside what is on record."""
        return replace(
            self._checkpoint,
            told_at=self.told_at,
            held_until=self.backoff.held_until,
            refused_since=self.backoff.refused_since,
            faults=self.backoff.faults,
        )

    @property
    def watched(self) -> dict[str, float]:
        """
        When the videos that are being generated were submitted, by id: as many as a trigger can hold, the oldest first.

        The others' turn comes when some of these have ended.
        """
        entries = sorted((self.engine.entries[key] for key in self.engine.in_flight), key=lambda each: each.submitted)
        watched: dict[str, float] = {}
        room = TRIGGER_BYTES
        for entry in entries:
            room -= len(str(entry.veo_task_id)) + _BYTES_BESIDE_AN_ID
            if room < 0:
                break
            watched[str(entry.veo_task_id)] = entry.submitted
        return watched

    def tell(self, *, at_once: bool = False) -> None:
        """
        Tell how far it is, unless that was told a moment ago.

        :param at_once: tell it in any case.
        """
        if not at_once and time.time() < self.told_at + SECONDS_BETWEEN:
            return
        self.told_at = time.time()
        try:
            self._publish(self.progress)
        except Exception as error:  # nothing that a night of paid videos may end for
            self._log.warning("How far the batch is could not be told: %s: %s", type(error).__name__, error)

    def go(self, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Work until there is nothing to do in this process.

        Whatever ends it, a signal too: what was sent is answered before, and on record.

        :param outcomes: what a trigger has seen, by id.
        :raises VeoJournalRecordError: something was accepted and could not be recorded; it names the ids.
        :raises VeoError: the work can't go on.
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
        if self.engine.killed:  # when all was done already
            raise self.engine.killed

    def kill(self, error: BaseException) -> None:
        """End the work, from a signal's handler: :meth:`go` raises this."""
        self._soon(self.engine.kill, error)

    @contextlib.contextmanager
    def _signals_between_steps(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # no signal ever gets here
            return
        handlers = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}

        def note(number: int, frame: Any) -> None:
            self._signalled.append(lambda: handlers[signal.Signals(number)](number, None))
            self._soon(self._heed)

        for number in handlers:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._heed()

    def _soon(self, do: Callable[..., None], *args: Any) -> None:
        """Do something between two steps of the event loop, from a signal's handler."""
        if self._loop is None or self._loop.is_closed():
            do(*args)
        else:
            self._loop.call_soon_threadsafe(do, *args)

    def _heed(self) -> None:
        """Do what signals that came are for; what that raises ends the work."""
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
        telling = asyncio.ensure_future(self._tell())
        try:
            await self.engine.run()
        finally:
            telling.cancel()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self.told_at + SECONDS_BETWEEN - time.time()))
            self.tell()

    async def _end(self) -> None:
        self.engine.close()
        await self._scribe.close()
        await self._hook.close()

    def _fail_for_what_is_not_on_record(self) -> None:
        lost = [each for each in self._scribe.lost if self._jobs[each.key].existing_veo_task_id != each.veo_task_id]
        if lost:
            ids = "\n".join(f"  - job {entry.key}: video {entry.veo_task_id}" for entry in lost)
            raise VeoJournalRecordError(
                f"{len(lost)} videos were accepted by the relay, and are billed, but could not be recorded: "
                f"{self._scribe.broken}\n{ids}\nGive these jobs their ids as existing_veo_task_id, and clear this task."
            )
