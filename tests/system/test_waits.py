"""Every way to wait, in a real Airflow: what is pushed, how a wait ends, and that it never pays."""

from __future__ import annotations

import json
import shutil

import pytest

from airflow_provider_veo import sandbox
from tests.airflow_lines import LINE
from tests.conftest import CANARY
from tests.system.conftest import DAGS, make_airflow
from tests.system.test_create_operator import Outcome

FAULTS = (
    "failed=blocked by policy@prompt=generation_fails",
    "failed=blocked by policy@prompt=blocked",
    "query:status-word=pending@prompt=never_ready",
    "query:status-word=pending@prompt=stuck",
)
MODES = ("poke", "reschedule", "deferrable")


@pytest.fixture(scope="module")
def outcome(migrated_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("waits") / "airflow"
    shutil.copytree(migrated_home, home)
    with sandbox.running(generation_seconds=2, api_key=CANARY, faults=FAULTS) as relay:
        wrong = {**json.loads(relay.connection), "password": CANARY + "-wrong"}
        airflow = make_airflow(
            home, DAGS, AIRFLOW_CONN_VEO_DEFAULT=relay.connection, AIRFLOW_CONN_VEO_WRONG_KEY=json.dumps(wrong)
        )
        output = airflow.run("dags", "test", "veo_waits", "2026-11-22", check=False)
        result = Outcome(airflow, "veo_waits", output, relay)
        result.written = airflow.everything_it_wrote() + relay.output() + output
        return result


def test_a_deferred_create_ends_with_the_xcoms_of_the_synchronous_one(outcome):
    assert outcome.state("create_deferred") == ("success", 1)
    veo_task_id = outcome.xcom("create_deferred")
    video = outcome.xcom("create_deferred", "veo_video")
    assert video["id"] == veo_task_id
    assert (video["state"], video["prompt"], video["model"], video["images"]) == (
        "succeeded",
        "waits deferred",
        "veo3",
        [],
    )
    assert outcome.xcom("create_deferred", "video_url") == video["video_url"] is not None


def test_a_deferred_create_may_attach(outcome):
    assert outcome.state("create_attached") == ("success", 1)
    assert outcome.xcom("create_attached") == outcome.xcom("create_deferred")


@pytest.mark.parametrize(("task_id", "tries", "paid"), [("generation_fails", 2, 2), ("never_ready", 1, 1)])
def test_deferred_create_that_fails_is_billed_as_expected(outcome, task_id, tries, paid):
    assert outcome.state(f"create_{task_id}") == ("failed", tries)
    assert outcome.accepted[f"waits {task_id}"] == paid
    assert outcome.xcom(f"create_{task_id}")


@pytest.mark.parametrize("task_id", ["pokes", "reschedules", "defers", "takes_the_dict", "takes_a_template"])
def test_every_mode_of_the_sensor_ends_with_the_video(outcome, task_id):
    assert outcome.state(task_id) == ("success", 1)
    video = outcome.xcom(task_id)
    assert video["id"] == outcome.xcom("create_video")
    assert (video["state"], video["status"]) == ("succeeded", "completed")
    assert video["video_url"].startswith("http://127.0.0.1:")


def test_ready_video_ends_the_sensor_without_deferring(outcome):
    assert outcome.state("is_already_there") == ("success", 1)
    story = outcome.output.split("[DAG TEST] starting task_id=is_already_there ")[1].partition("[DAG TEST] end task")[0]
    assert "completed" in story
    assert "Deferred: polling" not in story


def test_a_mapped_sensor_begins_in_a_worker_and_says_why(outcome):
    assert [outcome.state("mapped", n) for n in (0, 1)] == [("success", 1)] * 2
    assert outcome.xcom("mapped", index=0)["id"] == outcome.xcom("create_video")
    obstacle = "the sensor is mapped" if LINE >= (3, 3) else "it needs Airflow 3.3"
    assert f"start_from_trigger is not possible: {obstacle}." in outcome.output


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_generation_fails_the_sensor_at_once(outcome, mode):
    assert outcome.state(f"{mode}_fails") == ("failed", 1)
    assert outcome.state(f"{mode}_fails_softly") == ("skipped", 1)
    assert outcome.output.count("blocked by policy") >= len(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_a_wait_that_times_out_says_how_to_go_on(outcome, mode):
    assert outcome.state(f"{mode}_times_out") == ("failed", 1)
    assert outcome.state(f"{mode}_times_out_softly") == ("skipped", 1)
    assert outcome.output.count(f"Video {outcome.xcom('create_stuck')} was not ready") >= len(MODES)
    assert "Its last status was 'pending'" in outcome.output


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_key_fails_the_sensor_for_good(outcome, mode):
    assert outcome.state(f"{mode}_unknown") == ("failed", 1)


def test_prompt_returned_by_a_decorated_function_is_not_rendered(outcome):
    assert outcome.state("returns_a_prompt") == ("success", 1)
    assert outcome.accepted["waits decorated {{ ds }}"] == 1
    assert outcome.xcom("returns_a_prompt").startswith("veo3:")


def test_a_decorated_function_returns_fields(outcome):
    assert outcome.state("returns_fields") == ("success", 1)
    body = outcome.body("waits decorated fields 2026-11-22")
    assert (body["model"], body["aspect_ratio"]) == ("veo3.1", "9:16")
    assert outcome.xcom("returns_fields", "video_url")


def test_a_decorated_function_is_mapped(outcome):
    assert [outcome.state("decorated_mapped", n) for n in (0, 1)] == [("success", 1)] * 2


def test_a_decorated_function_that_returns_nonsense_sends_nothing(outcome):
    assert outcome.state("returns_nonsense") == ("failed", 1)
    assert "unknown field 'propmt', expected prompt, model" in outcome.output
    assert "unknown field 'colour'" in outcome.output
    assert not [prompt for prompt in outcome.accepted if "nonsense" in prompt]


def test_the_key_is_nowhere(outcome):
    assert outcome.xcom("create_deferred") in outcome.written
    assert CANARY not in outcome.written
