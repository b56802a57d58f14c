"""Asking for a video from an event loop, until it is there."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import TYPE_CHECKING

from airflow_provider_veo.protocol import VeoError, VeoRateLimitError
from airflow_provider_veo.protocol.waiting import log_answer, log_no_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from logging import Logger

    from airflow_provider_veo.pace import Pace
    from airflow_provider_veo.protocol import VideoTask
    from airflow_provider_veo.protocol.waiting import Wait

    Ask = Callable[[str], Awaitable[VideoTask]]
    """Sends one question about a video, by its id."""

TICK_SECONDS = 0.25
"""Questions are sent at multiples of this, up to so much later than they are due."""

AT_ONCE = 20
"""At most so many questions that share a pace are on the way at once."""


async def until_ready(wait: Wait, ask: Ask, log: Logger | None = None, tick: float = TICK_SECONDS) -> VideoTask:
    """
    Ask for a video until it is there, as its :class:`~airflow_provider_veo.protocol.waiting.Wait` says.

    :param wait: the wait.
    :param ask: sends one question.
    :param log: gets to know of each new status; ``None`` where thousands are waited for.
    :param tick: questions are sent at multiples of so many seconds.
    :raises VeoError: asking again is no use.
    """
    await _sleep(wait.seconds_to_first(time.time(), random.random()), tick)  # noqa: S311  it spreads, it hides nothing
    while True:
        before = wait.last
        try:
            video = await ask(wait.veo_task_id)
        except VeoError as error:
            if log and wait.trouble is None:
                log_no_answer(log, wait.veo_task_id, error)
            wait.got_no_answer(error, time.time())
        else:
            if log:
                log_answer(log, before, video)
            if wait.answered(video):
                return video
        await _sleep(wait.seconds_to_next(time.time(), random.random()), tick)  # noqa: S311


def at_pace(pace: Pace, ask: Ask) -> Ask:
    """Return what asks as the pace allows, and slows it down where the relay says so."""
    # Without it, what waits for a socket would go out after the relay has asked for silence.
    sockets = asyncio.Semaphore(AT_ONCE)

    async def ask_in_turn(veo_task_id: str) -> VideoTask:
        async with sockets:
            await pace.turn_to_ask()
            sent_at = time.monotonic()
            try:
                video = await ask(veo_task_id)
            except VeoRateLimitError as error:
                pace.slow_down(sent_at, error.retry_after)
                raise
            pace.went_well(sent_at)
            return video

    return ask_in_turn


async def _sleep(seconds: float, tick: float) -> None:
    """Sleep until the next tick after so many seconds: waits that are due together then wake the loop only once."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(math.ceil((now + seconds) / tick) * tick - now)
