"""The next action for a job, given its record: the whole table."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_provider_veo.batch.options import Options
from airflow_provider_veo.connection import Account
from airflow_provider_veo.journal.decision import Action, Policy, decide
from airflow_provider_veo.journal.submission import (
    ACCEPTED,
    FAILED,
    INTENDED,
    REFUSED,
    STORED,
    SUCCEEDED,
    UNSENT,
    Submission,
    Wanted,
)
from airflow_provider_veo.protocol import VeoTimeoutError
from tests.unit.batch.conftest import ACCOUNT, accepted, intended, job, video, wanted

PAID = (ACCEPTED, FAILED, SUCCEEDED, STORED)


def on_record(state, attempt=1, prompt=None, failed=False):
    record = dataclasses.replace(intended(prompt=prompt), state=state, attempt=attempt)
    record = dataclasses.replace(record, veo_task_id="veo3:1") if state in PAID else record
    return record.given_up(VeoTimeoutError("too late"), "1") if failed else record


def blocked(times=1, attempt=1, reworded=None):
    record = accepted().ended(video(state="failed", error="blocked by the safety filter"))
    return dataclasses.replace(record, blocked=times, attempt=attempt, reworded=reworded)


def step(record, asked=None, account=ACCOUNT, **options):
    return decide(record, wanted(asked or job(), account), Options(**options).policy)


RESUBMIT = {"on_ambiguous_submit": "resubmit"}
TABLE = [
    # on record, options, the same request, another request
    (None, {}, Action.SUBMIT, Action.SUBMIT),
    (on_record(UNSENT), {}, Action.SUBMIT, Action.SUBMIT),
    (on_record(INTENDED), {}, Action.UNKNOWN, Action.UNKNOWN),
    (on_record(INTENDED), RESUBMIT, Action.SUBMIT, Action.SUBMIT),
    (on_record(REFUSED), {}, Action.SUBMIT, Action.SUBMIT),
    (on_record(REFUSED, failed=True), {}, Action.NOTHING, Action.NOTHING),
    (on_record(ACCEPTED), {}, Action.POLL, Action.SUBMIT),
    (on_record(FAILED), {}, Action.NOTHING, Action.SUBMIT),
    (on_record(FAILED), {"attempts_per_video": 2}, Action.SUBMIT, Action.SUBMIT),
    (on_record(FAILED, attempt=2), {"attempts_per_video": 2}, Action.NOTHING, Action.SUBMIT),
    (on_record(FAILED, attempt=3), {"attempts_per_video": 2}, Action.NOTHING, Action.SUBMIT),
    (on_record(SUCCEEDED), {}, Action.STORE, Action.SUBMIT),
    (on_record(SUCCEEDED), {"download": False}, Action.NOTHING, Action.SUBMIT),
    (on_record(STORED), {}, Action.NOTHING, Action.SUBMIT),
    (on_record(STORED), {"attempts_per_video": 9, **RESUBMIT}, Action.NOTHING, Action.SUBMIT),
    *(
        (on_record(state, failed=True), {"attempts_per_video": 9, **RESUBMIT}, Action.NOTHING, Action.NOTHING)
        for state in (INTENDED, UNSENT, ACCEPTED, FAILED, SUCCEEDED)
    ),
]
IF_BLOCKED = [
    (blocked(), {}, Action.SUBMIT, Action.SUBMIT),
    (blocked(attempt=9), {}, Action.SUBMIT, Action.SUBMIT),
    (blocked(2), {}, Action.NOTHING, Action.SUBMIT),
    (blocked(2), {"attempts_per_video": 9}, Action.NOTHING, Action.SUBMIT),
    (blocked(2), {"attempts_if_blocked": 2}, Action.SUBMIT, Action.SUBMIT),
    (blocked(2), {"rewords": True}, Action.REWORD, Action.SUBMIT),
    (blocked(), {"attempts_if_blocked": 0}, Action.NOTHING, Action.SUBMIT),
    (blocked(), {"attempts_if_blocked": 0, "rewords": True}, Action.REWORD, Action.SUBMIT),
    (blocked(0, reworded="other"), {"attempts_if_blocked": 0}, Action.SUBMIT, Action.SUBMIT),
    (blocked(1, reworded="other"), {"attempts_if_blocked": 0, "rewords": True}, Action.NOTHING, Action.SUBMIT),
    (blocked(1, reworded="other"), {}, Action.SUBMIT, Action.SUBMIT),
    (blocked(0), {}, Action.SUBMIT, Action.SUBMIT),  # recorded by an earlier version
    (blocked(0), {"attempts_if_blocked": 0}, Action.NOTHING, Action.SUBMIT),
]


@pytest.mark.parametrize(("record", "options", "same", "other"), TABLE + IF_BLOCKED)
def test_the_record_decides(record, options, same, other):
    assert step(record, **options) is same
    assert step(record, job(prompt="other"), **options) is other


@pytest.mark.parametrize(("record", "options"), [row[:2] for row in IF_BLOCKED])
def test_blocked_video_that_a_job_names_is_not_replaced(record, options):
    assert step(record, job(existing="veo3:1"), **options) is Action.NOTHING


@pytest.mark.parametrize("record", [row[0] for row in TABLE])
def test_named_video_is_adopted_whatever_is_on_record(record):
    assert step(record, job(existing="veo3:9")) is Action.ADOPT


@pytest.mark.parametrize(
    ("record", "options", "same", "other"), [row for row in TABLE if row[0] and row[0].veo_task_id]
)
def test_recorded_video_continues_when_named(record, options, same, other):
    assert step(record, job(existing="veo3:1"), **options) is same
    assert step(record, job(existing="veo3:1", prompt="other"), **options) is same


def test_job_that_stops_naming_its_video_is_not_resubmitted():
    adopted = Submission.adopt(wanted(job(existing="veo3:9")), None)
    assert step(adopted, job()) is Action.POLL
    assert step(adopted.ended(video("veo3:9")), job()) is Action.STORE


def test_a_video_is_adopted_once():
    asked = job(existing="veo3:9")
    adopted = Submission.adopt(wanted(asked), None)
    assert step(adopted, asked) is Action.POLL
    assert step(adopted.ended(video("veo3:9")), asked) is Action.STORE
    failed = adopted.ended(video("veo3:9", "failed"))
    assert step(failed, asked) is Action.NOTHING
    assert step(failed, asked, attempts_per_video=2) is Action.SUBMIT
    again = Submission.intend(wanted(asked), failed)
    assert step(again, asked, attempts_per_video=2) is Action.UNKNOWN
    paid = again.accepted_video(video("veo3:10", "running"))
    assert step(paid, asked, attempts_per_video=2) is Action.POLL


def test_changed_prompt_of_adopted_video_does_not_submit():
    adopted = Submission.adopt(wanted(job(existing="veo3:9")), None).ended(video("veo3:9"))
    assert step(adopted, job(existing="veo3:9", prompt="other")) is Action.STORE


def test_a_finished_job_is_not_submitted_again_to_another_account():
    for state in SUCCEEDED, STORED:
        assert step(on_record(state), account=Account("veo_team"), download=False) is Action.NOTHING


@pytest.mark.parametrize("record", [intended(account=Account("veo_b")), accepted(account=Account("veo_b"))])
def test_what_is_in_flight_with_another_account_stops_a_batch(record):
    assert step(record) is Action.OTHER_ACCOUNT
    assert step(record, job(prompt="other"), on_ambiguous_submit="resubmit") is Action.OTHER_ACCOUNT
    assert step(record, account=Account("veo_b")) is not Action.OTHER_ACCOUNT


@pytest.mark.parametrize(
    "record",
    [
        accepted(account=Account("veo_b")).ended(video()),
        accepted(account=Account("veo_b")).ended(video(state="failed")),
        dataclasses.replace(intended(account=Account("veo_b")), state=UNSENT),
        dataclasses.replace(accepted(), account=None),
    ],
)
def test_what_has_ended_may_be_of_any_account(record):
    assert step(record) is not Action.OTHER_ACCOUNT


def blocked_again(intent, times):
    ended = video(state="failed", error="blocked by the safety filter")
    return dataclasses.replace(intent, blocked=times - 1).accepted("veo3:1").ended(ended)


ONE = {"prompt": "a cow"}
ONE_VIDEO = [
    # what is on record of a task with one video, on_ambiguous_submit, what it does
    (None, "fail", Action.SUBMIT),
    (Submission.of(ONE, account="veo_default"), "fail", Action.UNKNOWN),
    (Submission.of(ONE, account="veo_default"), "resubmit", Action.SUBMIT),
    (Submission.of(ONE, account="veo_b"), "fail", Action.UNKNOWN),
    (Submission.of(ONE, account="veo_default").accepted("veo3:1"), "fail", Action.POLL),
    (Submission.of(ONE, account="veo_default at http://relay").accepted("veo3:1"), "fail", Action.POLL),
    (Submission.of(ONE, account="veo_b").accepted("veo3:1"), "fail", Action.SUBMIT),
    (Submission.of({"prompt": "a dog"}, account="veo_default").accepted("veo3:1"), "fail", Action.SUBMIT),
    (Submission.of(ONE, account="veo_default").accepted("veo3:1").ended(video(state="failed")), "fail", Action.SUBMIT),
    (Submission.of(ONE, account="veo_default").accepted("veo3:1").ended(video()), "fail", Action.NOTHING),
    (blocked_again(Submission.of(ONE, account="veo_default"), 1), "fail", Action.SUBMIT),
    (blocked_again(Submission.of(ONE, account="veo_default"), 2), "fail", Action.NOTHING),
]


@pytest.mark.parametrize(("record", "on_ambiguous_submit", "action"), ONE_VIDEO)
def test_the_same_table_serves_a_task_with_one_video(record, on_ambiguous_submit, action):
    assert decide(record, Wanted(ONE, ACCOUNT), Policy(on_ambiguous_submit)) is action


def test_a_batch_takes_no_account_for_another_that_begins_alike():
    record = accepted(account=Account("acme at http-east"))
    assert step(record, account=Account("acme")) is Action.OTHER_ACCOUNT
