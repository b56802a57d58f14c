"""How many creates may be sent: by free slots, by what became of those before, and by what is on the way."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from airflow_provider_veo.batch.backoff import FAULTS, FIRST_PROBE_SECONDS, RelayBackoff
from airflow_provider_veo.batch.options import Options
from airflow_provider_veo.batch.slots import CREATES_AT_ONCE, Slots
from airflow_provider_veo.polling.rate_limiter import RateLimiter
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoRateLimitError,
    VeoUnavailableError,
    VeoWrongHostError,
)


@pytest.fixture
def backoff():
    return RelayBackoff(RateLimiter())


@pytest.fixture
def clock():
    clock = SimpleNamespace(now=1000.0, time=time.time)
    clock.monotonic = lambda: clock.now
    return clock


def slots(backoff, **options):
    return Slots(Options(**{"max_in_flight": 100, "deferrable": True, **options}), backoff)


def test_creates_in_flight_are_limited(backoff):
    free = slots(backoff)
    found = [free.room(50, on_the_way, on_the_way) for on_the_way in range(CREATES_AT_ONCE + 1)]
    assert found == [5, 4, 3, 2, 1, 0]
    assert free.room(2, 0, 0) == 2
    assert free.room(0, 0, 0) == 0
    assert slots(backoff, max_in_flight=3).room(50, 2, 0) == 1


def test_single_slot_is_used_after_a_poll_interval(backoff, clock):
    free = Slots(Options(max_in_flight=100, poll_interval=15), backoff, clock)
    assert free.room(50, 99, 0) == 0
    clock.now += 10
    assert free.room(50, 99, 0) == 0
    assert free.seconds_to_room(50, 99, 0) == 5
    clock.now += 5
    assert free.room(50, 99, 0) == 1


def test_each_fault_leaves_room_for_fewer(backoff):
    free = slots(backoff)
    backoff.fault(VeoAmbiguousSubmitError("lost"))
    assert [free.room(50, each, each) for each in range(4)] == [2, 1, 0, 0]
    backoff.fault(VeoAmbiguousSubmitError("lost"))
    assert free.room(50, 0, 0) == 1
    backoff.accepted(time.monotonic())
    assert free.room(50, 0, 0) == CREATES_AT_ONCE


def test_after_three_faults_one_probe_is_sent_at_a_time_ever_later(clock):
    backoff = RelayBackoff(RateLimiter(clock=clock))
    free = slots(backoff)
    for _ in range(FAULTS):
        backoff.fault(VeoAmbiguousSubmitError("lost"))
    wait = FIRST_PROBE_SECONDS
    for _ in range(4):
        assert free.room(50, 0, 0) == 0
        assert free.seconds_to_room(50, 0, 0) == pytest.approx(wait)
        clock.now += wait
        assert free.room(50, 0, 0) == 1
        # While it is on the way there is nothing to wait for but its answer.
        assert free.room(50, 1, 1) == 0
        assert free.seconds_to_room(50, 1, 1) is None
        backoff.fault(VeoAmbiguousSubmitError("lost"))
        wait *= 2
    backoff.accepted(clock.now)
    assert free.room(50, 0, 0) == CREATES_AT_ONCE


@pytest.mark.parametrize(
    ("error", "is_fault"),
    [
        (VeoUnavailableError("not reached"), True),
        (VeoWrongHostError("a status page", status_code=404), True),
        (VeoUnavailableError("no channel", status_code=503), False),
        (VeoRateLimitError("slow down", status_code=429), False),
    ],
)
def test_refusal_by_the_relay_is_not_a_fault_of_the_connection(backoff, error, is_fault):
    assert backoff.refused(error, time.monotonic())
    assert not backoff.refused(error, time.monotonic())
    assert (backoff.faults == 2) is is_fault
    assert backoff.refused_since


def test_new_process_starts_carefully():
    assert slots(RelayBackoff(RateLimiter(), faults=FAULTS)).room(50, 0, 0) == 1
