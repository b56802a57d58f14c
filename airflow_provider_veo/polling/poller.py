"""Polling for a video from an event loop, until it is ready."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import TYPE_CHECKING

from airflow_provider_veo.protocol import VeoError, VeoRateLimitError
from airflow_provider_veo.protocol.waiting import log_no_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_veo.log import Log
    from airflow_provider_veo.polling.clock import Clock
    from airflow_provider_veo.polling.rate_limiter import RateLimiter
    from airflow_provider_veo.protocol import VideoTask
    from airflow_provider_veo.protocol.waiting import Wait

    Poll = Callable[[str], Awaitable[VideoTask]]
    """Polls once for a video, by its id."""

TICK_SECONDS = 0.25
"""Polls are sent at multiples of this many seconds, up to that much later than they are due."""

POLLS_AT_ONCE = 20
"""Maximum concurrent polls that share a rate limiter."""


async def poll_until_ready(
    wait: Wait, poll: Poll, log: Log | None = None, tick: float = TICK_SECONDS, clock: Clock = time
) -> VideoTask:
    """
    Poll for a video until it is ready, as its :class:`~airflow_provider_veo.protocol.waiting.Wait` says.

    :param wait: the wait.
    :param poll: polls once.
    :param log: receives each new status; ``None`` for thousands of videos.
    :param tick: polls are sent at multiples of this many seconds.
    :param clock: the clock of the wait.
    :raises VeoError: polling again is of no use.
    """
    await _sleep(wait.seconds_to_first(clock.time(), random.random()), tick)  # noqa: S311  not for security
    while True:
        try:
            video = await poll(wait.veo_task_id)
        except VeoError as error:
            if log and wait.last_error is None:
                log_no_answer(log, wait.veo_task_id, error)
            wait.got_no_answer(error, clock.time())
        else:
            if ready := wait.answered(video, log):
                return ready
        await _sleep(wait.seconds_to_next(clock.time(), random.random()), tick)  # noqa: S311


def rate_limited(limiter: RateLimiter, poll: Poll) -> Poll:
    """Return a poll that waits for the rate limiter, and slows it down if the relay refuses."""
    # Without it, a poll that waits for a socket would be sent even after the relay asked for a pause.
    sockets = asyncio.Semaphore(POLLS_AT_ONCE)

    async def poll_in_turn(veo_task_id: str) -> VideoTask:
        async with sockets:
            await limiter.turn_to_poll()
            sent_at = limiter.clock.monotonic()
            try:
                video = await poll(veo_task_id)
            except VeoRateLimitError as error:
                limiter.slow_down(sent_at, error.retry_after)
                raise
            limiter.went_well(sent_at)
            return video

    return poll_in_turn


async def _sleep(seconds: float, tick: float) -> None:
    """Sleep until the first tick after ``seconds``: waits that are due together then wake the loop only once."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(math.ceil((now + seconds) / tick) * tick - now)
