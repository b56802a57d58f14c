"""
Records as earlier versions wrote them, one file per format.

If a test here fails, videos in flight during an upgrade are billed again, or a batch can't continue.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_veo.journal.decision import Action, Policy, decide
from airflow_provider_veo.journal.formats import FORMAT
from airflow_provider_veo.journal.submission import Submission, Wanted
from airflow_provider_veo.protocol import payload
from airflow_provider_veo.protocol.prices import exact
from tests.unit.batch.conftest import ACCOUNT, job, wanted

GOLDEN = Path(__file__).parent / "golden"
BATCH = Policy("fail", attempts=2, download=True, keeps_account=True)
ONE = payload.build("a cow flies", "veo3.1-components", ["https://example.com/a.png"])


@pytest.fixture
def written(folder, journal_of_batch):
    """Write the records of a format to the folder of a batch, and read them."""

    def read(name):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"000001-{'a' * 32}-000000.jsonl"
        path.fs.pipe_file(path.path, (GOLDEN / name).read_bytes())
        found = journal_of_batch().begin()
        assert journal_of_batch().begin() == found  # now in the format of this version, too
        return found

    return read


def test_a_batch_of_format_1(written):
    found = written("batch-1.jsonl")
    assert [each.state for each in found.values()] == ["stored", "intended", "refused"]
    assert found["auto-1"].file["uri"] == "s3://bucket/x.mp4"
    assert found["auto-3"].reason == "bad image"
    assert found["auto-3"].of_try("another").failure is None


@pytest.mark.parametrize("name", ["batch-2.jsonl", f"batch-{FORMAT}.jsonl"])
def test_a_batch_that_is_in_flight_continues(written, name):
    found = {key: record.of_try("another") for key, record in written(name).items()}
    actions = {key: decide(record, wanted(job(key)), BATCH) for key, record in found.items()}
    assert actions == {
        "intended": Action.UNKNOWN,
        "accepted": Action.POLL,
        "failed": Action.SUBMIT,
        "again": Action.UNKNOWN,
        "stored": Action.NOTHING,
        "refused": Action.SUBMIT,
        "adopted": Action.POLL,
        "unknown": Action.UNKNOWN,
    }
    assert (found["again"].attempt, found["again"].earlier, found["again"].cost) == (2, ("veo3:3",), exact(0.4))
    assert found["failed"].video["error"] == "blocked"


def test_what_a_try_has_given_up_is_known(written):
    found = written("batch-2.jsonl")
    assert "too late" in found["accepted"].reason
    assert (found["unknown"].again, found["unknown"].failure["try"]) == (1, "try-1")


def test_a_batch_with_blocked_videos_continues_with_their_prompts(written):
    found = written("batch-3-blocked.jsonl")
    actions = {key: decide(record, wanted(job(key)), BATCH) for key, record in found.items()}
    assert actions == {
        "blocked": Action.SUBMIT,
        "twice": Action.NOTHING,
        "reworded": Action.SUBMIT,
        "sent": Action.UNKNOWN,
        "got": Action.POLL,
    }
    prompts = {key: record.body_for(wanted(job(key)))["prompt"] for key, record in found.items()}
    assert prompts == {
        "blocked": "prompt of blocked",
        "twice": "prompt of twice",
        **dict.fromkeys(("reworded", "sent", "got"), "a calm cow"),
    }


@pytest.mark.parametrize("name", ["task-1.json", f"task-{FORMAT}.json"])
def test_a_task_continues_with_its_video(name):
    record = Submission.from_dict(json.loads((GOLDEN / name).read_text()))
    assert decide(record, Wanted(ONE, ACCOUNT), Policy()) is Action.POLL
    assert record.changes_to(Submission.of(ONE, account=ACCOUNT.name)) == []


def test_this_version_writes_what_its_golden_files_hold():
    records = []
    for path in GOLDEN.glob(f"batch-{FORMAT}*.jsonl"):
        head, *lines = map(json.loads, path.read_text().splitlines())
        assert head["format"] == FORMAT
        records += lines
    for record in *records, json.loads((GOLDEN / f"task-{FORMAT}.json").read_text()):
        again = json.loads(json.dumps(Submission.from_dict(record).to_dict()))
        assert again == {name: value for name, value in record.items() if name != "format"}
