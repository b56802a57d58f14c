"""How fast requests are sent: at most as many per minute as a user allows, and slower where the relay asks for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from airflow_provider_veo.protocol.waiting import PATIENCE_SECONDS

_MINUTE = 60.0
_SLOWEST = 1.0
"""Requests a minute. What the relay asks for by ``Retry-After`` is waited for in any case."""
_SLOWER = 0.5
_FASTER = 1.05
"""Factors of the rate, for a refusal and for a request that went well: it has doubled after fourteen of them."""
_UNBOUNDED = 6000.0
"""Requests per minute above which a rate that nobody has set is lifted."""
_BURST_SECONDS = 1.0
_LEAST_MEASURED_SECONDS = 10.0
"""The rate is measured over at least this long: the first few requests of all say nothing."""


class RateLimiter:
    """
    Limits the rate of all requests of a process to one relay.

    It begins as fast as is allowed. A refusal for too many requests halves it, once for all requests that were on the
    way, and stops everything for as long as the relay asks; each request that goes well makes it a little faster.

    :param per_minute: the most requests a minute; ``None``: as many as come.
    """

    def __init__(self, per_minute: float | None = None) -> None:
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
        """For how long the relay wants to hear nothing."""
        return max(0.0, self._held_until - time.monotonic())

    def hold(self, until: float | None) -> None:
        """
        Send nothing before a time that the relay has told another process.

        :param until: epoch seconds.
        """
        if until is not None:
            self._held_until = max(self._held_until, time.monotonic() + until - time.time())

    @property
    def held_until(self) -> float | None:
        """Until when the relay wants to hear nothing, in epoch seconds; ``None``: it has not said so."""
        return time.time() + self.seconds_held if self.seconds_held else None

    async def turn(self, most: int = 1) -> int:
        """
        Wait until a request may be sent. Who waits first is served first.

        :param most: how many could be sent at once.
        :return: how many may be; at most what the rate allows in a second, and at least one.
        """
        async with self._turns:  # thousands may wait: only the first of them looks at the clock
            while (now := time.monotonic()) < (ready := max(self._next, self._held_until)):
                await asyncio.sleep(ready - now)
            return self._take(now, most)

    async def turn_to_poll(self) -> None:
        """Wait until a poll may be sent."""
        async with self._turns_to_poll:
            while (now := time.monotonic()) < (ready := self._ready_to_poll()):
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
        Take in that the relay refused a request for now.

        :param sent_at: when the request was sent, on the monotonic clock.
        :param retry_after: seconds that the relay asks to wait. Half an hour at most is waited for: a wait without an
            end would hide that something is wrong.
        """
        now = time.monotonic()
        self._held_until = max(self._held_until, now + min(retry_after or 0.0, PATIENCE_SECONDS))
        if sent_at < self._slowed_at:
            return  # it was on the way already when another one was refused
        self._slowed_at = now
        rate = self._rate if self._rate is not None else self._measured(now)
        self._rate = max(_SLOWEST, rate * _SLOWER)
        self._next = max(self._next, now + _MINUTE / self._rate)

    def went_well(self, sent_at: float = math.inf) -> None:
        """
        Take in that the relay took a request.

        :param sent_at: when it was sent, on the monotonic clock. One that was on the way before another one was
            refused says nothing about the rate since.
        """
        if self._rate is None or self._rate == self._most or sent_at < self._slowed_at:
            return
        self._rate *= _FASTER
        if self._most is not None:
            self._rate = min(self._rate, self._most)
        elif self._rate >= _UNBOUNDED:
            self._rate = None
