"""Stores the files of a batch in threads, a few at a time."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.journal.submission import Submission

AT_ONCE = 4


class Downloads:
    """
    Stores files in its own threads.

    :param store: stores the file of a job, and returns its metadata.
    """

    def __init__(self, store: Callable[[Job, Submission], Mapping[str, Any]]) -> None:
        self._store = store
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="veo-download")

    async def store(self, job: Job, record: Submission) -> Mapping[str, Any]:
        """
        Store the file of a job.

        :raises VeoError: the file could not be stored.
        """
        store = partial(contextvars.copy_context().run, self._store, job, record)  # with the current span
        async with self._slots:
            return await asyncio.get_running_loop().run_in_executor(self._threads, store)

    def close(self) -> None:
        """Start no more downloads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
