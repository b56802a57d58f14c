"""How far a batch is, in one line."""

from __future__ import annotations

import json

import pytest

from airflow_provider_veo.batch.progress import Progress
from tests.unit.batch.conftest import accepted, intended, video

NIGHT = Progress(total=1000, done=412, failed=3, generating=20, to_submit=565, since=1000.0)


def test_the_line_says_it_all():
    now = 1000.0 + 415 / 18.2 * 60
    assert NIGHT.line(now) == ("412/1000 done, 3 failed, 20 generating, 565 to submit, 18.2/min, about 32 min left")


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(3, 0, 0, 0, 3), "0/3 done, 0 failed, 0 generating, 3 to submit"),
        (Progress(3, 0, 0, 3, 0, 1000.0), "0/3 done, 0 failed, 3 generating, 0 to submit"),
        (Progress(3, 3, 0, 0, 0, 1000.0), "3/3 done, 0 failed, 0 generating, 0 to submit, 3.0/min"),
        (Progress(3, 2, 0, 1, 0, 1000.0), "2/3 done, 0 failed, 1 generating, 0 to submit, 2.0/min, about 1 min left"),
    ],
)
def test_what_is_not_known_is_not_said(progress, line):
    assert progress.line(1060.0) == line


@pytest.mark.parametrize("now", [999.0, 1000.0, -5.0])
def test_clock_that_was_set_back_is_not_an_error(now):
    assert NIGHT.line(now) == "412/1000 done, 3 failed, 20 generating, 565 to submit"


def test_it_counts_what_is_on_record():
    records = {
        "done": accepted("done").ended(video()),
        "stored": accepted("stored").ended(video()).stored({}),
        "failed": accepted("failed").ended(video(state="failed")),
        "unknown": intended("unknown"),
        "generating": accepted("generating"),
        "again": accepted("again").ended(video()),
    }
    progress = Progress.of(9, records, {"generating"}, {"again", "b", "c"})
    assert (progress.done, progress.failed, progress.generating, progress.to_submit) == (2, 3, 1, 3)
    assert progress.since == min(each.submitted for each in records.values())
    assert Progress.of(2, {}, set(), {"a", "b"}) == Progress(2, 0, 0, 0, 2, cost=0)


def test_trigger_continues_counting():
    after = Progress(**json.loads(json.dumps(NIGHT.to_dict()))).with_ended(5, 2)
    assert (after.done, after.failed, after.generating, after.to_submit) == (417, 5, 13, 565)
