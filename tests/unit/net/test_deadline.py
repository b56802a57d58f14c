"""Deadlines: each shuts its own sockets down in time, in a forked process, too."""

from __future__ import annotations

import os
import socket
import time

import pytest

from airflow_provider_veo.net.deadline import Deadline

LONG = 60.0


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(LONG)
    with ours, theirs:
        yield ours


def ended_by(deadline, reader):
    """Return the seconds until a blocked read ends."""
    started = time.monotonic()
    deadline.watch(reader)
    try:
        assert reader.recv(1) == b""
        return time.monotonic() - started
    finally:
        deadline.cancel()


def test_a_blocked_read_ends(pair):
    deadline = Deadline(0.1)
    assert ended_by(deadline, pair) < LONG / 2
    assert deadline.is_over.is_set()


def test_an_earlier_deadline_does_not_wait_for_a_later_one(pair):
    later = Deadline(LONG)
    assert ended_by(Deadline(0.1), pair) < LONG / 2
    assert not later.is_over.is_set()
    later.cancel()


def test_a_socket_watched_after_the_deadline_ends_at_once(pair):
    deadline = Deadline(0.0)
    assert deadline.is_over.wait(LONG)
    assert ended_by(deadline, pair) < LONG / 2


def test_a_cancelled_deadline_ends_nothing(pair):
    cancelled, other = Deadline(0.05), Deadline(0.1)
    cancelled.watch(pair)
    cancelled.cancel()
    assert other.is_over.wait(LONG)
    assert not cancelled.is_over.is_set()
    pair.settimeout(0.1)
    with pytest.raises(TimeoutError):
        pair.recv(1)


def test_a_forked_process_has_a_watchdog_of_its_own(pair):
    Deadline(LONG)  # the thread of this process runs, and does not run in the other
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if ended_by(Deadline(0.1), pair) < LONG / 2 else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
