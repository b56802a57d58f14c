"""What tasks report about money: a few rows, in which nothing is lost or counted twice."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal

from airflow_provider_veo.journal.spend import MAX_ROWS, spend_of
from airflow_provider_veo.journal.submission import UNSENT, Submission
from airflow_provider_veo.protocol import VeoQuotaError
from airflow_provider_veo.protocol.prices import exact
from tests.unit.batch.conftest import accepted, intended, job, video, wanted

FACTS = ("videos", "unpriced", "cost", "unknown", "possible_cost")


def on(day, record):
    moment = f"2026-11-{day:02}T02:00:00+00:00"
    return dataclasses.replace(record, intended_at=moment, accepted_at=record.accepted_at and moment)


def rows(*records, models=None):
    found = spend_of(records, models or {})
    return {(row["day"], row["model"]): tuple(row[name] for name in FACTS) for row in found}


def test_jobs_are_added_up_by_day_and_model():
    models = {"a": "veo3", "b": "veo3", "c": "veo3-fast", "d": "veo3"}
    records = [on(22, accepted(key, f"veo3:{key}", price=0.1)) for key in "abc"] + [on(23, accepted("d"))]
    assert rows(*records, models=models) == {
        ("2026-11-22", "veo3"): (2, 0, 0.2, 0, 0),
        ("2026-11-22", "veo3-fast"): (1, 0, 0.1, 0, 0),
        ("2026-11-23", "veo3"): (1, 0, 0.4, 0, 0),
    }


def test_all_submissions_of_a_job_count():
    failed = accepted().ended(video(state="failed"))
    again = Submission.intend(wanted(job()), failed, exact(0.5))
    unknown = ("2026-11-22", None)
    assert rows(on(22, again)) == {unknown: (1, 0, 0.4, 1, 0.5)}
    assert rows(on(22, again.accepted_video(video("veo3:2")))) == {unknown: (2, 0, 0.9, 0, 0)}
    assert rows(on(22, again.not_accepted(UNSENT, VeoQuotaError("no money"), "1"))) == {unknown: (1, 0, 0.4, 0, 0)}


def test_what_may_have_been_billed_is_never_part_of_the_cost():
    resubmitted = Submission.intend(wanted(job()), intended(price=0.4), exact(0.5)).accepted_video(video())
    assert rows(on(22, resubmitted)) == {("2026-11-22", None): (1, 0, 0.5, 1, 0.4)}


def test_a_job_without_a_price_is_counted_apart():
    assert rows(on(22, accepted(price=None))) == {("2026-11-22", None): (1, 1, 0, 0, 0)}
    assert rows(on(22, intended())) == {("2026-11-22", None): (0, 0, 0, 1, 0)}


def test_what_was_not_sent_or_adopted_is_no_row():
    refused = intended(price=0.4).not_accepted(UNSENT, VeoQuotaError("no money"), "1")
    assert rows(refused, Submission.adopt(wanted(job(existing="veo3:9")), None)) == {}


def test_there_are_at_most_so_many_rows_and_the_sum_stays_the_same():
    keys = [f"k{index}" for index in range(1000)]
    records = [on(1 + index % 28, accepted(key, f"veo3:{key}", price=0.1)) for index, key in enumerate(keys)]
    found = spend_of(records, {key: f"model {key}" + "x" * 1000 for key in keys})
    assert len(found) == MAX_ROWS
    assert sum(row["videos"] for row in found) == 1000
    assert sum(Decimal(str(row["cost"])) for row in found) == 100
    assert len(json.dumps(found)) < 40_000
