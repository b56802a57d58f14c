"""Time that passes at once: where an event loop would wait, its clock jumps."""

from __future__ import annotations

import asyncio
import selectors


class VirtualTime(asyncio.SelectorEventLoop):
    """
    An event loop that never waits, and its clock.

    For what opens no socket only.
    """

    def __init__(self):
        self.now = 1_000_000.0
        super().__init__(_Jumping(self))

    def time(self):
        return self.now

    monotonic = time

    def run(self, coroutine):
        try:
            return self.run_until_complete(asyncio.wait_for(coroutine, 1e6))
        finally:
            self.close()


class _Jumping(selectors.SelectSelector):
    def __init__(self, clock):
        super().__init__()
        self._clock = clock

    def select(self, timeout=None):
        assert timeout is not None, "everything waits for ever"
        self._clock.now += max(timeout, 1e-6)  # no loop that only looks at the clock is endless
        return super().select(0)
