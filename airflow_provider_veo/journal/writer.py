"""Writes down what happens to the jobs of a batch: many records at a time, one write after the other."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_veo.journal import persistently
from airflow_provider_veo.journal.batch_journal import SupersededError
from airflow_provider_veo.protocol import VeoJournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_veo.journal.batch_journal import BatchJournal
    from airflow_provider_veo.journal.submission import Submission

SOON = 0.25
"""Seconds in which an acceptance is on record: those that come together are written together."""
LATER = 5.0
"""The same for what the relay can be asked for again, at no cost."""
_CLOSING_SECONDS = 0.01


class JournalWriter:
    """
    The one who writes in a :class:`~airflow_provider_veo.journal.batch_journal.BatchJournal` while an event loop runs.

    All that has come while a group was being written is the next group.

    A group that can't be written is tried again as long as it works, and once more at its end: storages recover.

    :param journal: where to.
    :param records: what is on record already.
    """

    def __init__(self, journal: BatchJournal, records: Iterable[Submission] = ()) -> None:
        self._journal = journal
        self._with_ids = {record.token for record in records if record.veo_task_id}
        self._notes: dict[str, Submission] = {}
        self._intents: list[Submission] = []
        self._written: asyncio.Future[None] | None = None
        self._due: float | None = None
        self._wanted = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="veo-journal")
        self._writing: asyncio.Task[None] | None = None
        self._failures = 0
        self._is_writing = False
        self.broken: VeoJournalError | None = None
        """Why nothing could be written at last. Nothing may be sent then."""
        self.superseded: VeoJournalError | None = None
        """Why nothing may be sent any more."""

    async def intend(self, records: Sequence[Submission]) -> None:
        """
        Record what is about to be sent. Only who returns from here may send it.

        :raises VeoJournalError: it could not be recorded, or a newer process is at it.
        """
        if error := self.broken or self.superseded:
            raise error
        self._intents += records
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        written = self._written
        self._want(0.0)
        await asyncio.shield(written)
        if not self._journal.is_fresh:  # this process was frozen meanwhile, or the storage is slow
            await asyncio.get_running_loop().run_in_executor(self._thread, self._make_sure)

    def note(self, record: Submission, within: float = SOON) -> None:
        """
        Record what has happened.

        :param within: seconds. An earlier write takes it along.
        """
        self._notes[record.token] = record
        self._want(within)

    @property
    def may_send(self) -> bool:
        """Whether what is on record may still be sent: it was written, and a moment ago there was no newer process."""
        return self.broken is None and self.superseded is None and self._journal.is_recent

    async def close(self) -> None:
        """Write what is left, if it can be written, and end."""
        while self._is_writing:
            await asyncio.sleep(_CLOSING_SECONDS)
        failures = self._failures
        while self._notes and self._failures == failures:
            self._want(0.0)
            await asyncio.sleep(_CLOSING_SECONDS)
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        self._thread.shutdown(wait=True)

    @property
    def lost(self) -> list[Submission]:
        """What was accepted, and whose id is not on record."""
        return [record for record in self._notes.values() if record.veo_task_id and record.token not in self._with_ids]

    def _want(self, within: float) -> None:
        due = asyncio.get_running_loop().time() + within
        self._due = due if self._due is None else min(self._due, due)
        self._wanted.set()
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write_all())

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._due is not None and (seconds := self._due - loop.time()) > 0:
                try:
                    await asyncio.wait_for(self._wanted.wait(), seconds)
                    self._wanted.clear()
                except asyncio.TimeoutError:
                    break
            await self._write_group(loop)

    async def _write_group(self, loop: asyncio.AbstractEventLoop) -> None:
        notes, intents, written = dict(self._notes), self._intents, self._written
        self._due, self._written, self._intents = None, None, []
        if not notes and not intents:
            return
        group = [*notes.values(), *intents]
        write = self._journal.intend if intents else self._journal.write
        self._is_writing = True
        try:
            await loop.run_in_executor(self._thread, persistently, lambda: write(group), (SupersededError,))
        except SupersededError as error:
            self.superseded = error  # it was written, only nothing may be sent
            self._settle(notes, written, error)
        except Exception as error:  # whatever it is: who waits for it must hear of it
            self._fail(error, written)
        else:
            self._settle(notes, written)
        finally:
            self._is_writing = False

    def _make_sure(self) -> None:
        if not self._journal.is_fresh:  # another group's has not made sure meanwhile
            try:
                persistently(self._journal.give_way_to_the_newer, (SupersededError,))
            except SupersededError as error:
                self.superseded = error
                raise

    def _fail(self, error: Exception, written: asyncio.Future[None] | None) -> None:
        if not isinstance(error, VeoJournalError):
            error = VeoJournalError(f"Nothing could be recorded: {type(error).__name__}: {error}")
        self.broken = error
        self._failures += 1
        if written:
            written.set_exception(error)
        self._want(LATER)

    def _settle(
        self, notes: dict[str, Submission], written: asyncio.Future[None] | None, error: VeoJournalError | None = None
    ) -> None:
        self.broken = None
        self._with_ids.update(record.token for record in notes.values() if record.veo_task_id)
        # What has changed meanwhile stays for the next group.
        self._notes = {token: record for token, record in self._notes.items() if notes.get(token) is not record}
        if written and error:
            written.set_exception(error)
        elif written:
            written.set_result(None)
