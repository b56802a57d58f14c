"""What a batch has submitted, remembered: by many processes, in any storage, and never mistaken."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
import time

import pytest

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
    assert journal_of_batch().load("jobs") is None
    older, newer = journal_of_batch(), journal_of_batch()
    for journal in (older, newer):
        journal.begin()
    newer.save("jobs", [{"input": "y"}, {"prompt": "牛"}], 2)
    older.save("jobs", [{"input": "x"}, {"prompt": "牛"}], 2)
    assert list(journal_of_batch().load("jobs")) == [{"input": "y"}, {"prompt": "牛"}]
    assert journal_of_batch().begin() == {}


@everywhere
def test_a_newer_process_makes_the_older_one_give_way_before_it_sends(journal_of_batch):
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


def test_what_a_newer_process_knows_better_is_not_undone_by_an_older_one(journal_of_batch):
    older, newer = journal_of_batch(), journal_of_batch()
    older.begin()
    known = intended().accepted_video(video("veo3:7", "running"))
    older.write([known])
    newer.begin()
    newer.write([known.ended(video("veo3:7"))])
    older.write([known])
    assert journal_of_batch().begin()["cow"].state == "succeeded"


def test_a_job_that_a_newer_process_submitted_is_not_taken_back_by_an_older_one(journal_of_batch):
    older, newer = journal_of_batch(), journal_of_batch()
    older.begin()
    failed = accepted().ended(video(state="failed"))
    older.write([failed])
    again = intended(before=newer.begin()["cow"])
    newer.intend([again])
    older.write([failed])
    assert journal_of_batch().begin()["cow"] == again


@pytest.mark.parametrize(("place", "rounds"), [("file", 80), ("memory", 120), ("s3", 6)])
def test_of_processes_that_begin_at_once_none_sends_what_it_has_not_seen(journal_of_batch, folder, rounds):
    """
    The promise of the whole journal. Whoever returns from ``intend`` sends; so of two of them, one has seen the other.

    The ledgers of a round are of one task instance each time: its folder is emptied in between.
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
        # Who comes afterwards knows what was sent.
        held = journal_of_batch().begin()
        if sent:
            assert held["cow"].token == sent[0]
        folder.fs.rm(folder.path, recursive=True)


def test_of_many_processes_that_go_on_sending_each_has_seen_what_was_sent_before(journal_of_batch):
    """The same with many jobs: a process sends what is not on record until it has to give way."""
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
    first.save("jobs", [], 0)
    with pytest.raises(VeoJournalRecordError, match=r"(?s)belongs to another task instance.*map_index") as caught:
        journal_of_batch(**other).begin()
    assert caught.value.final
    with pytest.raises(VeoJournalRecordError, match="belongs to another task instance"):
        journal_of_batch(**other).load("jobs")


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


def test_what_is_whole_is_read(journal_of_batch, folder):
    journal_of_batch().begin()
    folder.fs.pipe_file(f"{folder.path}/000001-{'a' * 32}-000001.jsonl", lines(*GOOD))
    assert journal_of_batch().begin().keys() == {"k0", "k1", "k2"}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_can_not_be_understood_is_refused_never_ignored(journal_of_batch, folder, content):
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


def test_what_is_no_file_of_the_journal_is_not_read(journal_of_batch, folder):
    journal_of_batch().begin()
    for name in (f".000001-{'a' * 32}-000001.jsonl.{'b' * 32}", "notes.txt", ".DS_Store"):
        folder.fs.pipe_file(f"{folder.path}/{name}", b"half a fi")
    assert journal_of_batch().begin() == {}


@everywhere
def test_tidying_loses_nothing(journal_of_batch, files):
    first = journal_of_batch()
    first.begin()
    kept = {}
    for number in range(MAX_FILES + 6):
        kept[f"k{number}"] = intended(f"k{number}")
        first.write([kept[f"k{number}"]])
    assert journal_of_batch().begin() == kept
    assert len(files()) <= 3
    assert journal_of_batch().begin() == kept


@everywhere
def test_a_process_that_writes_many_files_takes_them_together(journal_of_batch, files, monkeypatch):
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
def test_what_an_older_process_learns_while_others_tidy_is_not_lost(journal_of_batch, monkeypatch):
    """An older process goes on recording what it had sent, while newer ones come, and tidy each time."""
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


def test_many_that_tidy_at_once_lose_nothing(journal_of_batch, monkeypatch):
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
    """A listing that is under way may miss the new file. Then it must find the old ones."""
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
def test_a_storage_that_fails_is_no_empty_one(journal_of_batch, storage, fault):
    first = journal_of_batch()
    first.begin()
    first.intend([intended()])
    storage.fails = {fault}
    with pytest.raises(VeoJournalError, match=f"could not: OSError: the storage can't {fault}") as caught:
        journal_of_batch().begin()
    assert not caught.value.final
    assert "Nothing is sent without them" in str(caught.value)
    storage.fails = set()
    assert journal_of_batch().begin().keys() == {"cow"}


@in_memory
@pytest.mark.parametrize("fault", ["list", "write"])
def test_who_can_not_record_or_look_around_does_not_send(journal_of_batch, storage, fault):
    journal = journal_of_batch()
    journal.begin()
    storage.fails = {fault}
    with pytest.raises(VeoJournalError, match=f"can't {fault}"):
        journal.intend([intended()])


@in_memory
def test_a_file_that_can_not_be_read_is_no_missing_one(journal_of_batch, storage):
    journal_of_batch().save("jobs", [1], 1)
    storage.fails = {"read"}
    with pytest.raises(VeoJournalError, match="can't read"):
        journal_of_batch().load("jobs")


def test_a_file_where_the_folder_should_be_is_no_empty_folder(journal_of_batch, tmp_path):
    (tmp_path / "nightly").mkdir()
    (tmp_path / "nightly" / "_journal").write_text("not a folder")
    with pytest.raises(VeoJournalError, match="could not"):
        journal_of_batch().begin()


def test_what_can_not_be_written_as_json_is_not_sent(journal_of_batch):
    journal = journal_of_batch()
    journal.begin()
    with pytest.raises(VeoJournalError, match="could not"):
        journal.intend([intended(price=float("nan")).accepted_video(video())])


@everywhere
def test_another_task_instance_writes_nothing_among_the_records(journal_of_batch, files):
    """Else the first one could not read its own any more, and its paid videos would be out of reach."""
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


VERSION_1 = """\
{"format": 1, "task_instance": %s, "lines": 3}
{"key": "auto-1", "digest": "b2c86ff2b6f3a3c2a2f9d1a3a4c5d6e7", "state": "stored", "token": "t1", "attempt": 1, \
"cost": 0.4, "intended_at": "2026-11-22T01:00:00.000+00:00", "accepted_at": "2026-11-22T01:00:01.000+00:00", \
"veo_task_id": "veo3-fast:1", "ended_at": "2026-11-22T01:05:00.000+00:00", "video": {"id": "veo3-fast:1", \
"state": "succeeded", "status": "completed"}, "file": {"uri": "s3://bucket/x.mp4", "bytes": 7}}
{"key": "auto-2", "digest": "00000000000000000000000000000000", "state": "intended", "token": "t2", "attempt": 1, \
"cost": 0.0, "intended_at": "2026-11-22T01:00:00.000+00:00"}
{"key": "auto-3", "digest": "00000000000000000000000000000000", "state": "refused", "token": "t3", "attempt": 1, \
"cost": null, "intended_at": "2026-11-22T01:00:00.000+00:00", "earlier": ["veo3-fast:0"], \
"trouble": {"kind": "VeoRequestRejectedError", "message": "bad image", "status_code": 400, "code": null, \
"request_id": null, "retry_after": null, "veo_task_id": null, "try_number": 1}}
"""


def test_records_of_version_1_are_read(folder, journal_of_batch):
    """As they were written before accounts had names. If this fails, a batch that is under way can't go on."""
    name = f"000001-{'a' * 32}-000000.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    folder.fs.pipe_file((folder / name).path, (VERSION_1 % json.dumps(OWNER)).encode())
    found = journal_of_batch().begin()
    assert [each.state for each in found.values()] == ["stored", "intended", "refused"]
    assert found["auto-1"].file["uri"] == "s3://bucket/x.mp4"
    assert found["auto-3"].reason == "bad image"
    assert found["auto-3"].of_try("a new one").failure is None
    assert journal_of_batch().begin().keys() == found.keys()
