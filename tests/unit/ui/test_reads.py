"""Reads of a storage that is slow, or never answers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_provider_veo.ui import reads
from airflow_provider_veo.ui.reads import BusyError, Reads


def test_reads_above_the_limit_are_refused_and_later_ones_answered():
    hangs = threading.Event()
    running: set[int] = set()
    most = 0

    def read() -> str:
        nonlocal most
        running.add(threading.get_ident())
        most = max(most, len(running))
        hangs.wait(60)
        running.discard(threading.get_ident())
        return "read"

    async def ask_all() -> tuple[list[object], str]:
        pool = Reads(threads=4, waiting=12)
        asked = [asyncio.ensure_future(pool.run(read)) for _ in range(100)]
        while most < 4 and not all(each.done() for each in asked):
            await asyncio.sleep(0.01)  # the loop continues while the storage hangs
        hangs.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return answers, await pool.run(lambda: "later")

    answers, later = asyncio.run(ask_all())
    assert (answers.count("read"), later) == (16, "later")
    assert sum(isinstance(each, BusyError) for each in answers) == 84
    assert most == 4


def test_a_storage_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(reads, "DEADLINE_SECONDS", 0.2)
    hangs = threading.Event()

    async def ask() -> str:
        pool = Reads(threads=1, waiting=4)
        with pytest.raises(asyncio.TimeoutError):
            await pool.run(lambda: hangs.wait(60))
        with pytest.raises(asyncio.TimeoutError):  # its thread is taken
            await pool.run(lambda: None)
        hangs.set()
        monkeypatch.setattr(reads, "DEADLINE_SECONDS", 60)
        return await pool.run(lambda: "again")

    try:
        assert asyncio.run(ask()) == "again"
    finally:
        hangs.set()
