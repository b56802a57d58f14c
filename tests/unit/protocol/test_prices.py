"""Prices per video and per second, exact to the last digit."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_veo.protocol import VeoValidationError
from airflow_provider_veo.protocol.prices import Price, exact, number, read, written

AMOUNTS = st.decimals(0, 1_000_000, places=6)


def price(value, **body):
    return Price.of(value).of_video({"model": "veo3", **body})


@pytest.mark.parametrize(
    ("value", "amount"), [(0.4, "0.4"), (2, "2"), ("0.40", "0.4"), (0, "0"), (1e-7, "0.0000001"), (1e6, "1000000")]
)
def test_a_price_per_video_is_read_as_it_is_written(value, amount):
    assert price(value, seconds="8") == Decimal(amount)


@pytest.mark.parametrize(
    ("value", "seconds", "amount"),
    [
        ({"per_second": 0.75}, "8", "6"),
        ({"per_second": 0.1}, 3, "0.3"),
        ({"per_second": 0.1}, 2.5, "0.25"),
        ({"per_second": "0.1", "seconds": 8}, "4", "0.4"),
        ({"per_second": 0.1, "seconds": "8"}, None, "0.8"),
    ],
)
def test_a_price_per_second(value, seconds, amount):
    assert price(value, seconds=seconds) == Decimal(amount)


@pytest.mark.parametrize(
    "seconds", [None, "auto", "", 0, -8, 1e-9, "0.001", "1e9", float("nan"), True, [8], {"a": 8}, "9" * 5000]
)
def test_without_valid_seconds_a_price_per_second_is_unknown(seconds):
    assert price({"per_second": 0.75}, seconds=seconds) is None


def test_invalid_seconds_are_not_replaced_by_those_of_the_price():
    assert price({"per_second": 0.75, "seconds": 8}, seconds="auto") is None


WRONG = [
    *("cheap", "", None, True, -1, -0.1, float("nan"), float("inf"), "NaN", 1e7, 10**400, "1" * 50, [1], 0.1234567891),
    *({}, {"per_second": None}, {"per_second": -1}, {"per_minute": 1}, {"per_second": 1, "second": 8}),
    *({"per_second": 1, "seconds": 0}, {"per_second": 1, "seconds": "long"}, {"per_second": {"per_second": 1}}),
]


def test_all_mistakes_are_reported_together():
    with pytest.raises(VeoValidationError) as caught:
        read({"right": 1, **{f"wrong {index}": value for index, value in enumerate(WRONG)}})
    assert len(caught.value.mistakes) == len(WRONG)
    assert caught.value.mistakes[0] == (
        "prices: wrong 0: expected the price of one video as a number, such as 0.4, or of one second as "
        '{"per_second": 0.05, "seconds": 8}, got \'cheap\''
    )
    assert max(map(len, caught.value.mistakes)) < 300


@given(st.lists(AMOUNTS, min_size=1, max_size=50))
def test_a_sum_survives_json(amounts):
    total = sum(amounts)
    assert exact(json.loads(json.dumps(number(total)))) == total
    assert Decimal(written(total)) == total
    assert "E" not in written(total)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.dictionaries(st.text(), st.floats()), st.none()))
def test_any_value_is_a_price_or_a_mistake(value):
    try:
        found = Price.of(value)
    except ValueError:
        return
    assert 0 <= found.amount <= 1_000_000
