"""The smallest example through a real scheduler and worker: the id reaches the next task, and the key nothing."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.airflow_lines import LINE
from tests.conftest import CANARY
from tests.system.conftest import PROJECT, make_airflow
from tests.system.services import SERVICES, Services

DAG_ID = "veo_create_video"
PROMPT = "A paper boat drifts down a canal at dawn"


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """One run that succeeds, and one whose relay repeats the key in a refusal; what is left when all has ended."""
    home = tmp_path_factory.mktemp("scheduler") / "airflow"
    shutil.copytree(migrated_home, home)
    with sandbox.running(generation_seconds=0, api_key=CANARY) as relay:
        airflow = make_airflow(home, PROJECT / "dags_examples", AIRFLOW_CONN_VEO_DEFAULT=relay.connection)
        with Services(airflow) as services:
            states = {}
            for run_id, faults in ("succeeds", ()), ("fails", ("echo-key",)):
                relay.set_faults(*faults)
                states[run_id] = services.wait_for(DAG_ID, services.trigger(DAG_ID, run_id))
            processes = services.processes()
        return SimpleNamespace(
            airflow=airflow,
            states=states,
            tasks={(run, task.task_id): task for run in states for task in services.task_instances(DAG_ID, run)},
            task_logs={run: services.task_logs(DAG_ID, run) for run in states},
            logs={name: services.log(name) for name in SERVICES},
            tables=airflow.tables(),
            processes=processes,
            relay_output=relay.output(),
            videos=relay.videos(),
        )


def test_the_id_reaches_the_next_task(ran):
    (video,) = ran.videos
    assert ran.states["succeeds"] == "success"
    assert ran.airflow.xcoms(DAG_ID, "succeeds")["create", "return_value", -1] == video["id"]
    assert f"The relay is making video {video['id']}" in ran.task_logs["succeeds"]["task_id=use_the_id/attempt=1.log"]


def test_a_refused_create_fails_the_run_for_good(ran):
    assert ran.states["fails"] == "failed"
    # Airflow 3 pushes an empty text for a link that a task doesn't know.
    pushed = {("create", "_link_VideoLink", -1): ""} if LINE >= (3, 0) else {}
    assert ran.airflow.xcoms(DAG_ID, "fails") == pushed
    assert {task_id: (task.state, task.try_number) for (run, task_id), task in ran.tasks.items() if run == "fails"} == {
        "create": ("failed", 1),
        "use_the_id": ("upstream_failed", 0),
    }


def test_each_task_ran_in_a_process_of_its_own(ran):
    ran_there = [task for task in ran.tasks.values() if task.pid]
    assert len({task.pid for task in ran_there}) == len(ran_there) == 3
    assert not {task.pid for task in ran_there} & {process.pid for process in ran.processes}


def test_no_process_outlives_the_services(ran):
    assert len(ran.processes) > len(SERVICES)
    assert not [process for process in ran.processes if process.is_running()]


def test_the_key_is_in_no_table(ran):
    assert PROMPT in ran.tables["xcom"]
    assert DAG_ID in ran.tables["serialized_dag"]
    assert {name for name, rows in ran.tables.items() if CANARY in rows} == set()


def test_the_key_is_in_no_rendered_field(ran):
    rows = ran.airflow.query(
        "SELECT run_id, rendered_fields FROM rendered_task_instance_fields WHERE task_id = 'create'"
    )
    assert {run_id for run_id, _ in rows} == {"succeeds", "fails"}
    for _, rendered in rows:
        assert json.loads(rendered)["prompt"].startswith(PROMPT)
        assert CANARY not in rendered


def test_the_key_is_in_no_service_log(ran):
    said = {
        "scheduler": "Submitting a video to" if LINE >= (3, 0) else DAG_ID,
        "api-server": f"/execution/xcoms/{DAG_ID}/succeeds/create/return_value",
        "dag-processor": f"{DAG_ID}.py",
        "triggerer": "Starting the triggerer",
    }
    assert [name for name, log in ran.logs.items() if said[name] not in log] == []
    assert [name for name, log in ran.logs.items() if CANARY in log] == []


def test_the_key_is_in_no_task_log_though_the_relay_repeats_it(ran):
    log = ran.task_logs["fails"]["task_id=create/attempt=1.log"]
    assert "AirflowFailException" in log
    assert "VeoRequestRejectedError" in log
    assert "***" in log
    assert not [name for logs in ran.task_logs.values() for name, text in logs.items() if CANARY in text]


def test_the_key_is_in_no_file_of_the_home(ran):
    written = ran.airflow.everything_it_wrote()
    assert PROMPT in written
    assert CANARY not in written


def test_the_sandbox_prints_the_key_only_where_it_announces_the_connection(ran):
    assert CANARY not in ran.relay_output
    lines = [line for line in ran.relay_output.splitlines() if "(hidden)" in line]
    assert [line.partition("=")[0] for line in lines] == ["export AIRFLOW_CONN_VEO_DEFAULT"]
