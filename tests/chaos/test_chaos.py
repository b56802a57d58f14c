"""
Hundreds of runs, each killed and obstructed as its seed says, and none is billed twice or lost.

Each run is printed with its seed. ``VEO_CHAOS_RUN=<seed>[,<seed>…]`` repeats single ones, ``VEO_CHAOS_SEED=<text>``
draws others, ``VEO_CHAOS_RUNS=<number>`` and ``VEO_CHAOS_RUNS_IN_FILES=<number>`` more or fewer of them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import NamedTuple

import pytest

from tests.chaos import harness, killer
from tests.chaos.journals import JOURNALS
from tests.chaos.plans import freezes, plan, seeds, store_of, tasks
from tests.chaos.points import IN_THE_STORE, POINTS, WHILE_DEFERRED
from tests.chaos.verdict import REPORTED, SUCCEEDED, Run, show, table
from tests.conftest import CANARY

pytestmark = pytest.mark.timeout(1500)

DAG_ID = "veo_chaos"
IN_FILES = int(os.environ.get("VEO_CHAOS_RUNS_IN_FILES", "60"))
RUNS = {"state": int(os.environ.get("VEO_CHAOS_RUNS", "300")), "file": IN_FILES, "memory": IN_FILES}
SINGLE = os.environ.get("VEO_CHAOS_RUN")
MASTER_SEED = os.environ.get("VEO_CHAOS_SEED", "1")
ALL_POINTS = (*POINTS, IN_THE_STORE, WHILE_DEFERRED)
FEWEST_STRIKES = 5

of_many = pytest.mark.skipif(SINGLE is not None or RUNS["state"] < 300, reason="says something of many runs only")


class Chaos(NamedTuple):
    seeds: list[str]
    runs: list[Run]
    written: str


@pytest.fixture(scope="module", params=RUNS)
def chaos(request, migrated_home, tmp_path_factory):
    store = request.param
    ours = [*freezes(store), *seeds(MASTER_SEED, store, RUNS[store])]
    if SINGLE:
        ours = [seed for seed in SINGLE.split(",") if store_of(seed) == store]
    if not ours:
        pytest.skip("no run of this journal is asked for")
    plans = tasks(map(plan, ours))
    with JOURNALS[store](tmp_path_factory.mktemp("journal")) as journal:
        variables = {"VEO_CHAOS_SEEDS": json.dumps(ours), **journal.variables}
        with harness.running(migrated_home, tmp_path_factory.mktemp("chaos"), variables) as place:
            place.relay.set_faults(*(spec for run in plans.values() for spec in run.specs()))
            harness.run_to_the_end(place, DAG_ID, 1200, harness.TriggererKiller(place, DAG_ID, plans))
            runs = harness.runs(place, DAG_ID, plans, journal.records(place.services.airflow))
            show(request, f"The journal is kept in: {store}", *runs, table(runs, ALL_POINTS))
            yield Chaos(ours, runs, place.services.airflow.everything_it_wrote() + journal.text())


def test_every_run_keeps_the_promises(chaos):
    broken = {str(run): problems for run in chaos.runs if (problems := run.broken_promises())}
    assert not broken, "\n".join(f"{run}\n    !! {', '.join(problems)}" for run, problems in broken.items())


def test_every_run_came_to_an_end(chaos):
    assert {run.plan.seed for run in chaos.runs} == set(chaos.seeds)
    assert {run.state for run in chaos.runs} <= {"success", "failed"}


def test_the_journal_is_kept_where_it_should_be(chaos):
    assert all(run.record for run in chaos.runs if run.state == "success")


@of_many
@pytest.mark.parametrize("chaos", ["state"], indirect=True, scope="module")
@pytest.mark.parametrize("point", ALL_POINTS)
def test_processes_were_killed_at_every_point(chaos, point):
    assert sum(strike["point"] == point for run in chaos.runs for strike in run.strikes) >= FEWEST_STRIKES


@of_many
@pytest.mark.parametrize("manner", killer.MANNERS)
def test_processes_were_killed_in_every_manner(chaos, manner):
    assert any(strike["manner"] == manner for run in chaos.runs for strike in run.strikes)


@of_many
def test_half_of_the_runs_succeed_all_the_same(chaos):
    outcomes = Counter(run.outcome for run in chaos.runs)
    assert outcomes[SUCCEEDED] > len(chaos.runs) * 0.45, outcomes
    assert outcomes[REPORTED] >= FEWEST_STRIKES, outcomes


def test_no_key_is_anywhere(chaos):
    assert "veo_chaos" in chaos.written
    assert CANARY not in chaos.written
