"""
Deadlines of requests: they shut sockets down, which ends reads and writes blocked in another thread.

One thread of a process watches over all of them, since a thread for each request would take longer than the request's
own work. A process that is forked has a thread of its own.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import socket
import threading
import time
from typing import Any


class Deadline:
    """
    Shuts sockets down when its time is over.

    :param seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_cancelled = False
        _watchdog.add(self, time.monotonic() + seconds)

    def watch(self, connected: Any) -> None:
        """Put a socket, or a reader of one, under this deadline."""
        # A duplicate: TLS detaches the descriptor, and the number of a closed one may be reused.
        duplicate = socket.socket(fileno=os.dup(connected.fileno()))
        with self._lock:
            self._sockets.append(duplicate)
            if self.is_over.is_set():
                _shut_down(duplicate)

    def cancel(self) -> None:
        """Release all sockets."""
        with self._lock:
            self._is_cancelled = True
            while self._sockets:
                self._sockets.pop().close()

    def end(self) -> None:
        """Shut all sockets down, unless the deadline was cancelled."""
        with self._lock:
            if self._is_cancelled:
                return
            self.is_over.set()
            for each in self._sockets:
                _shut_down(each)


class _Watchdog:
    """Ends deadlines in time, in a thread that starts with the first one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._deadlines: list[tuple[float, int, Deadline]] = []
        """A heap: when, a serial number, and what."""
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline, when: float) -> None:
        """End a deadline at a time of the monotonic clock."""
        with self._changed:
            heapq.heappush(self._deadlines, (when, next(self._numbers), deadline))
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="veo-deadlines", daemon=True)
                self._thread.start()
            elif self._deadlines[0][2] is deadline:
                self._changed.notify()

    def _watch(self) -> None:
        while True:
            self._next().end()

    def _next(self) -> Deadline:
        """Wait for the next deadline."""
        with self._changed:
            while True:
                left = self._deadlines[0][0] - time.monotonic() if self._deadlines else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._deadlines)[-1]
                self._changed.wait(left)


_watchdog = _Watchdog()


def _begin_anew() -> None:
    """In a forked process, there is no thread, and a lock may be held by one that is not there."""
    global _watchdog
    _watchdog = _Watchdog()


os.register_at_fork(after_in_child=_begin_anew)


def _shut_down(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
