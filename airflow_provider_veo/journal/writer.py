"""Writes the records of a batch's jobs in groups, one write at a time."""

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
"""Seconds until an acceptance is written. Acceptances that arrive within this time share one write."""
LATER = 5.0
"""Seconds until something is written that can be polled from the relay again at no cost."""
_CLOSING_SECONDS = 0.01


class JournalWriter:
    """
    Writes to a :class:`~airflow_provider_veo.journal.batch_journal.BatchJournal` while an event loop runs.

    Records that arrive while a group is being written form the next group. A group that can't be written is retried
    until the writer is closed, and again at that point, because storages recover.

    :param journal: the journal to write to.
    :param records: the records that it already holds.
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
        """Why the last write failed. Until one succeeds, nothing may be sent."""
        self.superseded: VeoJournalError | None = None
        """Why this process may not send anything again."""

    async def intend(self, records: Sequence[Submission]) -> None:
        """
        Record the intents. They may be sent only after this returns.

        :raises VeoJournalError: they could not be recorded, or a newer process has taken over.
        """
        if error := self.broken or self.superseded:
            raise error
        self._intents += records
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        written = self._written
        self._want(0.0)
        await asyncio.shield(written)
        if not self._journal.is_fresh:  # this process was frozen in the meantime, or the storage is slow
            await asyncio.get_running_loop().run_in_executor(self._thread, self._check_newest)

    def note(self, record: Submission, within: float = SOON) -> None:
        """
        Record a change.

        :param within: seconds until it is written at the latest. An earlier write includes it.
        """
        self._notes[record.token] = record
        self._want(within)

    @property
    def may_send(self) -> bool:
        """Whether recorded intents may still be sent: writing works, and a moment ago there was no newer process."""
        return self.broken is None and self.superseded is None and self._journal.is_recent

    async def close(self) -> None:
        """Write what is left, if possible, and stop."""
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
        """Accepted submissions whose ids are not on record."""
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
            self.superseded = error  # the group was written, but nothing may be sent
            self._settle(notes, written, error)
        except Exception as error:  # of any kind: callers that wait for the write must get it
            self._fail(error, written)
        else:
            self._settle(notes, written)
        finally:
            self._is_writing = False

    def _check_newest(self) -> None:
        if not self._journal.is_fresh:  # unless another group has checked in the meantime
            try:
                persistently(self._journal.give_way_to_the_newer, (SupersededError,))
            except SupersededError as error:
                self.superseded = error
                raise

    def _fail(self, error: Exception, written: asyncio.Future[None] | None) -> None:
        if not isinstance(error, VeoJournalError):
            error = VeoJournalError(f"The records could not be written: {type(error).__name__}: {error}")
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
        # Records that changed in the meantime stay for the next group.
        self._notes = {token: record for token, record in self._notes.items() if notes.get(token) is not record}
        if written and error:
            written.set_exception(error)
        elif written:
            written.set_result(None)
