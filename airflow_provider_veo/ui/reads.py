"""
Storage reads of the page, in a few threads of their own.

A storage may be slow, or never answer. A request waits for it without holding a thread of the API server or a database
session, and no longer than a deadline. A stuck thread keeps its slot until the storage answers, so that their number is
bounded. They are daemon threads and don't delay the server's shutdown.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_veo.ui.access import Root

DEADLINE_SECONDS = 15.0
"""Maximum time of one storage call, including the wait for a thread."""
RETRY_AFTER_SECONDS = 2
THREADS = 8
WAITING = 24
_SECONDS_BETWEEN_TRIES = 0.1
_MAX_ROOTS = 32
_T = TypeVar("_T")


class BusyError(Exception):
    """The maximum number of reads are running or waiting."""


class Reads:
    """
    Reads of one root. A storage that does not answer does not block other roots.

    :param threads: maximum number of running reads.
    :param waiting: maximum number of waiting reads.
    """

    def __init__(self, threads: int = THREADS, waiting: int = WAITING) -> None:
        self._free = threading.BoundedSemaphore(threads + waiting)
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads_left = threads

    async def run(self, act: Callable[[], _T]) -> _T:
        """
        Run a function in one of the threads and return its result.

        :raises BusyError: too many reads are running or waiting.
        :raises asyncio.TimeoutError: it takes longer than :data:`DEADLINE_SECONDS`.
        """
        return await asyncio.wait_for(asyncio.wrap_future(self._submit(act)), DEADLINE_SECONDS)

    async def run_in_turn(self, act: Callable[[], _T]) -> _T:
        """Like :meth:`run`, but wait if too many are running: for responses that have begun."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                return await self.run(act)
            except BusyError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_SECONDS_BETWEEN_TRIES)

    def _submit(self, act: Callable[[], _T]) -> Future[_T]:
        if not self._free.acquire(blocking=False):
            raise BusyError
        future: Future[_T] = Future()
        self._queue.put((future, act))
        with self._lock:
            starts = self._threads_left > 0
            self._threads_left -= starts
        if starts:
            threading.Thread(target=self._work, name="veo-page-reads", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            future, act = self._queue.get()
            if future.set_running_or_notify_cancel():
                try:
                    result = act()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del future, act  # don't keep a file open until the next read
            self._free.release()


@lru_cache(maxsize=_MAX_ROOTS)
def reads_of(root: Root) -> Reads:
    """Return the reads of a root."""
    return Reads()
