"""How fast requests go out. Time is virtual: minutes pass at once."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_veo.polling.rate_limiter import RateLimiter
from tests.unit.polling.virtual_time import VirtualTime


@pytest.fixture
def clock():
    clock = VirtualTime()
    yield clock
    clock.close()


async def requests(clock, limiter, seconds):
    """Send one request after the other for ``seconds``, and return when each was sent."""
    end = clock.now + seconds
    sent = []
    while True:
        await limiter.turn()
        if clock.now > end:
            return sent
        sent.append(clock.now)


def test_without_a_rate_nothing_waits(clock):
    async def scenario():
        limiter = RateLimiter(clock=clock)
        before = clock.now
        await asyncio.gather(*(limiter.turn() for _ in range(1000)))
        assert await limiter.turn(500) == 500
        assert clock.now - before < 0.1

    clock.run(scenario())


@pytest.mark.parametrize("per_minute", [1, 30, 60, 600])
def test_a_minute_sees_no_more_requests_than_is_allowed(clock, per_minute):
    sent = clock.run(requests(clock, RateLimiter(per_minute, clock), 600))
    assert per_minute * 10 - 1 <= len(sent) <= per_minute * 10 + 1
    for start in sent:
        assert sum(start <= moment < start + 59.99 for moment in sent) <= per_minute


def test_it_holds_for_many_who_wait_at_once_and_the_first_is_served_first(clock):
    async def scenario():
        limiter, served = RateLimiter(60, clock), []

        async def one(number):
            await limiter.turn()
            served.append((number, clock.now))

        start = clock.now
        await asyncio.gather(*(one(number) for number in range(100)))
        assert [number for number, _ in served] == list(range(100))
        assert [round(moment - start) for _, moment in served] == list(range(100))

    clock.run(scenario())


def test_cancelled_wait_takes_no_turn(clock):
    async def scenario():
        limiter = RateLimiter(60, clock)
        await limiter.turn()
        start = clock.now
        waiting = [asyncio.ensure_future(limiter.turn()) for _ in range(10)]
        await asyncio.sleep(0.5)
        for task in waiting[:9]:
            task.cancel()
        await waiting[9]
        assert clock.now - start == pytest.approx(1.0, abs=0.01)

    clock.run(scenario())


@pytest.mark.parametrize(("per_minute", "most", "count"), [(600, 32, 10), (600, 4, 4), (60, 32, 1), (6, 32, 1)])
def test_turn_for_many_is_worth_a_second_of_the_rate(clock, per_minute, most, count):
    async def scenario():
        limiter = RateLimiter(per_minute, clock)
        start, sent = clock.now, 0
        while clock.now - start < 599:
            got = await limiter.turn(most)
            assert got == count
            sent += got
        assert sent <= per_minute * 10 + count

    clock.run(scenario())


def test_refusal_halves_the_rate(clock):
    async def scenario():
        limiter = RateLimiter(120, clock)
        await limiter.turn()
        limiter.slow_down(clock.now)
        assert len(await requests(clock, limiter, 600)) == pytest.approx(600, abs=2)

    clock.run(scenario())


def test_the_refusals_of_requests_that_were_on_the_way_halve_it_once(clock):
    async def scenario():
        limiter = RateLimiter(120, clock)
        sent_at = clock.now
        await asyncio.sleep(1)
        for _ in range(20):
            limiter.slow_down(sent_at)
            await asyncio.sleep(0.01)
        assert len(await requests(clock, limiter, 600)) == pytest.approx(600, abs=2)
        limiter.slow_down(clock.now)  # this one was sent at the new rate
        assert len(await requests(clock, limiter, 600)) == pytest.approx(300, abs=2)

    clock.run(scenario())


def test_unbounded_rate_is_slowed_to_half_of_what_was_sent(clock):
    async def scenario():
        limiter = RateLimiter(clock=clock)
        for _ in range(600):
            await limiter.turn()
            await asyncio.sleep(0.25)
        limiter.slow_down(clock.now)
        assert len(await requests(clock, limiter, 600)) == pytest.approx(1200, rel=0.05)

    clock.run(scenario())


def test_first_refusal_does_not_stop_everything(clock):
    async def scenario():
        limiter = RateLimiter(clock=clock)
        for _ in range(10):
            await limiter.turn()
        limiter.slow_down(clock.now)
        assert 20 <= len(await requests(clock, limiter, 60)) <= 40

    clock.run(scenario())


def test_it_never_stops_altogether(clock):
    async def scenario():
        limiter = RateLimiter(60, clock)
        for _ in range(50):
            limiter.slow_down(clock.now)
            await asyncio.sleep(1)
        assert len(await requests(clock, limiter, 600)) == pytest.approx(10, abs=1)

    clock.run(scenario())


def test_the_relays_patience_holds_everything(clock):
    async def scenario():
        limiter = RateLimiter(600, clock)
        start = clock.now
        waiting = [asyncio.ensure_future(limiter.turn()) for _ in range(50)]
        await asyncio.sleep(1)
        before = sum(task.done() for task in waiting)
        limiter.slow_down(start, retry_after=100)
        assert limiter.seconds_held == pytest.approx(100)
        await asyncio.sleep(99)
        # One at most had its turn already and goes out; nobody begins another one.
        assert sum(task.done() for task in waiting) == before
        assert limiter.seconds_held == pytest.approx(1, abs=0.1)
        await asyncio.gather(*waiting)
        assert clock.now - start > 101
        assert limiter.seconds_held == 0

    clock.run(scenario())


def test_a_shorter_patience_does_not_end_a_longer_one(clock):
    async def scenario():
        limiter = RateLimiter(clock=clock)
        limiter.slow_down(clock.now, retry_after=100)
        limiter.slow_down(clock.now, retry_after=1)
        assert limiter.seconds_held == pytest.approx(100)

    clock.run(scenario())


def test_a_patience_of_days_is_not_waited_for(clock):
    async def scenario():
        limiter = RateLimiter(clock=clock)
        start = clock.now
        limiter.slow_down(clock.now, retry_after=1e9)
        await limiter.turn()
        assert clock.now - start == pytest.approx(1800, abs=1)

    clock.run(scenario())


def test_it_recovers_to_what_is_allowed_and_no_further(clock):
    async def scenario():
        limiter = RateLimiter(120, clock)
        limiter.slow_down(clock.now)
        for _ in range(14):
            await limiter.turn()
            limiter.went_well(clock.now)
        assert len(await requests(clock, limiter, 600)) == pytest.approx(1190, rel=0.02)
        for _ in range(100):
            limiter.went_well(clock.now)
        assert len(await requests(clock, limiter, 600)) == pytest.approx(1200, abs=2)

    clock.run(scenario())


def test_rate_that_nobody_has_set_is_lifted_in_the_end(clock):
    async def scenario():
        limiter = RateLimiter(clock=clock)
        await limiter.turn()
        limiter.slow_down(clock.now)
        start = clock.now
        for _ in range(200):
            await limiter.turn()
            limiter.went_well(clock.now)
        assert clock.now - start < 1800
        assert await limiter.turn(500) == 500

    clock.run(scenario())


def test_what_was_in_flight_before_a_refusal_does_not_speed_up(clock):
    async def scenario():
        limiter = RateLimiter(120, clock)
        sent_at = clock.now
        await asyncio.sleep(1)
        limiter.slow_down(sent_at)
        for _ in range(50):
            limiter.went_well(sent_at)
        assert len(await requests(clock, limiter, 600)) == pytest.approx(600, abs=2)

    clock.run(scenario())


def test_limits_reported_to_another_process_apply_here(clock):
    async def scenario():
        before, limiter = RateLimiter(clock=clock), RateLimiter(clock=clock)
        before.slow_down(clock.now, retry_after=90)
        told_at = clock.now
        limiter.hold(None)
        assert limiter.held_until is None
        limiter.hold(before.held_until)
        await limiter.turn()
        assert clock.now - told_at == pytest.approx(90, abs=0.1)
        assert limiter.held_until is None

    clock.run(scenario())


@pytest.mark.parametrize(("has_creates", "creates", "polls"), [(True, 30, 30), (False, 0, 60)])
def test_polls_take_half_of_the_rate_while_there_is_something_to_submit(clock, has_creates, creates, polls):
    """At 60 requests a minute and 100 videos in flight, 3.3 of them were creates."""

    async def polls_once(limiter, polled):
        while True:
            await limiter.turn_to_poll()
            polled.append(clock.now)

    async def submits(limiter, sent):
        while True:
            sent += [clock.now] * await limiter.turn(5)

    async def scenario():
        limiter, sent, polled = RateLimiter(60, clock), [], []
        limiter.has_creates = has_creates
        tasks = [asyncio.ensure_future(polls_once(limiter, polled)) for _ in range(100)]
        tasks += [asyncio.ensure_future(submits(limiter, sent))] if has_creates else []
        await asyncio.sleep(600)
        for task in tasks:
            task.cancel()
        assert len(sent) / 10 >= creates - 1
        assert len(polled) / 10 == pytest.approx(polls, abs=1)

    clock.run(scenario())
