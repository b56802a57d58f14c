"""Records written in groups: an intent before its request, an acceptance soon after, even if the storage fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

from airflow_provider_veo.journal import batch_journal as batch_journal_module
from airflow_provider_veo.journal import writer as module
from airflow_provider_veo.journal.batch_journal import SupersededError
from airflow_provider_veo.journal.submission import UNSENT
from airflow_provider_veo.journal.writer import LATER, JournalWriter
from airflow_provider_veo.protocol import VeoJournalError
from tests.unit.batch.conftest import accepted, intended, video

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.parametrize("place", ["memory"])]


@pytest.fixture
def written(journal_of_batch):
    """Run something with a writer, close it, and return it."""

    def run(work, *, close=True):
        journal = journal_of_batch()
        journal.begin()

        async def main():
            writer = JournalWriter(journal)
            try:
                await work(writer)
            finally:
                if close:
                    await asyncio.wait_for(writer.close(), 30)
            return writer

        return asyncio.run(main())

    return run


def keys_in(files):
    return {json.loads(line)["key"] for content in files().values() for line in content.splitlines()[1:]}


async def until(happened):
    for _ in range(1000):
        if happened():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def test_an_intent_is_in_a_file_when_it_returns(written, files):
    async def work(writer):
        await writer.intend([intended("a"), intended("b")])
        assert keys_in(files) == {"a", "b"}

    written(work)


def test_concurrent_intents_share_a_write(written, files, storage):
    storage.slow = 0.1

    async def work(writer):
        await asyncio.gather(*(writer.intend([intended(f"k{number}")]) for number in range(200)))
        assert keys_in(files) == {f"k{number}" for number in range(200)}

    written(work)
    assert len(files()) <= 4


def test_a_thousand_notes_make_few_files(written, files, storage, journal_of_batch):
    storage.slow = 0.05

    async def work(writer):
        for number in range(1000):
            writer.note(accepted(f"k{number}", f"veo3:{number}"), 0.01)
            if number % 10 == 0:
                await asyncio.sleep(0.001)

    began = time.monotonic()
    writer = written(work)
    # One write at a time, each with all records that arrived during the previous one.
    assert len(files()) < min(500, 3 + (time.monotonic() - began) / storage.slow)
    assert len(journal_of_batch().begin()) == 1000
    assert writer.lost == []


def test_delayed_note_joins_an_earlier_write(written, files):
    async def work(writer):
        writer.note(accepted("later", "veo3:1"), LATER)
        await asyncio.sleep(0.1)
        assert keys_in(files) == set()
        writer.note(accepted("soon", "veo3:2"), 0.05)
        await until(lambda: keys_in(files) == {"later", "soon"})
        assert len(files()) == 2

    written(work)


def test_intent_write_includes_earlier_notes_in_order(written, journal_of_batch):
    async def work(writer):
        before = intended("cow").not_accepted(UNSENT, VeoJournalError("x"), "1")
        writer.note(before, LATER)
        await writer.intend([intended("cow")])

    written(work)
    assert journal_of_batch().begin()["cow"].state == "intended"


def test_closing_writes_everything(written, journal_of_batch):
    async def work(writer):
        for number in range(50):
            writer.note(accepted(f"k{number}", f"veo3:{number}"), LATER)

    written(work)
    assert len(journal_of_batch().begin()) == 50


def test_record_changed_during_write_is_written_again(written, storage, journal_of_batch):
    storage.slow = 0.2

    async def work(writer):
        record = accepted()
        writer.note(record, 0.0)
        await asyncio.sleep(0.1)
        writer.note(record.ended(video()), LATER)

    written(work)
    assert journal_of_batch().begin()["cow"].state == "succeeded"


def test_a_storage_that_fails_for_a_moment_is_tried_again(written, storage, journal_of_batch):
    async def work(writer):
        storage.fails_once = {"write"}
        await writer.intend([intended()])
        assert storage.fails_once == set()
        assert writer.broken is None

    written(work)
    assert journal_of_batch().begin().keys() == {"cow"}


def test_persistent_storage_failure_stops_all_intents(written, storage):
    async def work(writer):
        storage.fails = {"write"}
        both = await asyncio.gather(
            *(writer.intend([intended(f"k{number}")]) for number in range(2)), return_exceptions=True
        )
        assert all(isinstance(each, VeoJournalError) and "can't write" in str(each) for each in both)
        with pytest.raises(VeoJournalError, match="can't write"):
            await writer.intend([intended()])

    writer = written(work)
    assert "can't write" in str(writer.broken)


def test_unrecorded_acceptances_are_reported_as_lost(written, storage):
    async def work(writer):
        storage.fails = {"write"}
        writer.note(accepted("a", "veo3:1"))
        writer.note(accepted("b", "veo3:2").ended(video("veo3:2")))
        writer.note(intended("c"))

    assert {each.veo_task_id for each in written(work).lost} == {"veo3:1", "veo3:2"}


def test_recorded_acceptance_is_not_reported_as_lost(written, storage):
    async def work(writer):
        record = accepted()
        writer.note(record, 0.0)
        await until(lambda: not writer._notes)
        storage.fails = {"write"}
        writer.note(record.ended(video()), 0.0)

    assert written(work).lost == []


def test_everything_is_written_after_storage_recovers(written, storage, journal_of_batch, monkeypatch):
    monkeypatch.setattr(module, "LATER", 0.05)

    async def work(writer):
        storage.fails = {"write"}
        writer.note(accepted("a", "veo3:1"), 0.0)
        await until(lambda: writer.broken)
        with pytest.raises(VeoJournalError):
            await writer.intend([intended("b")])
        storage.fails = set()
        await until(lambda: not writer.broken)
        await writer.intend([intended("c")])

    assert written(work).lost == []
    assert journal_of_batch().begin().keys() == {"a", "c"}


def test_closing_tries_once_more(written, storage, journal_of_batch):
    async def work(writer):
        storage.fails = {"write"}
        writer.note(accepted("a", "veo3:1"), 0.0)
        await until(lambda: writer.broken)
        storage.fails = set()

    assert written(work).lost == []
    assert journal_of_batch().begin().keys() == {"a"}


def test_superseded_process_records_but_does_not_send(written, journal_of_batch):
    async def work(writer):
        known = intended("known")
        await writer.intend([known])
        journal_of_batch().begin()
        for key in "late", "later":
            with pytest.raises(SupersededError):
                await writer.intend([intended(key)])
        assert writer.superseded
        assert writer.broken is None
        writer.note(known.accepted_video(video("veo3:7")), LATER)

    written(work)
    found = journal_of_batch().begin()
    assert found["known"].veo_task_id == "veo3:7"
    assert "later" not in found


def intend_and_freeze(writer, meanwhile):
    """Intend, and freeze this process while the intent is written and for a while after; others act meanwhile."""

    def freeze():
        time.sleep(1.3)
        meanwhile()

    intending = asyncio.ensure_future(writer.intend([intended("a")]))
    asyncio.get_running_loop().call_later(0.05, freeze)
    return intending


@pytest.mark.parametrize("others", [0, 1])
def test_frozen_process_checks_again_before_sending(written, storage, journal_of_batch, monkeypatch, others):
    monkeypatch.setattr(batch_journal_module, "FRESH_SECONDS", 0.3)
    storage.slow = 0.5

    async def work(writer):
        intending = intend_and_freeze(writer, lambda: [journal_of_batch().begin() for _ in range(others)])
        with pytest.raises(SupersededError, match="sends nothing more") if others else contextlib.nullcontext():
            await intending
        assert bool(writer.superseded) == bool(others)

    written(work)


def test_waiting_callers_get_any_error(written):
    async def work(writer):
        with pytest.raises(VeoJournalError, match="AttributeError"):
            await asyncio.wait_for(writer.intend([None]), 5)

    written(work)
