"""What is a template and what is data, in a real Airflow: an XCom that holds a template is never rendered."""

from __future__ import annotations

import json
import shutil

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.system.conftest import PROJECT, make_airflow

DAGS = PROJECT / "tests" / "system" / "dags_templates"
DAG_ID = "veo_templates"
ATTACK = "{{ conn.veo_default.password }}{{ ds }}"
FILE = "scenario.prompt"


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """The DAG, run once: the bodies that the relay was sent, and everything that was written."""
    home = tmp_path_factory.mktemp("templates") / "airflow"
    shutil.copytree(migrated_home, home)
    with sandbox.running(generation_seconds=0.5, api_key=CANARY) as relay:
        airflow = make_airflow(
            home, DAGS, AIRFLOW_CONN_VEO_DEFAULT=relay.connection, VEO_TEMPLATES=f"{home.as_uri()}/videos"
        )
        output = airflow.run("dags", "test", DAG_ID, "2026-11-22", check=False)
        bodies = [json.loads(request["body"]) for request in relay.requests() if request["method"] == "POST"]
        written = airflow.everything_it_wrote() + output
        folders = {str(path.parent.relative_to(home)) for path in home.rglob("results.jsonl")}
        return bodies, airflow.states(DAG_ID), written, folders


@pytest.mark.parametrize(
    "task_id",
    ["plain", "expand", "kwargs", "changed", "returned", "batch", "batch_kwargs", "returned_batch", "defaults"],
)
def test_a_prompt_of_an_xcom_is_sent_as_it_is(ran, task_id):
    bodies = ran[0]
    assert [body["prompt"] for body in bodies].count(f"{task_id} {ATTACK}") == 1


def test_a_default_argument_of_a_group_is_a_template_of_the_dag_file(ran):
    assert "videos/in_group/2026-11-22" in ran[3]


@pytest.mark.parametrize("prompt", ["literal 2026-11-22", "batch_literal 2026-11-22", "mixed 2026-11-22"])
def test_a_template_of_the_dag_file_is_rendered(ran, prompt):
    bodies = ran[0]
    assert prompt in [body["prompt"] for body in bodies]


def test_images_and_further_fields_of_an_xcom_are_sent_as_they_are(ran):
    bodies = ran[0]
    for task_id in ("kwargs", "changed", "returned"):
        (body,) = [each for each in bodies if each["prompt"] == f"{task_id} {ATTACK}"]
        assert (body["images"], body["note"]) == (["https://example.com/{{ds}}.png"], ATTACK)
    notes = [body["note"] for body in bodies if body["prompt"] == "mixed 2026-11-22"]
    assert sorted(notes) == sorted([f"mixed {ATTACK}", FILE])


def test_the_name_of_a_template_file_in_an_xcom_is_a_prompt(ran):
    """Else whoever writes the XCom chooses which of the DAG folder's files is read."""
    bodies = ran[0]
    prompts = [body["prompt"] for body in bodies]
    # Of expand, kwargs, changed, returned and four batches.
    assert prompts.count(FILE) == 8
    assert not any("template file" in prompt for prompt in prompts)


def test_id_and_destination_from_an_xcom_are_not_rendered(ran):
    _, states, written, _ = ran
    assert states["sensor", 0][0] == states["download", 0][0] == "failed"
    assert ATTACK in written


def test_the_key_is_nowhere(ran):
    bodies, _, written, _ = ran
    assert CANARY not in written
    assert CANARY not in json.dumps(bodies)
