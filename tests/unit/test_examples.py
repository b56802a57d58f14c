"""``airflow dags test`` of each example, in one process: what a user tries first."""

from __future__ import annotations

import csv
import subprocess
import sys
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.system.conftest import make_airflow
from tests.system.examples import ALONE, EXAMPLES, NIGHT, settings_of

TESTED = [*ALONE, "veo_files_in_s3"]
COMMANDS = """
import sys
from airflow.__main__ import main

night, *dag_ids = sys.argv[1:]
for dag_id in dag_ids:
    sys.argv = ["airflow", "dags", "test", dag_id, night]
    try:
        main()
    except SystemExit as error:
        print(f"{dag_id} ended with {error.code}", flush=True)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    home = tmp_path_factory.mktemp("examples")
    with sandbox.running(generation_seconds=0, video_seconds=0.1, api_key=CANARY) as relay:
        airflow = make_airflow(home, EXAMPLES, **settings_of(home, relay, poll_interval=0.5))
        airflow.run("db", "migrate")
        airflow.learn_of_assets()
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS, NIGHT.isoformat(), *TESTED],
            env=airflow.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return SimpleNamespace(airflow=airflow, output=done.stdout, videos=relay.videos())


@pytest.mark.parametrize("dag_id", TESTED)
def test_each_example_succeeds(ran, dag_id):
    states = {state for state, _ in ran.airflow.states(dag_id).values()}
    assert states == {"success"}, ran.output[-8000:]


def test_each_example_submits_its_videos_once(ran):
    rows = {}
    for name in ("veo_nightly", "veo_sharded"):
        with (EXAMPLES / f"{name}.csv").open(encoding="utf-8", newline="") as manifest:
            rows[name] = len(list(csv.DictReader(manifest)))
    assert len(ran.videos) == len(TESTED) - len(rows) + sum(rows.values())


def test_the_shards_of_the_example_are_merged(ran):
    night = ran.airflow.xcoms("veo_sharded")["merge_shards", "return_value", -1]
    assert (night["total"], night["succeeded"]) == (12, 12)
    pushed = ran.airflow.xcoms("veo_sharded")
    shards = [pushed["make_videos", "return_value", index] for index in range(4)]
    assert sum(shard["total"] for shard in shards) == 12
    assert max(shard["total"] for shard in shards) < 12


def test_the_key_is_not_printed(ran):
    # Airflow 3.0 itself prints, at debug level, each value that it is about to mask.
    said = [line for line in ran.output.splitlines() if "MaskSecret" not in line]
    assert said
    assert [line for line in said if CANARY in line] == []
