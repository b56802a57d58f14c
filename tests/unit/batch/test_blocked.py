"""Videos that the safety filter blocks: how often they are submitted again, and with which prompt."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from tests.unit.batch.conftest import creates, ids_at, job, jobs
from tests.unit.batch.test_engine import outcomes_at
from tests.unit.batch.test_engine_faults import Ended, when

BLOCKED = "failed=blocked by the safety filter"
K001 = "prompt of k001"
OTHER = "a calm cow"


def accepted(relay):
    return relay.stats()["accepted_by_prompt"]


def rows_of(done):
    return {row["key"]: row for row in done.results.rows()}


@pytest.fixture
def on_blocked():
    """A function that returns another prompt, and remembers its calls."""

    def reword(prompt, reason, key):
        reword.calls.append((prompt, reason, key))
        return reword.returns

    reword.calls, reword.returns = [], OTHER
    return reword


def test_a_blocked_prompt_is_submitted_once_more(relay, a_try, caplog):
    relay.set_faults(f"{BLOCKED}@prompt=k001,1")
    done = a_try(jobs(3))
    assert done.counts == {"succeeded": 3}
    assert rows_of(done)["k001"]["attempts"] == 2
    assert accepted(relay)[K001] == 2
    assert "was blocked (1 of at most 2 submissions of this prompt): blocked by the safety filter" in caplog.text


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_a_prompt_that_stays_blocked_is_submitted_up_to_the_limit(relay, a_try, attempts):
    relay.set_faults(f"{BLOCKED}@prompt=k001")
    for _ in range(2):
        done = a_try(jobs(2), attempts_if_blocked=attempts)
        assert done.counts == {"succeeded": 1, "blocked": 1}
        assert done.errors == {"k001": "blocked by the safety filter"}
        assert accepted(relay)[K001] == attempts + 1
    assert {*rows_of(done)["k001"]["earlier_ids"], rows_of(done)["k001"]["id"]} <= ids_at(relay)


def test_a_raised_limit_submits_only_the_difference(relay, a_try):
    relay.set_faults(BLOCKED)
    a_try(jobs(1), attempts_if_blocked=1)
    a_try(jobs(1), attempts_if_blocked=2)
    assert creates(relay) == 3


def test_blocked_videos_are_no_failed_attempts(relay, a_try):
    relay.set_faults(f"{BLOCKED}@prompt=k001,1", "failed=no luck@prompt=k001,2")
    done = a_try(jobs(2))
    assert (done.states["k001"], done.errors["k001"]) == ("failed", "no luck")
    assert accepted(relay)[K001] == 2
    assert a_try(jobs(2), attempts_per_video=2).counts == {"succeeded": 2}
    assert accepted(relay)[K001] == 3


def test_failed_attempts_do_not_reset_the_limit(relay, a_try):
    relay.set_faults(f"{BLOCKED}@1", "failed=no luck@2", f"{BLOCKED}@3+")
    done = a_try(jobs(1), attempts_per_video=9, attempts_if_blocked=1)
    assert done.counts == {"blocked": 1}
    assert creates(relay) == 3


def test_blocked_attempts_count_in_the_budget(relay, a_try, connect):
    connect(extra={"prices": {"veo3-fast": 0.4}})
    relay.set_faults(BLOCKED)
    done = a_try(jobs(3), attempts_if_blocked=5, max_cost=2.0)
    assert done.counts == {"blocked": 3}
    assert relay.stats()["accepted"] == 5
    assert done.results.cost == 2.0
    assert all(
        error.startswith("blocked by the safety filter\nIt costs 0.4, and 2 of max_cost=2")
        for error in done.errors.values()
    )


def test_reworded_prompt_is_submitted_when_the_given_one_stays_blocked(relay, a_try, on_blocked):
    relay.set_faults(f"{BLOCKED}@prompt=k001")
    for _ in range(2):
        done = a_try(jobs(3), on_blocked=on_blocked)
        assert done.counts == {"succeeded": 3}
        assert on_blocked.calls == [(K001, "blocked by the safety filter", "k001")]
    assert accepted(relay) == {"prompt of k000": 1, K001: 2, "prompt of k002": 1, OTHER: 1}
    row = rows_of(done)["k001"]
    assert (row["reworded_prompt"], row["request"]["prompt"], row["attempts"]) == (OTHER, K001, 3)
    assert rows_of(done)["k000"]["reworded_prompt"] is None


def test_reworded_prompt_has_attempts_of_its_own_and_is_not_reworded_again(relay, a_try, on_blocked):
    relay.set_faults(BLOCKED)
    for _ in range(2):
        done = a_try(jobs(1), on_blocked=on_blocked)
        assert (done.counts, len(on_blocked.calls)) == ({"blocked": 1}, 1)
    assert accepted(relay) == {"prompt of k000": 2, OTHER: 2}


def test_without_attempts_a_blocked_prompt_is_reworded_at_once(relay, a_try, on_blocked):
    relay.set_faults(f"{BLOCKED}@prompt=k000")
    assert a_try(jobs(1), attempts_if_blocked=0, on_blocked=on_blocked).counts == {"succeeded": 1}
    assert accepted(relay) == {"prompt of k000": 1, OTHER: 1}


def test_the_function_may_take_the_prompt_only(relay, a_try):
    relay.set_faults(f"{BLOCKED}@prompt=k000")
    assert a_try(jobs(1), on_blocked=lambda it: it.replace("k000", "a calm cow")).counts == {"succeeded": 1}


def test_jobs_that_are_blocked_together_are_reworded_one_after_the_other(relay, a_try):
    relay.set_faults(f"{BLOCKED}@prompt=prompt of")
    calls, most = [], []

    def reword(prompt):
        calls.append(prompt)
        most.append(len(calls))
        time.sleep(0.02)
        calls.remove(prompt)
        return prompt.replace("prompt of", "calm")

    assert a_try(jobs(8), on_blocked=reword).counts == {"succeeded": 8}
    assert (len(most), max(most)) == (8, 1)


def test_slow_function_holds_up_nobody_else(relay, a_try):
    relay.set_faults(f"{BLOCKED}@prompt=k000")
    others_are_done = threading.Event()

    def reword(prompt):
        assert others_are_done.wait(20)
        return OTHER

    def begun(run):
        when(lambda: len(relay.stats()["accepted_by_prompt"]) == 6, others_are_done.set)

    assert a_try(jobs(6), max_in_flight=1, begun=begun, on_blocked=reword).counts == {"succeeded": 6}


def raises(prompt):
    raise ZeroDivisionError("sk-secret")


def exits(prompt):
    sys.exit("no credentials for the language model")


class Shy:
    def __repr__(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raises, "on_blocked raised ZeroDivisionError"),
        (lambda prompt, unknown: OTHER, "on_blocked raised TypeError"),
        (exits, "on_blocked raised SystemExit"),
        (lambda prompt: [Shy()], "on_blocked raised NotImplementedError"),
        (lambda prompt: None, "on_blocked returned no other prompt"),
        (lambda prompt: "", "prompt: expected a non-empty string, got ''"),
        (lambda prompt: 42, "prompt: expected a non-empty string, got 42"),
        (lambda prompt: prompt, "prompt: expected another prompt, got the one that was blocked"),
        (lambda prompt: "a\x00b", "prompt: expected text without NUL characters and lone surrogates"),
        (lambda prompt: "a" * 20_001, "prompt: expected at most 20,000 characters, got 20,001"),
    ],
)
def test_function_that_returns_no_valid_prompt_costs_nothing(relay, a_try, function, said):
    relay.set_faults(f"{BLOCKED}@prompt=k000")
    done = a_try(jobs(2), attempts_if_blocked=0, on_blocked=function)
    assert done.counts == {"succeeded": 1, "blocked": 1}
    assert done.errors["k000"].startswith("blocked by the safety filter\n")
    assert said in done.errors["k000"]
    assert "sk-secret" not in done.errors["k000"]
    assert creates(relay) == 2
    assert a_try(jobs(2), outcomes={}, attempts_if_blocked=0, on_blocked=raises).errors == done.errors  # the same try
    assert a_try(jobs(2), attempts_if_blocked=0, on_blocked=lambda prompt: OTHER).counts == {"succeeded": 2}
    assert accepted(relay)[OTHER] == 1


def test_thread_that_ends_the_process_ends_it_after_the_answers_are_on_record(
    relay, a_try, monkeypatch, journal_of_batch
):
    relay.set_faults(f"{BLOCKED}@prompt=k000", "slow=1@3+")
    monkeypatch.setattr("tests.unit.batch.conftest.other_prompt", lambda *arguments: sys.exit("a library's"))
    done = a_try(jobs(9), attempts_if_blocked=0, on_blocked=raises)
    assert "SystemExit: a library's" in str(done.error)
    assert {record.veo_task_id for record in journal_of_batch().read().values()} == ids_at(relay)


def test_changed_request_is_submitted_in_place_of_the_reworded_one(relay, a_try, on_blocked):
    relay.set_faults(BLOCKED)
    a_try([job("cow")], on_blocked=on_blocked)
    done = a_try([job("cow", prompt="a cow swims")])
    assert done.counts == {"blocked": 1}
    assert accepted(relay) == {"prompt of cow": 2, OTHER: 2, "a cow swims": 2}
    assert rows_of(done)["cow"]["reworded_prompt"] is None


def test_blocked_video_that_a_job_attaches_to_is_not_submitted(relay, a_try, on_blocked):
    relay.set_faults(BLOCKED)
    there = a_try([job("dog")], attempts_if_blocked=0).run.engine.records["dog"].veo_task_id
    for _ in range(2):
        assert a_try([job("cow", existing=there)], on_blocked=on_blocked).counts == {"blocked": 1}
    assert (creates(relay), on_blocked.calls) == (1, [])
    assert a_try([job("cow")]).counts == {"blocked": 1}
    assert creates(relay) == 2


def test_blocked_videos_that_a_trigger_has_seen(relay, a_try, on_blocked):
    relay.configure(generation_seconds=600)
    options = {"deferrable": True, "on_blocked": on_blocked}
    done = a_try(jobs(2), **options)
    relay.set_faults(f"{BLOCKED}@prompt=k001")
    relay.configure(generation_seconds=0)
    for prompts in ({K001: 2}, {K001: 2, OTHER: 1}):
        done = a_try(jobs(2), outcomes=outcomes_at(relay, done.run), **options)
        assert accepted(relay) == {"prompt of k000": 1, **prompts}
        assert len(done.run.watched) == 1
    last = a_try(jobs(2), outcomes=outcomes_at(relay, done.run), **options)
    assert (last.counts, len(on_blocked.calls)) == ({"succeeded": 2}, 1)


def test_over_budget_the_reworded_prompt_is_kept_for_later(relay, a_try, connect, on_blocked):
    connect(extra={"prices": {"veo3-fast": 1.0}})
    relay.set_faults(f"{BLOCKED}@prompt=k000")
    done = a_try(jobs(1), max_cost=2, on_blocked=on_blocked)
    assert done.counts == {"blocked": 1}
    assert "max_cost=2" in done.errors["k000"]
    on_blocked.returns = "another one"
    assert a_try(jobs(1), max_cost=3, on_blocked=on_blocked).counts == {"succeeded": 1}
    assert accepted(relay) == {"prompt of k000": 2, OTHER: 1}


def test_who_is_killed_before_the_reworded_prompt_is_sent_sends_the_same_one_later(relay, a_try, on_blocked):
    relay.set_faults(f"{BLOCKED}@prompt=k000", f"rate-limit=600@prompt={OTHER}")

    def begun(run):
        when(lambda: run.limiter.seconds_held, lambda: run.kill(Ended("killed")))

    assert isinstance(a_try(jobs(1), begun=begun, on_blocked=on_blocked).error, Ended)
    assert OTHER not in accepted(relay)
    relay.set_faults(f"{BLOCKED}@prompt=k000")
    assert a_try(jobs(1)).counts == {"succeeded": 1}  # without the function, too
    assert accepted(relay) == {"prompt of k000": 2, OTHER: 1}


def test_who_is_killed_while_the_function_runs_calls_it_again(relay, a_try, on_blocked):
    relay.set_faults(f"{BLOCKED}@prompt=k000")
    runs, may_return = threading.Event(), threading.Event()

    def slow(prompt):
        runs.set()
        may_return.wait(20)
        return "never sent"

    began = time.monotonic()
    done = a_try(jobs(1), begun=lambda run: when(runs.is_set, lambda: run.kill(Ended("killed"))), on_blocked=slow)
    may_return.set()
    assert isinstance(done.error, Ended)
    assert time.monotonic() - began < 15
    assert a_try(jobs(1), on_blocked=on_blocked).counts == {"succeeded": 1}
    assert accepted(relay) == {"prompt of k000": 2, OTHER: 1}


# --- a process that dies ---------------------------------------------------------------------------------------------

DIES = """
import asyncio, os, signal, sys
from airflow_provider_veo.hooks.batch import VeoBatchHook
from airflow_provider_veo.journal.batch_journal import BatchJournal
from airflow_provider_veo.journal.writer import JournalWriter
from airflow_provider_veo.batch.engine import Engine
from airflow_provider_veo.operators import VeoVideoBatchOperator
from tests.unit.task_context import TaskInstance

def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def dies_with(method, is_it):
    kept = getattr(*method)
    def instead(self, *args, **kwargs):
        if is_it(*args):
            dies()
        return kept(self, *args, **kwargs)
    setattr(*method, instead)

step = sys.argv[2]
if step == "recorded":
    kept_intend, kept_write = JournalWriter.intend, BatchJournal.write
    async def intend(self, records):
        await (asyncio.sleep(60) if any(record.reworded for record in records) else kept_intend(self, records))
    def write(self, records):
        kept_write(self, records)
        if any(record.reworded for record in records):
            dies()
    JournalWriter.intend, BatchJournal.write = intend, write
elif step == "intended":
    dies_with((VeoBatchHook, "submit"), lambda prepared, *_: b"a calm cow" in prepared.content)
else:
    dies_with((Engine, "_accepted"), lambda job, record, video: record.reworded)

VeoVideoBatchOperator(
    task_id="make", jobs=[{"key": "cow", "prompt": "a wild cow"}], result_path=sys.argv[1], model="veo3-fast",
    poll_interval=0.05, download=False, on_blocked=lambda prompt: "a calm cow", deferrable=False,
).execute(TaskInstance().context)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "accepted_then", "state", "accepted_at_last"),
    [("recorded", 0, "succeeded", 1), ("intended", 0, "unknown", 1), ("accepted", 1, "unknown", 2)],
)
def test_process_that_dies_leaves_the_prompt_to_the_next_one(
    relay, ti, tmp_path, step, accepted_then, state, accepted_at_last
):
    """As soon as the other prompt is on record, when its intent is, and when the relay has accepted it."""
    from airflow_provider_veo.operators import VeoVideoBatchOperator

    relay.set_faults(f"{BLOCKED}@prompt=wild")
    folder = f"file://{tmp_path}/night"
    died = subprocess.run([sys.executable, "-c", DIES, folder, step], env=os.environ, timeout=120, check=False)
    assert died.returncode == -9
    assert accepted(relay).get(OTHER, 0) == accepted_then

    def again(**arguments):
        ti.next_try()
        task = VeoVideoBatchOperator(
            task_id="make",
            jobs=[{"key": "cow", "prompt": "a wild cow"}],
            result_path=folder,
            model="veo3-fast",
            poll_interval=0.05,
            download=False,
            deferrable=False,
            on_blocked=raises,
            **arguments,
        )
        task.execute(ti.context)

    if state == "unknown":
        with pytest.raises(Exception, match="0 of 1 jobs succeeded"):
            again()
        assert accepted(relay).get(OTHER, 0) == accepted_then
    again(on_ambiguous_submit="resubmit")
    assert accepted(relay) == {"a wild cow": 2, OTHER: accepted_at_last}
