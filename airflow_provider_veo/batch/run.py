"""Runs an :class:`~airflow_provider_veo.batch.engine.Engine` in this process, whatever happens to it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.batch.engine import MAX_GROUP, Engine
from airflow_provider_veo.batch.entry import ACCEPTED
from airflow_provider_veo.batch.progress import SECONDS_BETWEEN, Progress
from airflow_provider_veo.batch.scribe import Scribe
from airflow_provider_veo.hooks.batch import VeoBatchHook
from airflow_provider_veo.pace import Pace
from airflow_provider_veo.protocol import VeoJournalRecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from logging import Logger

    from airflow_provider_veo.batch.budget import Budget
    from airflow_provider_veo.batch.entry import Entry
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.batch.ledger import Ledger
    from airflow_provider_veo.batch.options import Options
    from airflow_provider_veo.hooks import VeoHook


class Run:
    """
    One worker process's work on a batch. Used once.

    :param jobs: all of them, in their order.
    :param entries: what is on record of them, by key. It is kept up to date.
    :param options: how to go about it.
    :param hook: reads the connection.
    :param ledger: keeps the records.
    :param budget: what may be spent.
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
        store: Callable[[Job, Entry], Mapping[str, Any]],
        publish: Callable[[Progress], None],
        log: Logger,
    ) -> None:
        self._total = len(jobs)
        self.told_at = 0.0
        """When it was told how far it is, in epoch seconds; it may have been another process."""
        self._publish = publish
        self._log = log
        self._loop = asyncio.new_event_loop()
        self._scribe = Scribe(ledger)
        self._hook = VeoBatchHook(hook, 2 * MAX_GROUP)
        self.pace = Pace(options.requests_per_minute)
        """The pace of all requests."""
        self.engine = Engine(
            jobs,
            entries,
            options,
            hook=self._hook,
            scribe=self._scribe,
            pace=self.pace,
            budget=budget,
            store=store,
            log=log,
        )

    @property
    def progress(self) -> Progress:
        """How far it is."""
        engine = self.engine
        return Progress.of(self._total, engine.entries.values(), len(engine.in_flight), len(engine.queue))

    @property
    def waiting(self) -> list[Entry]:
        """What is on record of the videos that are being generated."""
        return [self.engine.entries[key] for key in self.engine.in_flight]

    def tell(self) -> None:
        """Tell how far it is, unless that was told a moment ago."""
        if time.time() >= self.told_at + SECONDS_BETWEEN:
            self._publish(self.progress)
            self.told_at = time.time()

    def go(self, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Work until there is nothing to do in this process.

        Whatever ends it, a signal too: what was sent is answered before, and on record.

        :param outcomes: what a trigger has seen, by id.
        :raises VeoJournalRecordError: something was accepted and could not be recorded; it names the ids.
        :raises VeoError: the work can't go on.
        """
        run = self._loop.run_until_complete
        try:
            try:
                run(self._work(outcomes))
            except BaseException:
                run(self.engine.settle())
                raise
            finally:
                run(self._end())
                self._fail_for_what_is_not_on_record()
        finally:
            self._loop.close()

    def kill(self, error: BaseException) -> None:
        """End the work, from a signal's handler: :meth:`go` raises this."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.engine.kill, error)

    async def _work(self, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
        self.engine.begin(outcomes)
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
        lost = [entry for entry in self._scribe.unwritten if entry.state == ACCEPTED]
        if lost:
            ids = "\n".join(f"  - job {entry.key}: video {entry.veo_task_id}" for entry in lost)
            raise VeoJournalRecordError(
                f"{len(lost)} videos were accepted by the relay, and are billed, but could not be recorded: "
                f"{self._scribe.broken}\n{ids}\nGive these jobs their ids as existing_veo_task_id, and clear this task."
            )
