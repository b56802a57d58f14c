"""Asking for a video until it is there, and at a limiter. Time is virtual; what is asked is scripted, not a relay."""

from __future__ import annotations

import asyncio
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
        self.asked = []

    async def __call__(self, veo_task_id):
        self.asked.append(self._clock.now)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def wait(clock, **arguments):
    arguments = {"started": clock.now + 1e9, "timeout": 3600, "poll_interval": 15, **arguments}
    return Wait(ID, **arguments)


def test_it_asks_until_the_video_is_there(clock):
    script = Script(clock, RUNNING, VeoUnavailableError("down"), RUNNING, READY)
    start = clock.now
    assert until_ready(clock, wait(clock), script) == READY
    assert len(script.asked) == 4
    assert script.asked[0] - start <= 15.3
    assert all(11.9 <= after - before <= 18.3 for before, after in zip(script.asked, script.asked[1:], strict=False))


def test_the_first_question_is_not_asked_before_the_video_can_be_ready(clock):
    script = Script(clock, READY)
    start = clock.now
    until_ready(clock, wait(clock, due=start + 1e9 + 60), script)
    assert 60 <= script.asked[0] - start <= 75.3


def test_questions_go_out_at_ticks(clock):
    script = Script(clock, RUNNING, RUNNING, RUNNING, READY)
    until_ready(clock, wait(clock), script, tick=0.5)
    assert [moment % 0.5 for moment in script.asked] == pytest.approx([0.0] * 4, abs=0.001)


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
def test_it_ends_with_what_no_further_question_can_change(clock, answer, kind):
    script = Script(clock, answer)
    start = clock.now
    with pytest.raises(kind):
        until_ready(clock, wait(clock), script)
    assert clock.now - start < 3602


def test_a_deadline_that_has_passed_still_allows_one_question(clock):
    script = Script(clock, READY)
    start = clock.now
    assert until_ready(clock, wait(clock, started=clock.now + 1e9 - 99999), script) == READY
    assert script.asked[0] - start < 1
    script = Script(again := VirtualTime(), RUNNING)
    with pytest.raises(VeoTimeoutError):
        until_ready(again, wait(clock, started=clock.now + 1e9 - 99999), script)
    assert len(script.asked) == 1


def test_each_status_and_the_first_trouble_are_logged(clock, caplog):
    caplog.set_level("INFO")
    answers = [RUNNING, RUNNING, VeoUnavailableError("down"), VeoUnavailableError("down"), READY]
    until_ready(clock, wait(clock), Script(clock, *answers), logging.getLogger("test"))
    assert [record.message.split(":")[0] for record in caplog.records if record.name == "test"] == [
        "Video veo3",
        "Polling video veo3",
        "Video veo3",
    ]


# --- at a limited rate -----------------------------------------------------------------------------------------------


def test_questions_keep_the_pace(clock):
    script = Script(clock, READY)
    ask = rate_limited(RateLimiter(60, clock), script)

    async def scenario():
        await asyncio.gather(*(ask(ID) for _ in range(100)))

    clock.run(scenario())
    assert len(script.asked) == 100
    assert script.asked[-1] - script.asked[0] == pytest.approx(99, abs=0.1)


def test_a_refusal_slows_down_and_is_told(clock):
    script = Script(clock, VeoRateLimitError("slow", retry_after=40), READY)
    limiter = RateLimiter(60, clock)
    ask = rate_limited(limiter, script)

    async def scenario():
        with pytest.raises(VeoRateLimitError):
            await ask(ID)
        await asyncio.gather(ask(ID), ask(ID))

    clock.run(scenario())
    first, second, third = script.asked
    assert second - first >= 40
    assert 1.8 <= third - second <= 2.01


def test_other_errors_do_not_change_the_pace(clock):
    script = Script(clock, *[VeoUnavailableError("down")] * 3, READY)
    ask = rate_limited(RateLimiter(60, clock), script)

    async def scenario():
        for _ in range(3):
            with pytest.raises(VeoUnavailableError):
                await ask(ID)
        await ask(ID)

    clock.run(scenario())
    assert script.asked[-1] - script.asked[0] == pytest.approx(3, abs=0.1)


def test_what_goes_well_makes_it_faster_again(clock):
    script = Script(clock, VeoRateLimitError("slow"), READY)
    ask = rate_limited(RateLimiter(60, clock), script)

    async def scenario():
        with pytest.raises(VeoRateLimitError):
            await ask(ID)
        for _ in range(40):
            await ask(ID)

    clock.run(scenario())
    assert script.asked[2] - script.asked[1] > 1.8
    assert script.asked[-1] - script.asked[-2] == pytest.approx(1, abs=0.01)


def test_silence_holds_for_those_who_wait_for_a_socket_too(clock):
    sent = []
    slow = asyncio.Event()

    async def ask(veo_task_id):
        sent.append(clock.now)
        if len(sent) == 1:
            raise VeoRateLimitError("slow", retry_after=100)
        await slow.wait()
        return READY

    async def scenario():
        ask_in_turn = rate_limited(RateLimiter(clock=clock), ask)
        start = clock.now
        waits = [asyncio.ensure_future(ask_in_turn(ID)) for _ in range(500)]
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

    async def ask(veo_task_id):
        await slow.wait()
        return READY

    async def scenario():
        ask_in_turn = rate_limited(RateLimiter(clock=clock), ask)
        waits = [asyncio.ensure_future(ask_in_turn(ID)) for _ in range(2 * POLLS_AT_ONCE)]
        await asyncio.sleep(1)
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        slow.set()
        assert await ask_in_turn(ID) == READY

    clock.run(scenario())
