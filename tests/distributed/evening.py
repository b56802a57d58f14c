"""
An evening of videos through all services of an Airflow. ``test_mariadb.py`` runs it, and the system tests, on MariaDB.

Its name keeps it from being collected by itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.distributed.dags.veo_evening import BATCHED, CHINESE
from tests.system.conftest import make_airflow
from tests.system.databases import SERVER
from tests.system.services import Services

DAGS = Path(__file__).parent / "dags"
DAG_ID = "veo_evening"


def all_wait(services, run_id):
    """Whether all that wait are deferred, and the scheduler knows that their workers have left them."""
    left = {name: services.ends_seen(DAG_ID, name, run_id) for name in ("batch", "wait", "waits")}
    rows = services.task_instances(DAG_ID, run_id)
    deferred = sorted(row.task_id for row in rows if row.state == "deferred")
    waiting = ["batch", "wait", "wait_without_a_worker", "waits", "waits"]
    return deferred == waiting and left == {"batch": 1, "wait": 1, "waits": 2}


@pytest.fixture(scope="module")
def evening(migrated_home, tmp_path_factory):
    root = tmp_path_factory.mktemp("evening")
    shutil.copytree(migrated_home, root / "airflow")
    with sandbox.running(generation_seconds=3600, video_seconds=0.2, api_key=CANARY) as relay:
        airflow = make_airflow(root / "airflow", DAGS, AIRFLOW_CONN_VEO_DEFAULT=relay.connection, VEO_NIGHT=str(root))
        with Services(airflow) as services:
            run_id = services.trigger(DAG_ID)
            services.wait_until(lambda: all_wait(services, run_id), what="all to wait in the triggerer")
            relay.configure(generation_seconds=1)
            state = services.wait_for(DAG_ID, run_id)
        yield SimpleNamespace(
            airflow=airflow,
            state=state,
            rows={(row.task_id, row.map_index): row for row in airflow.task_instances(DAG_ID, run_id)},
            logs=airflow.task_logs(DAG_ID, run_id),
            xcoms=airflow.xcoms(DAG_ID, run_id),
            results=[json.loads(line) for line in (root / "batch" / "results.jsonl").read_text().splitlines()],
            stats=relay.stats(),
            videos={video["prompt"]: video for video in relay.videos()},
        )


def test_database_is_the_configured_one(evening):
    assert evening.airflow.database.startswith(os.environ[SERVER])
    assert not (evening.airflow.home / "airflow.db").exists()


def test_every_video_ends_and_is_billed_once(evening):
    assert evening.state == "success"
    assert {row.state for row in evening.rows.values()} == {"success"}
    assert evening.stats["paid_twice"] == {}
    assert evening.stats["accepted"] == BATCHED + 3


def test_the_waits_were_without_a_worker(evening):
    triggers = {name.split("/")[0].removeprefix("task_id=") for name in evening.logs if ".trigger." in name}
    assert triggers == {"batch", "wait", "wait_without_a_worker", "waits"}


def test_batch_waits_for_more_videos_than_fit_into_one_trigger(evening):
    (log,) = (
        text for name, text in evening.logs.items() if name.startswith("task_id=batch/") and "trigger" not in name
    )
    waited_for = [int(number) for number in re.findall(r"Deferred: polling (\d+) videos from the triggerer", log)]
    assert max(waited_for) > 1000


def test_what_the_database_holds_is_what_the_relay_made(evening):
    assert evening.xcoms["create", "return_value", -1] == evening.videos[CHINESE]["id"]
    assert evening.xcoms["create", "veo_video", -1]["prompt"] == CHINESE
    for task_id in ("wait", "wait_without_a_worker"):
        assert evening.xcoms[task_id, "return_value", -1]["id"] == evening.videos[CHINESE]["id"]
    for number in range(2):
        assert evening.xcoms["waits", "return_value", number] == evening.videos[f"mapped {number}"]["id"]
    assert {row["request"]["prompt"]: row["id"] for row in evening.results} == {
        prompt: video["id"] for prompt, video in evening.videos.items() if prompt.startswith("batched")
    }


def test_the_key_is_nowhere(evening):
    written = evening.airflow.everything_it_wrote()
    assert evening.xcoms["create", "return_value", -1] in written
    assert CANARY not in written
