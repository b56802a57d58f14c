"""Airflow's signals act only when they may: not between a relay's answer and its record."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from airflow_provider_veo.journal.signals import postponed_while


class TimedOut(BaseException):
    """Like Airflow's own: not an ``Exception``."""


@pytest.fixture(autouse=True)
def handler():
    def handle(number, frame):
        raise TimedOut

    before = signal.signal(signal.SIGALRM, handle)
    yield
    signal.signal(signal.SIGALRM, before)


def test_a_signal_acts_at_once_where_there_is_no_answer_yet():
    done = []
    with pytest.raises(TimedOut), postponed_while(lambda: False):
        signal.raise_signal(signal.SIGALRM)
        done.append("continued")
    assert done == []


def test_a_signal_waits_until_an_answer_is_on_record():
    done = []
    with pytest.raises(TimedOut), postponed_while(lambda: True):
        signal.raise_signal(signal.SIGALRM)
        done.append("recorded")
    assert done == ["recorded"]


def test_handlers_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGALRM)
    with postponed_while(lambda: True):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getsignal(signal.SIGALRM) is before


def test_execution_timeout_during_answer_keeps_the_id(relay, tmp_path, monkeypatch):
    """The relay's answer arrives slowly, and the timeout expires in the middle of it."""
    import logging
    from types import SimpleNamespace

    from airflow_provider_veo.hooks import VeoHook
    from airflow_provider_veo.journal import open_journal
    from airflow_provider_veo.operators.submit import Submitter
    from tests.unit.hooks.conftest import BODY

    monkeypatch.setenv("AIRFLOW__VEO__JOURNAL_PATH", f"file://{tmp_path}/journal")
    ti = SimpleNamespace(dag_id="nightly", run_id="r", task_id="make", map_index=-1)
    journal = open_journal({"ti": ti}, durable=True)
    relay.set_faults("drip=5")

    def time_out_when_it_was_accepted():
        while not relay.videos():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGALRM)

    hook = VeoHook()
    threading.Thread(target=time_out_when_it_was_accepted, daemon=True).start()
    with pytest.raises(TimedOut):
        Submitter(hook, journal, "fail", logging.getLogger("tests")).submit(BODY)
    hook.close()
    (video,) = relay.videos()
    assert journal.read().veo_task_id == video["id"]
