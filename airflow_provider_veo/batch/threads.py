"""Runs in threads what takes a while and isn't asynchronous: storing files, and functions of the user."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.journal.submission import Submission

_T = TypeVar("_T")
_SECONDS_TO_END = 5.0


class Threads(Generic[_T]):
    """
    Calls a function for jobs, in its own threads.

    :param function: called with a job and its record.
    :param at_once: maximum number of calls at a time.
    :param name: prefix of the names of the threads.
    """

    def __init__(self, function: Callable[[Job, Submission], _T], at_once: int, name: str) -> None:
        self._function = function
        self._slots = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix=name)

    async def call(self, job: Job, record: Submission) -> _T:
        """
        Call the function for a job, and return what it returns.

        :raises VeoError: raised by the function.
        """
        call = partial(contextvars.copy_context().run, self._called, job, record)  # with the current span
        async with self._slots:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _called(self, job: Job, record: Submission) -> _T:
        try:
            return self._function(job, record)
        except Exception:
            raise
        except BaseException as error:  # it would end the event loop before the answers are on record
            raise RuntimeError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Start no more calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Aside:
    """
    Calls functions in a thread, one after the other. Nobody waits for them but :meth:`end`.

    :param name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def do(self, act: Callable[..., None], *args: Any) -> None:
        """Call a function that raises nothing."""
        self._thread.submit(act, *args)

    async def end(self) -> None:
        """Wait a few seconds for the last calls."""
        last = asyncio.get_running_loop().run_in_executor(self._thread, int)
        await asyncio.wait([last], timeout=_SECONDS_TO_END)
        self._thread.shutdown(wait=False, cancel_futures=True)
