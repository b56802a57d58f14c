"""How fast requests go out: as many a minute as a user allows, and slower where the relay asks for it."""

from __future__ import annotations

import asyncio
import time
from collections import deque

_MINUTE = 60.0
_SLOWEST = 1.0
"""Requests a minute. What the relay asks for by ``Retry-After`` is waited for in any case."""
_SLOWER = 0.5
_FASTER = 1.05
"""Factors of the pace, for a refusal and for a request that went well: it has doubled again after fourteen of them."""
_UNBOUNDED = 6000.0
"""Requests a minute from which on a pace that nobody has set is none any more."""
_BURST_SECONDS = 1.0


class Pace:
    """
    The pace of all requests of a process to one relay.

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

    @property
    def seconds_held(self) -> float:
        """For how long the relay wants to hear nothing."""
        return max(0.0, self._held_until - time.monotonic())

    async def turn(self, most: int = 1) -> int:
        """
        Wait until a request may be sent.

        :param most: how many could be sent at once.
        :return: how many may be; what the pace allows in a second at most, and one at least.
        """
        while (now := time.monotonic()) < (ready := max(self._next, self._held_until)):
            await asyncio.sleep(ready - now)
        count = most
        if self._rate is not None:
            count = max(1, min(most, int(self._rate * _BURST_SECONDS / _MINUTE)))
            self._next = now + count * _MINUTE / self._rate
        self._sent.extend([now] * count)
        while self._sent and self._sent[0] < now - _MINUTE:
            self._sent.popleft()
        return count

    def slow_down(self, sent_at: float, retry_after: float | None = None) -> None:
        """
        Take in that the relay refused a request for now.

        :param sent_at: when the request was sent, on the monotonic clock.
        :param retry_after: seconds that the relay asks to wait.
        """
        now = time.monotonic()
        self._held_until = max(self._held_until, now + (retry_after or 0.0))
        if sent_at < self._slowed_at:
            return  # it was on the way already when another one was refused
        self._slowed_at = now
        rate = self._rate if self._rate is not None else float(len(self._sent))
        self._rate = max(_SLOWEST, rate * _SLOWER)
        self._next = max(self._next, now + _MINUTE / self._rate)

    def went_well(self) -> None:
        """Take in that the relay took a request."""
        if self._rate is None or self._rate == self._most:
            return
        self._rate *= _FASTER
        if self._most is not None:
            self._rate = min(self._rate, self._most)
        elif self._rate >= _UNBOUNDED:
            self._rate = None
