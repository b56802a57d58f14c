"""
Batches of fifty videos, each killed and obstructed as its seed says: none is billed twice or lost, each row is true.

Each batch is printed with its seed. ``VEO_CHAOS_RUN=<seed>[,<seed>…]`` repeats single ones, ``VEO_CHAOS_SEED=<text>``
draws others, ``VEO_CHAOS_BATCHES=<number>`` more or fewer of them.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import NamedTuple

import pytest

from tests.chaos import batch_evidence, harness, shared_memory
from tests.chaos.batch_evidence import MEMORY, Ended
from tests.chaos.batch_points import PLACES
from tests.chaos.batch_verdict import broken_promises, line, lost, paid_twice, table
from tests.chaos.batches import EVERY_MANNER, JOBS, PRICE, STORE, batch, seeds, tasks
from tests.chaos.plans import store_of
from tests.chaos.points import WHILE_DEFERRED
from tests.chaos.verdict import show
from tests.conftest import CANARY

pytestmark = pytest.mark.timeout(1200)

DAG_ID = "veo_chaos_batch"
BATCHES = int(os.environ.get("VEO_CHAOS_BATCHES", "50"))
SINGLE = os.environ.get("VEO_CHAOS_RUN")
MASTER_SEED = os.environ.get("VEO_CHAOS_SEED", "1")
SECONDS_BETWEEN_KILLS = 30
"""Of the triggerer: a batch is deferred several times."""
FEWEST_STRIKES = 80

of_many = pytest.mark.skipif(SINGLE is not None or BATCHES < 50, reason="says something of many batches only")


class Chaos(NamedTuple):
    seeds: list[str]
    runs: list[Ended]
    written: str


@pytest.fixture(scope="module")
def chaos(request, migrated_home, tmp_path_factory):
    ours = seeds(MASTER_SEED, BATCHES)
    if SINGLE:
        ours = [seed for seed in SINGLE.split(",") if store_of(seed) == STORE]
    if not ours:
        pytest.skip("no batch is asked for")
    plans = tasks(map(batch, ours))
    local, manifests = tmp_path_factory.mktemp("batches"), tmp_path_factory.mktemp("manifests")
    for run in plans.values():
        (manifests / f"{run.seed}.jsonl").write_text(run.manifest())
    roots = {"local": local.as_uri(), "memory": MEMORY, "manifests": manifests.as_uri()}
    extra = {"prices": {"veo3-fast": PRICE}, "allow_private_media": True}
    with shared_memory.running(tmp_path_factory.mktemp("memory")) as memory:
        variables = {
            "VEO_CHAOS_BATCHES_SEEDS": json.dumps(ours),
            "VEO_CHAOS_BATCHES_ROOTS": json.dumps(roots),
            **memory,
        }
        folder = tmp_path_factory.mktemp("chaos")
        with harness.running(migrated_home, folder, variables, extra, video_seconds=0.1) as place:
            place.relay.set_faults(*(spec for run in plans.values() for spec in run.specs()))
            begun = time.monotonic()
            killing = harness.TriggererKiller(place, DAG_ID, plans, SECONDS_BETWEEN_KILLS)
            harness.run_to_the_end(place, DAG_ID, 900, killing)
            took = f"{len(ours)} batches of {JOBS} in {time.monotonic() - begun:.0f} s"
            files = batch_evidence.written(local, memory)
            runs = batch_evidence.collect(place, DAG_ID, plans, files)
            show(request, *map(line, runs), table(runs), took)
            texts = [content.decode("utf-8", "replace") for content in files.values()]
            yield Chaos(ours, runs, "\n".join([place.services.airflow.everything_it_wrote(), *texts]))


def test_every_batch_keeps_the_promises(chaos):
    broken = {line(run): problems for run in chaos.runs if (problems := broken_promises(run))}
    assert not broken, "\n".join(f"{run}\n    !! {'; '.join(problems)}" for run, problems in broken.items())


def test_nothing_is_billed_twice_or_lost(chaos):
    assert {run.plan.seed: found for run in chaos.runs if (found := [*paid_twice(run), *lost(run)])} == {}


def test_every_batch_came_to_an_end(chaos):
    assert {run.plan.seed for run in chaos.runs} == set(chaos.seeds)
    assert {run.state for run in chaos.runs} <= {"success", "failed"}


@of_many
@pytest.mark.parametrize("place", [*PLACES, WHILE_DEFERRED])
def test_processes_were_struck_at_every_place(chaos, place):
    assert any(strike["point"] == place for run in chaos.runs for strike in run.strikes)


@of_many
@pytest.mark.parametrize("manner", EVERY_MANNER)
def test_processes_were_struck_in_every_manner(chaos, manner):
    assert any(strike["manner"] == manner for run in chaos.runs for strike in run.strikes)


@of_many
def test_most_jobs_succeed_all_the_same(chaos):
    counts = Counter(row["state"] for run in chaos.runs for row in run.rows)
    assert counts["succeeded"] > len(chaos.runs) * JOBS * 0.6, counts
    assert sum(len(run.strikes) for run in chaos.runs) >= FEWEST_STRIKES


def test_no_key_is_anywhere(chaos):
    assert DAG_ID in chaos.written
    assert CANARY not in chaos.written
