"""Polling a video until it is ready, with a rate limiter. Time is virtual, and the answers are scripted."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from airflow_provider_veo.polling.poller import POLLS_AT_ONCE, poll_until_ready, rate_limited
from airflow_provider_veo.polling.rate_limiter import RateLimiter
from airflow_provider_veo.protocol import (
    VeoAuthenticationError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoRateLimitError,
    VeoTimeoutError,
    VeoUnavailableError,
    VideoTask,
)
from airflow_provider_veo.protocol.waiting import Wait
from tests.unit.polling.virtual_time import VirtualTime

ID = "veo3:1-x"
RUNNING = VideoTask(id=ID, state="running", status="processing")
READY = VideoTask(id=ID, state="succeeded", status="completed", video_url="https://example.com/x.mp4")
FAILED = VideoTask(id=ID, state="failed", status="failed", error="blocked")


@pytest.fixture
def clock():
    clock = VirtualTime()
    yield clock
    clock.close()


class Both:
    """Epoch and monotonic seconds, years apart: who confuses them is found out."""

    def __init__(self, clock):
        self.monotonic = clock.monotonic
        self.time = lambda: clock.now + 1e9


def until_ready(clock, *arguments, **options):
    return clock.run(poll_until_ready(*arguments, clock=Both(clock), **options))


class Script:
    """Answers one after the other; the last one for ever."""

    def __init__(self, clock, *answers):
        self._clock = clock
        self._answers = list(answers)
        self.polled_at = []

    async def __call__(self, veo_task_id):
        self.polled_at.append(self._clock.now)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def wait(clock, **arguments):
    arguments = {"started": clock.now + 1e9, "timeout": 3600, "poll_interval": 15, **arguments}
    return Wait(ID, **arguments)


def test_it_polls_until_the_video_is_ready(clock):
    script = Script(clock, RUNNING, VeoUnavailableError("down"), RUNNING, READY)
    start = clock.now
    assert until_ready(clock, wait(clock), script) == READY
    assert len(script.polled_at) == 4
    assert script.polled_at[0] - start <= 15.3
    assert all(11.9 <= after - before <= 18.3 for before, after in itertools.pairwise(script.polled_at))


def test_first_poll_is_not_before_the_video_can_be_ready(clock):
    script = Script(clock, READY)
    start = clock.now
    until_ready(clock, wait(clock, due=start + 1e9 + 60), script)
    assert 60 <= script.polled_at[0] - start <= 75.3


def test_polls_are_sent_at_ticks(clock):
    script = Script(clock, RUNNING, RUNNING, RUNNING, READY)
    until_ready(clock, wait(clock), script, tick=0.5)
    assert [moment % 0.5 for moment in script.polled_at] == pytest.approx([0.0] * 4, abs=0.001)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (FAILED, VeoGenerationFailedError),
        (VeoAuthenticationError("no"), VeoAuthenticationError),
        (RUNNING, VeoTimeoutError),
        (VeoNotFoundError("unknown"), VeoNotFoundError),
        (VeoUnavailableError("down"), VeoUnavailableError),
    ],
)
def test_it_ends_with_what_no_further_poll_can_change(clock, answer, kind):
    script = Script(clock, answer)
    start = clock.now
    with pytest.raises(kind):
        until_ready(clock, wait(clock), script)
    assert clock.now - start < 3602


def test_deadline_that_has_passed_still_allows_one_poll(clock):
    script = Script(clock, READY)
    start = clock.now
    assert until_ready(clock, wait(clock, started=clock.now + 1e9 - 99999), script) == READY
    assert script.polled_at[0] - start < 1
    script = Script(again := VirtualTime(), RUNNING)
    with pytest.raises(VeoTimeoutError):
        until_ready(again, wait(clock, started=clock.now + 1e9 - 99999), script)
    assert len(script.polled_at) == 1


def test_each_status_and_the_first_error_are_logged(clock, caplog):
    caplog.set_level("INFO")
    answers = [RUNNING, RUNNING, VeoUnavailableError("down"), VeoUnavailableError("down"), READY]
    until_ready(clock, wait(clock), Script(clock, *answers), logging.getLogger("test"))
    assert [record.message.split(":")[0] for record in caplog.records if record.name == "test"] == [
        "Video veo3",
        "Polling video veo3",
        "Video veo3",
    ]


# --- at a limited rate -----------------------------------------------------------------------------------------------


def test_polls_keep_to_the_rate(clock):
    script = Script(clock, READY)
    poll = rate_limited(RateLimiter(60, clock), script)

    async def scenario():
        await asyncio.gather(*(poll(ID) for _ in range(100)))

    clock.run(scenario())
    assert len(script.polled_at) == 100
    assert script.polled_at[-1] - script.polled_at[0] == pytest.approx(99, abs=0.1)


def test_refusal_slows_down_and_is_logged(clock):
    script = Script(clock, VeoRateLimitError("slow", retry_after=40), READY)
    limiter = RateLimiter(60, clock)
    poll = rate_limited(limiter, script)

    async def scenario():
        with pytest.raises(VeoRateLimitError):
            await poll(ID)
        await asyncio.gather(poll(ID), poll(ID))

    clock.run(scenario())
    first, second, third = script.polled_at
    assert second - first >= 40
    assert 1.8 <= third - second <= 2.01


def test_other_errors_do_not_change_the_rate(clock):
    script = Script(clock, *[VeoUnavailableError("down")] * 3, READY)
    poll = rate_limited(RateLimiter(60, clock), script)

    async def scenario():
        for _ in range(3):
            with pytest.raises(VeoUnavailableError):
                await poll(ID)
        await poll(ID)

    clock.run(scenario())
    assert script.polled_at[-1] - script.polled_at[0] == pytest.approx(3, abs=0.1)


def test_what_goes_well_makes_it_faster_again(clock):
    script = Script(clock, VeoRateLimitError("slow"), READY)
    poll = rate_limited(RateLimiter(60, clock), script)

    async def scenario():
        with pytest.raises(VeoRateLimitError):
            await poll(ID)
        for _ in range(40):
            await poll(ID)

    clock.run(scenario())
    assert script.polled_at[2] - script.polled_at[1] > 1.8
    assert script.polled_at[-1] - script.polled_at[-2] == pytest.approx(1, abs=0.01)


def test_silence_holds_for_those_who_wait_for_a_socket_too(clock):
    sent = []
    slow = asyncio.Event()

    async def poll(veo_task_id):
        sent.append(clock.now)
        if len(sent) == 1:
            raise VeoRateLimitError("slow", retry_after=100)
        await slow.wait()
        return READY

    async def scenario():
        poll_in_turn = rate_limited(RateLimiter(clock=clock), poll)
        start = clock.now
        waits = [asyncio.ensure_future(poll_in_turn(ID)) for _ in range(500)]
        await asyncio.sleep(99)
        assert len(sent) <= POLLS_AT_ONCE + 1
        slow.set()
        await asyncio.wait(waits)
        assert sum(moment - start < 100 for moment in sent) <= POLLS_AT_ONCE + 1
        assert isinstance(waits[0].exception(), VeoRateLimitError)
        assert len(sent) == 500

    clock.run(scenario())


def test_a_wait_that_is_cancelled_gives_its_turn_back(clock):
    slow = asyncio.Event()

    async def poll(veo_task_id):
        await slow.wait()
        return READY

    async def scenario():
        poll_in_turn = rate_limited(RateLimiter(clock=clock), poll)
        waits = [asyncio.ensure_future(poll_in_turn(ID)) for _ in range(2 * POLLS_AT_ONCE)]
        await asyncio.sleep(1)
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        slow.set()
        assert await poll_in_turn(ID) == READY

    clock.run(scenario())
