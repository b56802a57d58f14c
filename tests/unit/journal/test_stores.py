"""Records in files: one per task instance, written atomically, and never mistaken for another's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from airflow_provider_veo.journal import Submission, open_journal
from airflow_provider_veo.journal.stores import ObjectStorage
from airflow_provider_veo.protocol import VeoJournalError, VeoJournalRecordError
from tests.unit.journal.conftest import TASK_INSTANCE

WANTED = Submission.of({"prompt": "a cow"}, account="veo_default")


def test_a_record_is_found_by_the_next_try(journal_of):
    first = journal_of()
    assert first.survives
    assert first.read() is None
    intent = first.intend(WANTED, instead_of=None)
    assert journal_of().read() == intent == WANTED
    journal_of().forget(intent)
    assert first.read() is None
    accepted = first.accept(first.intend(WANTED, instead_of=None), "veo3:1")
    assert journal_of().read() == accepted


def test_forgetting_what_is_not_there_is_no_error(journal):
    journal.forget(WANTED)


@pytest.mark.parametrize(
    "other",
    [
        {"map_index": 0},
        {"map_index": 1},
        {"task_id": "make_other"},
        {"task_id": "Make"},
        {"run_id": "manual__1"},
        {"dag_id": "nightly/../nightly2"},
        {"dag_id": "夜" * 80},
        {"dag_id": "夜" * 79 + "昼"},
        {"task_id": "..", "dag_id": "."},
        {"run_id": "a/b"},
        {"run_id": "a%2Fb"},
        {"iteration": 0},
        {"iteration": 1, "map_index": 0},
    ],
)
def test_each_task_instance_has_a_record_of_its_own(journal_of, stored_files, other):
    journal_of().accept(WANTED, "veo3:1")
    assert journal_of(**other).read() is None
    journal_of(**other).accept(WANTED, "veo3:2")
    assert journal_of().read().veo_task_id == "veo3:1"
    assert journal_of(**other).read().veo_task_id == "veo3:2"
    assert len(stored_files()) == 2


def test_a_file_says_whose_it_is(journal, stored_files):
    journal.accept(WANTED, "veo3:1")
    ((name, content),) = stored_files().items()
    assert name == "nightly/scheduled__2026-11-22T01%3A00%3A00+00%3A00/make/-1.veo_submission.json"
    assert json.loads(content)["task_instance"] == TASK_INSTANCE
    assert journal.where.endswith(f"/journal/{name}")


def test_iterations_of_a_loop_have_records_of_their_own(journal_of, stored_files):
    for index in range(3):
        assert journal_of(iteration=index).read() is None
        journal_of(iteration=index).accept(WANTED, f"veo3:{index}")
    assert [journal_of(iteration=index).read().veo_task_id for index in range(3)] == ["veo3:0", "veo3:1", "veo3:2"]
    assert sorted(name.rpartition("/")[2] for name in stored_files()) == [
        f"-1.iteration-{index}.veo_submission.json" for index in range(3)
    ]


def test_argument_named_loop_is_not_a_loop(journal, root, monkeypatch):
    journal.accept(WANTED, "veo3:1")
    for argument in ["a", "list"], "text", 1, None:
        context = {"ti": SimpleNamespace(**TASK_INSTANCE), "loop": argument}
        assert open_journal(context, durable=True).read().veo_task_id == "veo3:1"


def test_no_other_file_is_left(journal, stored_files):
    intent = journal.intend(WANTED, instead_of=None)
    journal.forget(intent)
    assert stored_files() == {}
    journal.accept(journal.intend(WANTED, instead_of=None), "veo3:1")
    assert [name.rpartition("/")[2] for name in stored_files()] == ["-1.veo_submission.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe\x00", b'{"format": 1}'])
def test_invalid_file_is_not_treated_as_missing(root, journal, content):
    journal.accept(WANTED, "veo3:1")
    path = ObjectStorage(root, TASK_INSTANCE)._path("veo_submission")
    path.fs.pipe_file(path.path, content)
    with pytest.raises(VeoJournalRecordError) as caught:
        journal.read()
    assert caught.value.final
    for part in ("Nothing was sent", str(path), "existing_veo_task_id"):
        assert part in str(caught.value)


def test_a_record_of_another_task_instance_is_never_taken(root, journal, journal_of):
    journal.accept(WANTED, "veo3:1")
    of, other = ObjectStorage(root, TASK_INSTANCE), ObjectStorage(root, {**TASK_INSTANCE, "run_id": "other"})
    source, target = of._path("veo_submission"), other._path("veo_submission")
    target.fs.makedirs(target.parent.path, exist_ok=True)
    target.fs.pipe_file(target.path, source.fs.cat_file(source.path))
    with pytest.raises(VeoJournalRecordError, match="belongs to another task instance"):
        journal_of(run_id="other").read()


def test_unreadable_storage_is_not_treated_as_empty(tmp_path, monkeypatch):
    (tmp_path / "nightly").write_text("a file where a folder should be")
    monkeypatch.setenv("AIRFLOW__VEO__JOURNAL_PATH", str(tmp_path))
    journal = open_journal({"ti": SimpleNamespace(**TASK_INSTANCE)}, durable=True)
    with pytest.raises(VeoJournalError, match=r"Could not read .*: NotADirectoryError") as caught:
        journal.read()
    assert not caught.value.final
    with pytest.raises(VeoJournalError):
        journal.intend(WANTED, instead_of=None)


def test_unknown_storage_scheme_is_an_error(monkeypatch):
    monkeypatch.setenv("AIRFLOW__VEO__JOURNAL_PATH", "nowhere://bucket/journal")
    journal = open_journal({"ti": SimpleNamespace(**TASK_INSTANCE)}, durable=True)
    with pytest.raises(VeoJournalError, match="nowhere"):
        journal.read()


KILLED_WHILE_WRITING = """
    import os, signal, sys, threading, time
    from types import SimpleNamespace
    from airflow_provider_veo.journal import Submission, open_journal

    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)
    journal = open_journal({"ti": ti}, durable=True)
    big = Submission(account="a", digests={}, request={str(n): "x" * 100 for n in range(20000)})
    journal.accept(big, "1")
    threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    for n in range(2, 10**6):
        journal.accept(big, str(n))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.11, 0.17, 0.23])
def test_kill_during_write_leaves_a_complete_record(tmp_path, monkeypatch, seconds):
    monkeypatch.setenv("AIRFLOW__VEO__JOURNAL_PATH", str(tmp_path))
    command = [sys.executable, "-c", textwrap.dedent(KILLED_WHILE_WRITING), str(seconds)]
    done = subprocess.run(command, env=os.environ, timeout=120)
    assert done.returncode == -signal.SIGKILL
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)
    record = open_journal({"ti": ti}, durable=True).read()
    assert len(record.request) == 20000
    assert int(record.veo_task_id) >= 1
