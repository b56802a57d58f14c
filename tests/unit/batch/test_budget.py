"""Money that may be spent: everything that was, or may have been, accepted is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_veo.batch.budget import Budget
from airflow_provider_veo.connection import VeoConnection
from airflow_provider_veo.protocol import VeoError
from airflow_provider_veo.protocol.prices import read
from tests.unit.batch.conftest import accepted, creates, intended, job, jobs, video

PRICES = {"veo3-fast": 0.4, "veo3": 2.0}


def budget(max_cost=None, prices=PRICES):
    settings = VeoConnection("veo_default", "https://relay.example.com", "sk-key", prices=read(prices))
    return Budget(settings, max_cost)


def room(budget, model="veo3-fast"):
    """Return how many more videos there is money for."""
    for count in range(1000):
        try:
            budget.commit(job(model=model))
        except VeoError:
            return count
    return None


def test_the_account_is_the_connection_whatever_its_url_and_key():
    assert budget().account.name == "veo_default"
    shared = VeoConnection("veo_b", "https://relay.example.com", "key", account="studio")
    assert Budget(shared).account.name == "studio"


@pytest.mark.parametrize(("max_cost", "count"), [(None, None), (0.0, 0), (0.39, 0), (0.4, 1), (4.0, 10), (4.39, 10)])
def test_number_of_videos_that_may_be_submitted(max_cost, count):
    assert room(budget(max_cost)) == count


def test_a_model_without_a_price_is_submitted_only_without_a_limit():
    unpriced = budget(1.0, prices={})
    assert unpriced.price(job()) is None
    assert room(budget(None, prices={})) is None
    with pytest.raises(VeoError, match=r"max_cost=1 can't be kept: veo3-fast has no known price"):
        unpriced.commit(job())


@given(st.integers(1, 400), st.decimals("0.01", "9.99", places=2))
def test_sums_of_decimals_are_not_off_by_a_rounding(count, price):
    exact = budget(float(price * count), prices={"veo3-fast": float(price)})
    assert room(exact) == count


def test_what_was_accepted_in_earlier_tries_is_counted():
    failed = accepted().ended(video(state="failed"))
    again = intended(before=failed, price=0.4).accepted_video(video("veo3:2"))
    begun = budget(4.0)
    begun.begin([job()], [again, accepted("gone", "veo3:3")])
    assert room(begun) == 7


def test_what_may_have_been_accepted_is_counted():
    begun = budget(4.0)
    begun.begin([job(), job("b")], [intended(before=accepted()), intended("b")])
    assert room(begun) == 7


def test_what_was_not_accepted_is_not_counted():
    begun = budget(4.0)
    begun.begin([job()], [intended().not_accepted("unsent", VeoError("x"), "1")])
    assert room(begun) == 10
    spent = budget(0.8)
    spent.commit(job())
    spent.release(job())
    assert room(spent) == 2


def test_the_refusal_says_what_is_spent_and_what_to_do():
    spent = budget(2.5)
    spent.commit(job(model="veo3"))
    spent.commit(job())
    with pytest.raises(VeoError, match=r"costs 0.4, and 2.4 of max_cost=2.5 is already.* Raise max_cost and clear"):
        spent.commit(job())


# --- at the relay ----------------------------------------------------------------------------------------------------


def test_nothing_is_submitted_after_the_prices_are_gone(relay, a_try, connect):
    """A connection may be edited while the task is deferred: no later process checks all jobs again."""
    connect(extra={"prices": {"veo3-fast": 0.4}})
    a_try(jobs(2), max_cost=1)
    connect(extra={"prices": {}})
    done = a_try(jobs(6), max_cost=1)
    assert done.counts == {"succeeded": 2, "not_submitted": 4}
    assert creates(relay) == 2


def test_failed_video_that_a_job_attaches_to_is_not_submitted_without_a_price(relay, a_try, connect):
    connect(extra={"prices": {"veo3": 0.4}})
    relay.set_faults("failed=no luck")
    there = a_try([job("dog")]).run.engine.records["dog"].veo_task_id
    assert a_try([job("cow", existing=there)], attempts_per_video=5, max_cost=1).counts == {"failed": 1}
    assert creates(relay) == 1


def test_videos_without_a_price_count_at_the_current_one(relay, a_try, connect):
    relay.set_faults("failed=no luck")
    a_try(jobs(2), attempts_per_video=2)
    connect(extra={"prices": {"veo3-fast": 1}})
    a_try(jobs(2), attempts_per_video=9, max_cost=5)
    assert creates(relay) == 5
