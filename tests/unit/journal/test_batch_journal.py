"""The journal of a batch, with many processes and in any storage."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
import time
from decimal import Decimal

import pytest

from airflow_provider_veo.batch.jobs import Job
from airflow_provider_veo.journal import batch_journal as module
from airflow_provider_veo.journal.batch_journal import FORMAT, MAX_FILES, SupersededError
from airflow_provider_veo.protocol import VeoJournalError, VeoJournalRecordError
from tests.unit.batch.conftest import OWNER, PLACES, accepted, at_once, intended, video

everywhere = pytest.mark.parametrize("place", PLACES)
in_memory = pytest.mark.parametrize("place", ["memory"])


@everywhere
def test_what_was_written_is_found_by_the_next_process(journal_of_batch):
    first = journal_of_batch()
    assert first.begin() == {}
    intents = [intended(f"k{index}") for index in range(3)]
    first.intend(intents)
    first.write([intents[0].accepted_video(video())])
    found = journal_of_batch().begin()
    assert list(found) == ["k0", "k1", "k2"]
    assert [each.state for each in found.values()] == ["accepted", "intended", "intended"]
    assert found["k1"] == intents[1]


@everywhere
def test_a_file_beside_the_records_is_found_by_the_next_process(journal_of_batch):
    assert journal_of_batch().load("jobs", dict) is None
    older, newer = journal_of_batch(), journal_of_batch()
    for journal in (older, newer):
        journal.begin()
    newer.save("jobs", [{"input": "y"}, {"prompt": "牛"}], 2)
    older.save("jobs", [{"input": "x"}, {"prompt": "牛"}], 2)
    head, lines = journal_of_batch().load("jobs", dict)
    assert (head, list(lines)) == ({"input": "y"}, [{"prompt": "牛"}])
    assert journal_of_batch().begin() == {}


@everywhere
def test_newer_process_supersedes_older_before_sending(journal_of_batch):
    older, newer = journal_of_batch(), journal_of_batch()
    older.begin()
    known = intended("known")
    older.intend([known])
    assert newer.begin().keys() == {"known"}
    with pytest.raises(SupersededError, match="This one sends nothing more") as caught:
        older.intend([intended("late")])
    assert not caught.value.final
    newer.intend([intended("own")])
    # What the older one has learned of what it had sent before is recorded, and believed.
    older.write([known.accepted_video(video("veo3:7"))])
    found = journal_of_batch().begin()
    assert found["known"].veo_task_id == "veo3:7"
    assert found.keys() == {"known", "late", "own"}


def test_older_process_does_not_undo_newer_state(journal_of_batch):
    older, newer = journal_of_batch(), journal_of_batch()
    older.begin()
    known = intended().accepted_video(video("veo3:7", "running"))
    older.write([known])
    newer.begin()
    newer.write([known.ended(video("veo3:7"))])
    older.write([known])
    assert journal_of_batch().begin()["cow"].state == "succeeded"


def test_older_process_does_not_undo_newer_submission(journal_of_batch):
    older, newer = journal_of_batch(), journal_of_batch()
    older.begin()
    failed = accepted().ended(video(state="failed"))
    older.write([failed])
    again = intended(before=newer.begin()["cow"])
    newer.intend([again])
    older.write([failed])
    assert journal_of_batch().begin()["cow"] == again


@pytest.mark.slow
@pytest.mark.parametrize(("place", "rounds"), [("file", 80), ("memory", 120), ("s3", 6)])
def test_concurrent_processes_send_nothing_unseen(journal_of_batch, folder, rounds):
    """
    The promise of the whole journal. A process that returns from ``intend`` sends, so of two of them one saw the other.

    All journals of a round belong to one task instance; its folder is emptied after each round.
    """
    count = 3
    for number in range(rounds):
        chance = random.Random(number)
        pauses = [chance.random() * 0.004 for _ in range(2 * count)]
        sent = []

        def work(index, pauses=pauses, sent=sent):
            time.sleep(pauses[index])
            journal = journal_of_batch()
            seen = journal.begin()
            time.sleep(pauses[count + index])
            if "cow" in seen:
                return "saw it"
            intent = intended()
            journal.intend([intent])
            sent.append(intent.token)
            return "sent it"

        outcomes = at_once(count, work)
        assert all(each in ("saw it", "sent it") or isinstance(each, SupersededError) for each in outcomes), outcomes
        assert len(sent) <= 1, number
        # A later process knows what was sent.
        held = journal_of_batch().begin()
        if sent:
            assert held["cow"].token == sent[0]
        folder.fs.rm(folder.path, recursive=True)


def test_many_sending_processes_see_earlier_submissions(journal_of_batch):
    """The same with many jobs: a process sends what is not on record until it is superseded."""
    sent, guard = {}, threading.Lock()

    def work(index):
        time.sleep(index * 0.01)
        journal = journal_of_batch()
        seen = journal.begin()
        mine = [key for key in (f"k{number}" for number in range(30)) if key not in seen]
        for key in mine:
            journal.intend([intended(key)])
            with guard:
                sent.setdefault(key, []).append(index)

    at_once(6, work)
    assert sent
    assert {key: times for key, times in sent.items() if len(times) > 1} == {}


@pytest.mark.parametrize(
    "other", [{"map_index": 0}, {"run_id": "manual__1"}, {"task_id": "make_other"}, {"dag_id": "weekly"}]
)
def test_the_folder_of_another_task_instance_is_refused(journal_of_batch, other):
    first = journal_of_batch()
    first.begin()
    first.save("jobs", [{}], 1)
    with pytest.raises(VeoJournalRecordError, match=r"(?s)belongs to another task instance.*map_index") as caught:
        journal_of_batch(**other).begin()
    assert caught.value.final
    with pytest.raises(VeoJournalRecordError, match="belongs to another task instance"):
        journal_of_batch(**other).load("jobs", dict)


def lines(*records, **head):
    said = {"format": FORMAT, "task_instance": OWNER, "lines": len(records), **head}
    return "".join(f"{json.dumps(each)}\n" for each in (said, *records)).encode()


GOOD = [intended(f"k{number}").to_dict() for number in range(3)]
BROKEN = {
    "nothing": b"",
    "no JSON": b"garbage\n",
    "no text": b"\xff\xfe\x00",
    "no head": lines(*GOOD).partition(b"\n")[2],
    "no object": b"[]\n",
    "cut in a line": lines(*GOOD)[:-20],
    "cut between lines": lines(*GOOD)[: -len(json.dumps(GOOD[2])) - 1],
    "cut to the head": lines(*GOOD).partition(b"\n")[0] + b"\n",
    "a newer format": lines(*GOOD, format=FORMAT + 1),
    "no format": lines(*GOOD, format=None),
    "no record": lines({"key": "cow"}),
    "a state of a newer version": lines({**GOOD[0], "state": "refunded"}),
    "an acceptance without an id": lines({**GOOD[0], "state": "accepted"}),
    "a number": lines(7),
}


def test_complete_file_is_read(journal_of_batch, folder):
    journal_of_batch().begin()
    folder.fs.pipe_file(f"{folder.path}/000001-{'a' * 32}-000001.jsonl", lines(*GOOD))
    assert journal_of_batch().begin().keys() == {"k0", "k1", "k2"}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_invalid_file_is_refused_not_ignored(journal_of_batch, folder, content):
    first = journal_of_batch()
    first.begin()
    first.intend([intended()])
    name = f"000001-{'a' * 32}-000001.jsonl"
    folder.fs.pipe_file(f"{folder.path}/{name}", content)
    with pytest.raises(VeoJournalRecordError) as caught:
        journal_of_batch().begin()
    assert caught.value.final
    for part in (name, "Nothing was sent", "result_path"):
        assert part in str(caught.value)


def test_foreign_files_are_not_read(journal_of_batch, folder):
    journal_of_batch().begin()
    for name in (f".000001-{'a' * 32}-000001.jsonl.{'b' * 32}", "notes.txt", ".DS_Store"):
        folder.fs.pipe_file(f"{folder.path}/{name}", b"half a fi")
    assert journal_of_batch().begin() == {}


@pytest.mark.slow
@everywhere
def test_compaction_loses_nothing(journal_of_batch, files):
    first = journal_of_batch()
    first.begin()
    kept = {}
    for number in range(MAX_FILES + 6):
        kept[f"k{number}"] = intended(f"k{number}")
        first.write([kept[f"k{number}"]])
    assert journal_of_batch().begin() == kept
    assert len(files()) <= 3
    assert journal_of_batch().begin() == kept


@pytest.mark.slow
@everywhere
def test_process_with_many_files_compacts_them(journal_of_batch, files, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILES_OF_A_PROCESS", 8)
    first = journal_of_batch()
    first.begin()
    kept, most = {}, 0
    for number in range(30):
        key = f"k{number % 10}"
        kept[key] = accepted(key, f"veo3:{number}")
        first.intend([kept[key]])
        most = max(most, len(files()))
    assert most <= 10
    assert journal_of_batch().begin() == kept


def test_few_files_are_left_as_they_are(journal_of_batch, files):
    first = journal_of_batch()
    first.begin()
    for number in range(5):
        first.write([intended(f"k{number}")])
    before = files()
    journal_of_batch().begin()
    assert files().items() >= before.items()


@pytest.mark.parametrize("place", ["file", "memory"])
def test_records_written_during_compaction_are_kept(journal_of_batch, monkeypatch):
    """An older process keeps recording what it had sent, while newer ones begin and compact each time."""
    monkeypatch.setattr(module, "MAX_FILES", 3)
    older = journal_of_batch()
    older.begin()
    intents = [intended(f"k{number}") for number in range(60)]
    older.intend(intents)
    ended = threading.Event()

    def learn(_):
        for number, intent in enumerate(intents):
            older.write([intent.accepted_video(video(f"veo3:{number}"))])
            time.sleep(0.001)
        ended.set()

    def come(_):
        rounds = 0
        while not ended.is_set() or not rounds:
            found = journal_of_batch().begin()
            assert found.keys() == {each.key for each in intents}
            rounds += 1
        return rounds

    outcomes = at_once(2, lambda index: (learn, come)[index](index))
    assert isinstance(outcomes[1], int), outcomes[1]
    found = journal_of_batch().begin()
    assert {each.veo_task_id for each in found.values()} == {f"veo3:{number}" for number in range(60)}


def test_concurrent_compaction_loses_nothing(journal_of_batch, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILES", 2)
    first = journal_of_batch()
    first.begin()
    kept = {f"k{number}": accepted(f"k{number}", f"veo3:{number}") for number in range(20)}
    for each in kept.values():
        first.write([each])
    for _ in range(15):
        outcomes = at_once(4, lambda _: journal_of_batch().begin())
        for each in outcomes:
            assert isinstance(each, VeoJournalError) or each == kept, each
    assert journal_of_batch().begin() == kept


def test_nothing_is_removed_once_a_newer_process_reads(journal_of_batch, monkeypatch, files):
    """A listing in progress may miss the new file. Then it must find the old ones."""
    monkeypatch.setattr(module, "MAX_FILES", 2)
    first = journal_of_batch()
    first.begin()
    for number in range(5):
        first.write([intended(f"k{number}")])
    before = files()
    tidying, newest = journal_of_batch(), journal_of_batch()
    write = tidying._write

    def write_while_another_begins(records):
        write(records)
        if records:
            monkeypatch.setattr(module, "MAX_FILES", 999)
            newest.begin()

    tidying._write = write_while_another_begins
    with pytest.raises(SupersededError):
        tidying.begin()
    assert files().items() >= before.items()


@in_memory
@pytest.mark.parametrize("fault", ["list", "read", "write"])
def test_failing_storage_is_not_treated_as_empty(journal_of_batch, storage, fault):
    first = journal_of_batch()
    first.begin()
    first.intend([intended()])
    storage.fails = {fault}
    with pytest.raises(VeoJournalError, match=rf"Could not .*: OSError: the storage can't {fault}") as caught:
        journal_of_batch().begin()
    assert not caught.value.final
    assert "Nothing is sent without them" in str(caught.value)
    storage.fails = set()
    assert journal_of_batch().begin().keys() == {"cow"}


@in_memory
@pytest.mark.parametrize("fault", ["list", "write"])
def test_intend_fails_if_storage_cannot_write_or_list(journal_of_batch, storage, fault):
    journal = journal_of_batch()
    journal.begin()
    storage.fails = {fault}
    with pytest.raises(VeoJournalError, match=f"can't {fault}"):
        journal.intend([intended()])


@in_memory
def test_unreadable_file_is_not_treated_as_missing(journal_of_batch, storage):
    journal_of_batch().save("jobs", [1], 1)
    storage.fails = {"read"}
    with pytest.raises(VeoJournalError, match="can't read"):
        journal_of_batch().load("jobs", dict)


def test_file_in_place_of_folder_is_an_error(journal_of_batch, tmp_path):
    (tmp_path / "nightly").mkdir()
    (tmp_path / "nightly" / "_journal").write_text("not a folder")
    with pytest.raises(VeoJournalError, match="Could not"):
        journal_of_batch().begin()


def test_intent_that_is_not_json_is_not_sent(journal_of_batch):
    journal = journal_of_batch()
    journal.begin()
    with pytest.raises(VeoJournalError, match="Could not write"):
        journal.intend([dataclasses.replace(intended(), price=Decimal("nan"))])


@everywhere
def test_another_task_instance_leaves_the_records_alone(journal_of_batch, files):
    """Otherwise the first one could no longer read its own records, and would lose its billed videos."""
    first = journal_of_batch()
    first.begin()
    first.write([accepted()])
    before = files()
    with pytest.raises(VeoJournalRecordError, match="another task instance"):
        journal_of_batch(task_id="other").begin()
    assert files() == before
    assert journal_of_batch().begin()["cow"].veo_task_id == "veo3:1"


def test_a_key_has_one_spelling(journal_of_batch):
    """macOS decomposes the letters of file names, and of what is copied from them."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    first = journal_of_batch()
    first.begin()
    first.write([dataclasses.replace(accepted(), key=decomposed)])
    assert list(journal_of_batch().begin()) == [composed]


BROKEN = {
    "no head": (b"", r"it has no head"),
    "a head that is not an object": (b"[1]\n", r"it has no head"),
    "a line that is not a job": (b'{"input": "x"}\n7\n', r"TypeError"),
    "a line that is not JSON": (b'{"input": "x"}\n{"key"\n', r"JSONDecodeError"),
    "a line nested too deeply": (b'{"input": "x"}\n' + b"[" * 100_000 + b"\n", r"RecursionError"),
    "a line that is not counted": (b'{"input": "x"}\n{}', r"truncated"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_of_jobs_is_an_error_that_names_it(folder, journal_of_batch, name):
    content, why = BROKEN[name]
    head = {"format": FORMAT, "task_instance": OWNER, "lines": content.count(b"\n")}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"jobs-000001-{'a' * 32}-000000.jsonl"
    path.fs.pipe_file(path.path, json.dumps(head).encode() + b"\n" + content)
    with pytest.raises(VeoJournalRecordError, match=rf"(?s)jobs-000001.*{why}"):
        list(journal_of_batch().load("jobs", Job.from_dict)[1])


def test_a_record_that_is_not_counted_is_refused(folder, journal_of_batch):
    folder.mkdir(parents=True, exist_ok=True)
    head = json.dumps({"format": FORMAT, "task_instance": OWNER, "lines": 1})
    record = json.dumps(accepted().to_dict())
    path = folder / f"000001-{'a' * 32}-000000.jsonl"
    path.fs.pipe_file(path.path, f"{head}\n{record}\n{record}".encode())
    with pytest.raises(VeoJournalRecordError, match="truncated"):
        journal_of_batch().begin()
