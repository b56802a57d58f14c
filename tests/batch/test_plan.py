"""What is done for a job, by what is on record of it: the whole table."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_provider_veo.batch.entry import (
    ACCEPTED,
    FAILED,
    INTENDED,
    REFUSED,
    STORED,
    SUCCEEDED,
    UNSENT,
    Entry,
)
from airflow_provider_veo.batch.options import Options
from airflow_provider_veo.batch.plan import Step, next_step
from airflow_provider_veo.connection import Account
from airflow_provider_veo.protocol import VeoTimeoutError
from tests.batch.conftest import ACCOUNT, intended, job, video

PAID = (ACCEPTED, FAILED, SUCCEEDED, STORED)


def on_record(state, attempt=1, prompt=None, trouble=False):
    entry = dataclasses.replace(intended(prompt=prompt), state=state, attempt=attempt)
    entry = dataclasses.replace(entry, veo_task_id="veo3:1") if state in PAID else entry
    return entry.troubled(VeoTimeoutError("too late"), "1") if trouble else entry


def step(entry, asked=None, **options):
    return next_step(asked or job(), entry, ACCOUNT, Options(**options))


RESUBMIT = {"on_ambiguous_submit": "resubmit"}
TABLE = [
    # on record, options, the same request, another request
    (None, {}, Step.SUBMIT, Step.SUBMIT),
    (on_record(UNSENT), {}, Step.SUBMIT, Step.SUBMIT),
    (on_record(INTENDED), {}, Step.NOTHING, Step.NOTHING),
    (on_record(INTENDED), RESUBMIT, Step.SUBMIT, Step.SUBMIT),
    (on_record(REFUSED), {}, Step.SUBMIT, Step.SUBMIT),
    (on_record(REFUSED, trouble=True), {}, Step.NOTHING, Step.NOTHING),
    (on_record(ACCEPTED), {}, Step.WAIT, Step.SUBMIT),
    (on_record(FAILED), {}, Step.NOTHING, Step.SUBMIT),
    (on_record(FAILED), {"attempts_per_video": 2}, Step.SUBMIT, Step.SUBMIT),
    (on_record(FAILED, attempt=2), {"attempts_per_video": 2}, Step.NOTHING, Step.SUBMIT),
    (on_record(FAILED, attempt=3), {"attempts_per_video": 2}, Step.NOTHING, Step.SUBMIT),
    (on_record(SUCCEEDED), {}, Step.STORE, Step.SUBMIT),
    (on_record(SUCCEEDED), {"download": False}, Step.NOTHING, Step.SUBMIT),
    (on_record(STORED), {}, Step.NOTHING, Step.SUBMIT),
    (on_record(STORED), {"attempts_per_video": 9, **RESUBMIT}, Step.NOTHING, Step.SUBMIT),
    *(
        (on_record(state, trouble=True), {"attempts_per_video": 9, **RESUBMIT}, Step.NOTHING, Step.NOTHING)
        for state in (INTENDED, UNSENT, ACCEPTED, FAILED, SUCCEEDED)
    ),
]


@pytest.mark.parametrize(("entry", "options", "same", "other"), TABLE)
def test_the_record_decides(entry, options, same, other):
    assert step(entry, **options) is same
    assert step(entry, job(prompt="other"), **options) is other


@pytest.mark.parametrize("entry", [row[0] for row in TABLE])
def test_a_video_that_the_job_names_is_adopted_whatever_is_on_record(entry):
    assert step(entry, job(existing="veo3:9")) is Step.ADOPT


@pytest.mark.parametrize(("entry", "options", "same", "other"), [row for row in TABLE if row[0] and row[0].veo_task_id])
def test_a_video_that_is_on_record_goes_on_by_whatever_name(entry, options, same, other):
    assert step(entry, job(existing="veo3:1"), **options) is same
    assert step(entry, job(existing="veo3:1", prompt="other"), **options) is same


def test_a_job_that_no_longer_names_its_video_is_not_paid_for_again():
    adopted = Entry.adopt(job(existing="veo3:9"), ACCOUNT, None)
    assert step(adopted, job()) is Step.WAIT
    assert step(adopted.ended(video("veo3:9")), job()) is Step.STORE


def test_a_video_is_adopted_once():
    asked = job(existing="veo3:9")
    adopted = Entry.adopt(asked, ACCOUNT, None)
    assert step(adopted, asked) is Step.WAIT
    assert step(adopted.ended(video("veo3:9")), asked) is Step.STORE
    failed = adopted.ended(video("veo3:9", "failed"))
    assert step(failed, asked) is Step.NOTHING
    assert step(failed, asked, attempts_per_video=2) is Step.SUBMIT
    again = Entry.intend(asked, ACCOUNT, failed)
    assert step(again, asked, attempts_per_video=2) is Step.NOTHING
    paid = again.accepted(video("veo3:10", "running"))
    assert step(paid, asked, attempts_per_video=2) is Step.WAIT


def test_a_job_that_names_a_video_is_not_paid_for_when_its_prompt_is_changed():
    adopted = Entry.adopt(job(existing="veo3:9"), ACCOUNT, None).ended(video("veo3:9"))
    assert step(adopted, job(existing="veo3:9", prompt="other")) is Step.STORE


def test_a_finished_job_is_not_submitted_again_to_another_account():
    for state in SUCCEEDED, STORED:
        assert next_step(job(), on_record(state), Account("veo_team"), Options(download=False)) is Step.NOTHING
