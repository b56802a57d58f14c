"""Money that may be spent: everything that was, or may have been, accepted is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_veo.batch.budget import Budget
from airflow_provider_veo.connection import VeoConnection
from airflow_provider_veo.protocol import VeoError
from airflow_provider_veo.protocol.prices import read
from tests.unit.batch.conftest import accepted, intended, job, video

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


def test_a_model_without_a_price_costs_nothing_that_is_known():
    unpriced = budget(1.0, prices={})
    assert unpriced.price(job()) is None
    assert room(unpriced) is None


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
