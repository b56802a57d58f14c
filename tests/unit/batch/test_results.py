"""What became of a batch: a row for each job, in any state, and a summary."""

from __future__ import annotations

import dataclasses
import json

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.batch.results import STATES, Results
from airflow_provider_veo.journal.submission import REFUSED, UNSENT, Submission
from airflow_provider_veo.protocol import VeoAmbiguousSubmitError, VeoDownloadError, VeoError, VeoTimeoutError
from airflow_provider_veo.protocol.prices import exact
from tests.unit.batch.conftest import ACCOUNT, accepted, intended, job, video, wanted

FILE = {"uri": "s3://bucket/videos/x.mp4", "bytes": 7, "sha256": "ab", "content_type": "video/mp4"}
URL = "https://media.example.com/x.mp4"
FAILED = video("veo3:1", "failed", error="no luck")
BLOCKED = video("veo3:1", "failed", error="blocked by the safety filter")
BEFORE = intended("other", prompt="what was asked for before", price=0.4)
OTHER = BEFORE.accepted_video(video("veo3:8")).ended(video("veo3:8"))

RECORDS = {
    "stored": ("succeeded", accepted("stored").ended(video(video_url=URL)).stored(FILE), None),
    "not_stored": (
        "not_stored",
        accepted("not_stored").ended(video(video_url=URL)).given_up(VeoDownloadError("disk full"), "1"),
        "disk full",
    ),
    "failed": ("failed", accepted("failed").ended(FAILED), "no luck"),
    "no_money_for_another": (
        "failed",
        accepted("no_money_for_another").ended(FAILED).given_up(VeoError("It costs 0.4"), "1"),
        "no luck\nIt costs 0.4",
    ),
    "blocked": ("blocked", accepted("blocked").ended(BLOCKED), "blocked by the safety filter"),
    "refused": ("refused", intended("refused").not_accepted(REFUSED, VeoError("bad image"), "1"), "bad image"),
    "unknown": ("unknown", intended("unknown"), "the outcome is not on record"),
    "answer_lost": (
        "unknown",
        intended("answer_lost").given_up(VeoAmbiguousSubmitError("cut off"), "1"),
        "existing_veo_task_id to its id; otherwise set on_ambiguous_submit='resubmit'. Then clear this task.\ncut off",
    ),
    "unknown_of_before": ("unknown", intended("unknown_of_before", prompt="before"), "Look for it at the relay"),
    "timed_out": ("timed_out", accepted("timed_out").given_up(VeoTimeoutError("too late"), "1"), "too late"),
    "unsent": ("not_submitted", intended("unsent").not_accepted(UNSENT, VeoError("busy"), "1"), "busy"),
    "nothing": ("not_submitted", None, "out of money"),
    "other": ("not_submitted", OTHER, "out of money"),
}


def results(records=RECORDS, more=(), **arguments):
    known = {key: record for key, (_, record, _) in records.items() if record}
    known.update((record.key, record) for record in more)
    arguments = {"download": True, "stopped": "out of money", **arguments}
    return Results([job(key) for key in records], known, ACCOUNT, **arguments)


def written(tmp_path, **arguments):
    folder = ObjectStoragePath(f"file://{tmp_path}/night 1")
    short = results(**arguments).write(folder, {"dag_id": "nightly"})
    rows = [json.loads(line) for line in (tmp_path / "night 1" / "results.jsonl").read_text().splitlines()]
    return short, rows, json.loads((tmp_path / "night 1" / "summary.json").read_text())


@pytest.mark.parametrize("key", RECORDS)
def test_each_row_says_how_its_job_ended(key):
    state, record, error = RECORDS[key]
    rows = {row["key"]: row for row in results().rows()}
    row = rows[key]
    assert row["state"] == state
    assert row["source"] == f"jobs[{key}]"
    assert row["request"] == job(key).body
    if error is None:
        assert row["error"] is None
    else:
        assert error in row["error"]
    if state != "not_submitted":
        assert row["id"] == record.veo_task_id


def test_all_states_are_there():
    assert {state for state, _, _ in RECORDS.values()} == set(STATES)


def test_a_row_says_where_the_video_is():
    row = next(results().rows())
    assert {
        name: row[name] for name in ("status", "video_url", "file", "bytes", "sha256", "content_type", "width")
    } == {
        "status": "succeeded",
        "video_url": URL,
        "file": FILE["uri"],
        "bytes": 7,
        "sha256": "ab",
        "content_type": "video/mp4",
        "width": None,
    }
    assert row["verified"] is None  # stored by a version that did not record it
    assert (row["attempts"], row["cost"]) == (1, 0.4)
    assert row["submitted_at"] <= row["finished_at"]


@pytest.mark.parametrize("verified", [True, False])
def test_row_says_whether_the_file_is_verified(monkeypatch, verified):
    monkeypatch.setitem(FILE, "verified", verified)
    row = next(results().rows())
    assert row["verified"] is verified


def test_what_was_made_for_another_request_is_not_shown_as_this_one():
    row = list(results().rows())[-1]
    assert (row["id"], row["video_url"], row["submitted_at"], row["finished_at"]) == (None, None, None, None)
    assert (row["cost"], row["attempts"]) == (0.4, 1)


def test_without_downloads_a_ready_video_is_a_success():
    states = {row["key"]: row["state"] for row in results(download=False).rows()}
    assert (states["stored"], states["not_stored"]) == ("succeeded", "succeeded")


def test_the_counts_are_of_all_jobs():
    assert results().counts == {
        "succeeded": 1,
        "not_stored": 1,
        "failed": 2,
        "blocked": 1,
        "refused": 1,
        "unknown": 3,
        "timed_out": 1,
        "not_submitted": 3,
    }


def test_attempts_are_those_that_may_be_billed():
    failed = accepted("a").ended(FAILED)
    again = Submission.intend(wanted(job("a")), failed)
    for record, attempts in (
        (failed, 1),
        (again, 2),
        (again.not_accepted(UNSENT, VeoError("busy"), "1"), 1),
        (again.accepted_video(video("veo3:2")), 2),
    ):
        (row,) = results({"a": (None, record, None)}).rows()
        assert row["attempts"] == attempts


def test_the_cost_is_of_everything_that_was_accepted():
    assert results().cost == exact(2.8)
    gone = accepted("gone", "veo3:9", price=0.1)
    assert results(more=[gone]).cost == exact(2.9)
    assert results(more=[dataclasses.replace(gone, cost=None)]).cost is None
    assert results({"nothing": RECORDS["nothing"]}).cost == 0


def test_removed_job_is_not_forgotten(tmp_path):
    gone, never = accepted("gone", "veo3:9"), intended("never")
    _, rows, summary = written(tmp_path, more=[gone, never])
    assert summary["no_longer_asked_for"] == [{"key": "gone", "id": "veo3:9"}]
    assert len(rows) == len(RECORDS)


def test_most_frequent_reasons_come_first():
    records = {f"k{number}": ("failed", accepted(f"k{number}").ended(FAILED), "") for number in range(3)}
    for number in range(6):
        record = intended(f"r{number}").not_accepted(REFUSED, VeoError(f"bad image {number}\nmore"), "1")
        records[f"r{number}"] = ("refused", record, "")
    reasons = results(records).reasons()
    assert reasons[0] == "3 failed: no luck"
    assert reasons[1] == "1 refused: bad image 0"
    assert reasons[-1] == "and 2 other reasons"
    assert len(reasons) == 6
    assert results({"stored": RECORDS["stored"]}).reasons() == []


def test_row_has_the_prompt_that_was_sent_in_place_of_a_blocked_one():
    blocked = accepted("a").ended(BLOCKED)
    again = Submission.intend(wanted(job("a")), blocked.with_prompt("a calm cow"))
    for record in (again, again.accepted_video(video("veo3:2")).ended(video("veo3:2"))):
        (row,) = results({"a": (None, record, None)}, download=False).rows()
        assert (row["reworded_prompt"], row["request"]["prompt"]) == ("a calm cow", "prompt of a")


def test_an_image_of_megabytes_is_not_repeated():
    big = dataclasses.replace(job("big"))
    big.body["images"] = ["https://example.com/a.png", "data:image/png;base64," + "A" * 5_000_000]
    (row,) = Results([big], {}, ACCOUNT, download=True).rows()
    assert row["request"]["images"][0] == "https://example.com/a.png"
    assert len(row["request"]["images"][1]) < 2100
    assert len(big.body["images"][1]) > 5_000_000


def test_both_files_are_written_and_the_rest_is_small(tmp_path):
    short, rows, summary = written(tmp_path)
    assert [row["key"] for row in rows] == list(RECORDS)
    assert short["results"] == f"file://{tmp_path}/night 1/results.jsonl"
    assert short["total"] == len(RECORDS)
    assert {state: short[state] for state in STATES} == results().counts
    assert summary.items() >= {**short, "dag_id": "nightly"}.items()
    assert summary["models"] == {"veo3-fast": {state: count for state, count in results().counts.items() if count}}
    assert summary["reasons"] == results().reasons()
    assert summary["first_submitted_at"] <= summary["written_at"]
    assert len(json.dumps(short)) < 1000
    assert sorted(path.name for path in (tmp_path / "night 1").iterdir()) == ["results.jsonl", "summary.json"]


def test_nothing_of_an_older_result_is_left(tmp_path):
    written(tmp_path)
    _, rows, summary = written(tmp_path, records={"stored": RECORDS["stored"]})
    assert len(rows) == summary["total"] == 1


def test_half_of_a_character_that_a_relay_sends_does_not_take_the_results_away(tmp_path):
    odd = accepted("odd").ended(video("veo3:1", "failed", error="bad \ud83d prompt 牛"))
    _, rows, summary = written(tmp_path, records={"odd": ("failed", odd, "")})
    assert rows[0]["error"] == "bad \ud83d prompt 牛"
    assert summary["reasons"] == ["1 failed: bad \ud83d prompt 牛"]


def test_an_empty_batch_has_results_too(tmp_path):
    short, rows, summary = written(tmp_path, records={})
    assert (short["total"], short["cost"], rows) == (0, 0, [])
    assert "first_submitted_at" not in summary
