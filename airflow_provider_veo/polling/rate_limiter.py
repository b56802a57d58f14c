"""Limits the request rate to what the user allows, and lower if the relay asks for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING

from airflow_provider_veo.protocol.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from airflow_provider_veo.polling.clock import Clock

_MINUTE = 60.0
_SLOWEST = 1.0
"""Requests per minute. A ``Retry-After`` of the relay is waited for in any case."""
_SLOWER = 0.5
_FASTER = 1.05
"""Factors of the rate, after a refusal and after a success: fourteen successes double it."""
_UNBOUNDED = 6000.0
"""Requests per minute above which the rate is no longer limited, if the user set no limit."""
_BURST_SECONDS = 1.0
_LEAST_MEASURED_SECONDS = 10.0
"""Minimum time over which the rate is measured: the first few requests say nothing."""


class RateLimiter:
    """
    Limits the rate of all requests of a process to one relay.

    It starts at the maximum rate. A refusal for too many requests halves the rate, once for all requests in flight, and
    pauses everything for as long as the relay asks; each success raises the rate a little.

    :param per_minute: maximum requests per minute; ``None``: no limit.
    :param clock: the clock of its times.
    """

    def __init__(self, per_minute: float | None = None, clock: Clock = time) -> None:
        self.clock = clock
        self._most = per_minute
        self._rate = per_minute
        self._next = 0.0
        self._held_until = 0.0
        self._slowed_at = 0.0
        self._sent: deque[float] = deque()
        self._turns = asyncio.Lock()
        self._turns_to_poll = asyncio.Lock()
        self._next_poll = 0.0
        self.has_creates = False
        """Whether there are videos to submit. Polls then take at most half of the rate."""

    @property
    def seconds_held(self) -> float:
        """How long the relay still wants no requests."""
        return max(0.0, self._held_until - self.clock.monotonic())

    def hold(self, until: float | None) -> None:
        """
        Send nothing before a time that the relay gave to another process.

        :param until: epoch seconds.
        """
        if until is not None:
            self._held_until = max(self._held_until, self.clock.monotonic() + until - self.clock.time())

    @property
    def held_until(self) -> float | None:
        """Epoch seconds until when the relay wants no requests; ``None``: it has not said so."""
        return self.clock.time() + self.seconds_held if self.seconds_held else None

    async def turn(self, most: int = 1) -> int:
        """
        Wait until a request may be sent. Waiters are served in order.

        :param most: how many could be sent at once.
        :return: how many may be sent: at least one, and at most what the rate allows in a second.
        """
        async with self._turns:  # thousands may wait: only the first of them checks the clock
            while (now := self.clock.monotonic()) < (ready := max(self._next, self._held_until)):
                await asyncio.sleep(ready - now)
            return self._take(now, most)

    async def turn_to_poll(self) -> None:
        """Wait until a poll may be sent."""
        async with self._turns_to_poll:
            while (now := self.clock.monotonic()) < (ready := self._ready_to_poll()):
                await asyncio.sleep(ready - now)
            self._take(now, 1)
            self._next_poll = now + 2 * _MINUTE / self._rate if self._rate is not None else 0.0

    def _ready_to_poll(self) -> float:
        return max(self._next, self._held_until, self._next_poll if self.has_creates else 0.0)

    def _take(self, now: float, most: int) -> int:
        count = most
        if self._rate is not None:
            count = max(1, min(most, int(self._rate * _BURST_SECONDS / _MINUTE)))
            self._next = now + count * _MINUTE / self._rate
        self._sent.extend([now] * count)
        while self._sent and self._sent[0] < now - _MINUTE:
            self._sent.popleft()
        return count

    def _measured(self, now: float) -> float:
        recent = [sent for sent in self._sent if sent >= now - _MINUTE]
        return len(recent) * _MINUTE / max(now - min(recent, default=now), _LEAST_MEASURED_SECONDS)

    def slow_down(self, sent_at: float, retry_after: float | None = None) -> None:
        """
        Record that the relay temporarily refused a request.

        :param sent_at: when the request was sent, on the monotonic clock.
        :param retry_after: seconds that the relay asks to wait; capped at half an hour, as an endless wait would hide
            an error.
        """
        now = self.clock.monotonic()
        self._held_until = max(self._held_until, now + min(retry_after or 0.0, PATIENCE_SECONDS))
        if sent_at < self._slowed_at:
            return  # it was already in flight when another one was refused
        self._slowed_at = now
        rate = self._rate if self._rate is not None else self._measured(now)
        self._rate = max(_SLOWEST, rate * _SLOWER)
        self._next = max(self._next, now + _MINUTE / self._rate)

    def went_well(self, sent_at: float = math.inf) -> None:
        """
        Record that the relay accepted a request.

        :param sent_at: when it was sent, on the monotonic clock. A request sent before the last refusal says nothing
            about the rate since.
        """
        if self._rate is None or self._rate == self._most or sent_at < self._slowed_at:
            return
        self._rate *= _FASTER
        if self._most is not None:
            self._rate = min(self._rate, self._most)
        elif self._rate >= _UNBOUNDED:
            self._rate = None
