"""The record of a job's last submission: how it changes, and which of two records wins."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_veo.connection import Account
from airflow_provider_veo.journal.submission import (
    ACCEPTED,
    FAILED,
    INTENDED,
    REFUSED,
    STORED,
    SUCCEEDED,
    UNSENT,
    Submission,
    digest_of,
    earlier_digest_of,
)
from airflow_provider_veo.protocol import VeoQuotaError, VeoTimeoutError
from airflow_provider_veo.protocol.prices import exact
from tests.unit.batch.conftest import ACCOUNT, accepted, intended, job, video, wanted

STATES = (INTENDED, UNSENT, REFUSED, ACCEPTED, FAILED, SUCCEEDED, STORED)
PAID = (ACCEPTED, FAILED, SUCCEEDED, STORED)


def at(state, token="t", veo_task_id="veo3:1"):
    """Make a record in a state."""
    record = dataclasses.replace(intended(), token=token, state=state)
    return dataclasses.replace(record, veo_task_id=veo_task_id) if state in PAID else record


def fold(records):
    """Read records as a journal does."""
    held = None
    for record in records:
        held = held.newer(record) if held else record
    return held


def test_the_digests_are_the_same_in_every_version():
    """Fixed values. If this fails, every batch is billed again after an upgrade."""
    body = {
        "prompt": "牛飞上天了",
        "model": "veo3.1-components",
        "images": ["https://example.com/a.png"],
        "aspect_ratio": "9:16",
        "enhance_prompt": True,
        "enable_upsample": False,
        "seed": 7,
    }
    for each in body, dict(reversed(body.items())):
        assert digest_of(each) == "59cc8bd04ce003c7c176547251bca5cd"
        assert earlier_digest_of(each, ACCOUNT.earlier, None) == "474f9c8c7acecfabf76634038c9f6dc3"


@pytest.mark.parametrize(
    "other",
    [
        job(prompt="other"),
        job(model="veo3"),
        job(aspect_ratio="9:16"),
        job(extra_body={"s": 1}),
    ],
)
def test_different_requests_have_different_digests(other):
    assert digest_of(other.body) != digest_of(job().body)
    assert not intended().asks_for(wanted(other))


def test_request_ignores_account_and_named_video():
    for account in ACCOUNT, Account("veo_team"):
        assert intended().asks_for(wanted(job(), account))
        assert intended().asks_for(wanted(job(existing="veo3:9"), account))


@pytest.mark.parametrize("named", [None, "veo3:9"])
def test_records_of_an_earlier_version_are_compared_by_its_digest(named):
    old = dataclasses.replace(intended(), account=None, digest=earlier_digest_of(job().body, ACCOUNT.earlier, named))
    old = dataclasses.replace(old, state=ACCEPTED, veo_task_id=named or "veo3:1", accepted_at=old.intended_at)
    assert old.asks_for(wanted(job()))
    assert old.has_adopted(wanted(job(existing="veo3:9"))) is (named is not None)
    assert not old.asks_for(wanted(job(prompt="other")))


def test_a_submission_counts_itself_and_what_it_cost():
    first = intended(price=0.4).accepted_video(video("veo3:1", "running"))
    assert (first.state, first.attempt, first.cost, first.earlier) == (ACCEPTED, 1, exact(0.4), ())
    second = Submission.intend(wanted(job()), first.ended(video("veo3:1", "failed", error="blocked")), exact(0.4))
    assert (second.state, second.attempt, second.cost, second.earlier) == (INTENDED, 2, exact(0.4), ("veo3:1",))
    assert second.token != first.token
    again = Submission.intend(wanted(job()), second.not_accepted(UNSENT, VeoQuotaError("no money"), "1"), exact(0.4))
    assert (again.attempt, again.cost, again.earlier) == (2, exact(0.4), ("veo3:1",))
    done = again.accepted_video(video("veo3:2", "running"))
    assert (done.attempt, done.cost, done.earlier, done.failure) == (2, exact(0.8), ("veo3:1",), None)


def blocked(record, veo_task_id="veo3:1"):
    return record.accepted_video(video(veo_task_id, "running")).ended(
        video(veo_task_id, "failed", error="blocked by the safety filter")
    )


def test_blocked_submissions_are_counted_apart():
    price = exact(0.4)
    first = blocked(intended(price=price))
    assert (first.is_blocked, first.attempt, first.blocked) == (True, 1, 1)
    second = Submission.intend(wanted(job()), first, price)
    assert (second.attempt, second.blocked, second.cost, second.earlier) == (1, 1, price, ("veo3:1",))
    again = blocked(Submission.intend(wanted(job()), second.not_accepted(UNSENT, VeoQuotaError("no"), "1"), price))
    assert (again.attempt, again.blocked, again.cost) == (1, 2, 2 * price)
    assert not first.accepted("veo3:2").is_blocked


def test_reworded_prompt_is_still_the_same_request():
    ready = blocked(intended()).with_prompt("a calm cow")
    assert (ready.times_blocked, ready.failure) == (0, None)
    sent = Submission.intend(wanted(job()), ready)
    done = sent.accepted_video(video("veo3:2"))
    for record in ready, sent, done, Submission.intend(wanted(job()), done.ended(video("veo3:2", "failed"))):
        assert record.asks_for(wanted(job()))
        assert record.body_for(wanted(job())) == {**job().body, "prompt": "a calm cow"}
        assert Submission.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert blocked(sent, "veo3:2").times_blocked == 1


def test_changed_request_forgets_the_reworded_prompt():
    ready, changed = blocked(intended()).with_prompt("a calm cow"), wanted(job(prompt="other"))
    assert ready.body_for(changed) == changed.body
    other = Submission.intend(changed, ready)
    assert (other.reworded, other.blocked, other.body_for(changed)) == (None, 0, changed.body)


def test_person_who_looks_for_a_video_is_told_the_reworded_prompt():
    first = Submission.of(job().body, account="veo_default")
    assert "prompt: prompt of cow" in first.describe()
    assert "prompt: a calm cow" in first.following(first.with_prompt("a calm cow")).describe()


@pytest.mark.parametrize("field", [{"blocked": -1}, {"blocked": True}, {"blocked": "1"}, {"reworded": 1}])
def test_invalid_counts_and_prompts_are_refused(field):
    with pytest.raises(ValueError, match=f"invalid {next(iter(field))}"):
        Submission.from_dict({**accepted().to_dict(), **field})


def test_new_request_resets_attempts_and_keeps_cost():
    other = Submission.intend(wanted(job(prompt="other")), accepted())
    assert (other.attempt, other.cost, other.earlier) == (1, exact(0.4), ("veo3:1",))


def test_unknown_price_makes_cost_unknown():
    first = intended().accepted_video(video())
    assert first.cost is None
    assert Submission.intend(wanted(job()), first, exact(0.4)).accepted_video(video("veo3:2")).cost is None


def test_what_may_have_been_billed_stays_on_record():
    unknown = intended(price=0.4)
    assert (unknown.cost, unknown.may_have_cost) == (exact(0.0), exact(0.4))
    again = Submission.intend(wanted(job()), unknown, exact(0.5))
    assert (again.cost, again.may_have_cost) == (exact(0.0), exact(0.9))
    done = again.accepted_video(video())
    assert (done.cost, done.may_have_cost) == (exact(0.5), exact(0.4))
    assert Submission.from_dict(json.loads(json.dumps(done.to_dict()))).may_have_cost == exact(0.4)


def test_adopted_video_of_unknown_outcome_keeps_its_price():
    found = Submission.adopt(wanted(job(existing="veo3:1")), intended(price=0.4))
    assert (found.cost, found.may_have_cost) == (exact(0.4), 0)
    other = Submission.adopt(wanted(job(existing="veo3:1")), intended(price=0.4, prompt="other"))
    assert (other.cost, other.may_have_cost) == (exact(0.0), exact(0.4))


def test_a_video_that_is_adopted_costs_nothing():
    adopted = Submission.adopt(wanted(job(existing="veo3:9")), None)
    assert (adopted.state, adopted.veo_task_id, adopted.cost, adopted.attempt) == (ACCEPTED, "veo3:9", exact(0.0), 1)
    instead = Submission.adopt(wanted(job(existing="veo3:9")), accepted())
    assert (instead.veo_task_id, instead.cost, instead.earlier) == ("veo3:9", exact(0.4), ("veo3:1",))
    again = Submission.adopt(wanted(job(existing="veo3:9", prompt="other")), adopted)
    assert (again.veo_task_id, again.earlier) == ("veo3:9", ())


def test_enhanced_prompt_of_create_answer_is_kept():
    first = intended().accepted_video(video("veo3:1", "running", enhanced_prompt="A cow, cinematic"))
    assert first.ended(video("other-id")).video["enhanced_prompt"] == "A cow, cinematic"
    assert first.ended(video(enhanced_prompt="later")).video["enhanced_prompt"] == "later"
    assert first.ended(video("other-id")).veo_task_id == "veo3:1"


def test_next_try_continues_what_a_try_gave_up():
    record = accepted().given_up(VeoTimeoutError("too late", veo_task_id="veo3:1"), "b")
    assert record.of_try("b") is record
    assert record.of_try("c").failure is None


@pytest.mark.parametrize("state", STATES)
def test_a_record_comes_back_as_it_was(state):
    record = at(state).given_up(VeoTimeoutError("too late", status_code=504, retry_after=3.5), "b")
    assert Submission.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    unknown = dataclasses.replace(record, cost=None, earlier=("a", "b"))
    # Airflow's task state store takes JSON's own types only.
    assert unknown.to_dict() == json.loads(json.dumps(unknown.to_dict()))
    assert Submission.from_dict(json.loads(json.dumps(unknown.to_dict()))) == unknown


GOOD = at(ACCEPTED).to_dict()


@pytest.mark.parametrize(
    "broken",
    [
        None,
        7,
        "text",
        [],
        {},
        {**GOOD, "state": "paid"},
        {**GOOD, "veo_task_id": None},
        {**GOOD, "veo_task_id": ""},
        {**GOOD, "veo_task_id": 7},
        {**GOOD, "state": INTENDED},
        {**GOOD, "state": ["accepted"]},
        {**GOOD, "key": ""},
        {**GOOD, "key": 7},
        {**GOOD, "token": ["t"]},
        {**GOOD, "cost": "0.4"},
        {**GOOD, "attempt": "2"},
        {**GOOD, "earlier": "veo3:1"},
        {**GOOD, "earlier": [7]},
        {**GOOD, "earlier": {"a": "b"}},
        {**GOOD, "price": float("inf")},
        {**GOOD, "video": "x"},
        {**GOOD, "trouble": "x"},
        {**GOOD, "intended_at": "yesterday"},
        {**GOOD, "accepted_at": "yesterday"},
        *({name: value for name, value in GOOD.items() if name != left_out} for left_out in ("digest", "token")),
    ],
)
def test_invalid_records_are_refused(broken):
    with pytest.raises(ValueError, match=r"not the record|expected a JSON object"):
        Submission.from_dict(broken)


@pytest.mark.parametrize("states", list(itertools.permutations(STATES, 2)))
def test_record_that_knows_more_wins(states):
    """An acceptance wins, whichever record is read first."""
    one, other = (at(state) for state in states)
    held = one.newer(other)
    assert held in (one, other)
    assert (held.state in PAID) == (one.state in PAID or other.state in PAID)
    if INTENDED in states:
        assert held.state != INTENDED


@given(st.permutations(STATES))
def test_final_state_is_independent_of_order(states):
    assert fold(at(state) for state in states).state == STORED


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(STATES)), min_size=1))
def test_last_of_several_submissions_wins(steps):
    records = [at(state, token) for token, state in steps]
    held = fold(records)
    last = steps[-1][0]
    assert held.token == last
    run = list(itertools.takewhile(lambda step: step[0] == last, reversed(steps)))
    assert (held.state in PAID) == any(state in PAID for _, state in run)


@given(st.lists(st.sampled_from(STATES), min_size=1), st.lists(st.sampled_from(STATES), min_size=1))
def test_compacted_records_equal_their_parts(first, second):
    """A compacted file is equivalent to the files that it replaces."""
    one, other = [at(state) for state in first], [at(state) for state in second]
    assert fold([fold(one), fold(other)]).state == fold([*one, *other]).state
