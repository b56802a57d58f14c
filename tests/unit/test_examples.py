"""``airflow dags test`` of each example, in one process: what a user tries first."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from airflow_provider_veo import sandbox
from airflow_provider_veo.compat import AIRFLOW_V_3_1_PLUS
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

PAGE = """
import json
from types import SimpleNamespace
from airflow.utils.session import create_session
from airflow_provider_veo.ui import batches
from airflow_provider_veo.ui.lines import LineCursor
from airflow_provider_veo.ui.videos import Filters

everything = SimpleNamespace(to_orm=lambda statement: statement)
with create_session(scoped=False) as session:
    rows = [row for row in batches.page(session, everything, Filters(), None, 100).rows if row.dag_id == "veo_sharded"]
    third = batches.find(session, "veo_sharded", rows[0].run_id, "make_videos", 2, None)
cards = [batches.card(row) for row in rows]
folder, names, cursor = batches.folder_of(rows[0]), [], LineCursor()
while cursor:
    shown, older, _ = batches.videos(rows[0], folder, Filters(), cursor, 5)
    names += [card["name"] for card in shown]
    cursor = LineCursor.parse(older) if older else None
line = folder.page(LineCursor(), 1, lambda line: True).lines[0]
file = folder.file_of(line.row["key"], line.begin).location.uri
print(json.dumps({"cards": cards, "names": names, "file": file, "third": batches.card(third)["total"]}, default=str))
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


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="the page requires Airflow 3.1")
def test_the_page_shows_the_shards_of_the_example_as_one_batch(ran):
    roots = {"AIRFLOW__VEO__PAGE_ROOTS": f"{ran.airflow.home.as_uri()}/videos"}
    command, environment = [sys.executable, "-c", PAGE], {**ran.airflow.environment, **roots}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    shown = json.loads(done.stdout.splitlines()[-1])
    (card,) = shown["cards"]
    assert (card["task_id"], card["task_state"], card["total"], card["done"]) == ("make_videos", "success", 12, 12)
    assert (card["counts"]["succeeded"], card["cost"], card["preview"]) == (12, 4.8, None)
    with (EXAMPLES / "veo_sharded.csv").open(encoding="utf-8", newline="") as manifest:
        assert sorted(shown["names"]) == sorted(row["key"] for row in csv.DictReader(manifest))
    assert Path(url2pathname(urlsplit(shown["file"]).path)).is_file()
    assert 0 < shown["third"] < 12


def test_the_key_is_not_printed(ran):
    # Airflow 3.0 itself prints, at debug level, each value that it is about to mask.
    said = [line for line in ran.output.splitlines() if "MaskSecret" not in line]
    assert said
    assert [line for line in said if CANARY in line] == []
