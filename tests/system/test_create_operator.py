"""The create operator in a real Airflow: what it pushes, how it fails, what it pays for, and where the key is not."""

from __future__ import annotations

import json
import shutil

import pytest

from airflow_provider_veo import sandbox
from tests.airflow_lines import unwrapped
from tests.conftest import CANARY
from tests.system.conftest import DAGS, make_airflow

IMAGES = ["https://example.com/a.png", "https://example.com/b.png"]
DAG_IDS = ("veo_text", "veo_native")
FAULTS = (
    "status=400@prompt=refused",
    "drop-after@prompt=answer_lost",
    "drop-after@prompt=veo_text resubmitted,1",
    "drop-after@prompt=veo_native resubmitted,1",
    "rate-limit@prompt=rate_limited",
    "failed=blocked by policy@prompt=generation_fails",
    "query:status-word=pending@prompt=never_ready",
    "echo-key@prompt=echoes_key",
)


class Outcome:
    def __init__(self, airflow, dag_id, output, relay):
        self.dag_id = dag_id
        self.output = unwrapped(output)
        self.xcoms = airflow.xcoms(dag_id)
        self.states = airflow.states(dag_id)
        self.accepted = relay.stats()["accepted_by_prompt"]
        self.bodies = [json.loads(request["body"]) for request in relay.requests()]

    def xcom(self, task_id, key="return_value", index=-1):
        return self.xcoms.get((task_id, key, index))

    def state(self, task_id, index=-1):
        return self.states[task_id, index]

    def body(self, prompt):
        (body,) = [body for body in self.bodies if body["prompt"] == prompt]
        return body

    def sent(self, task_id):
        return sum(body["prompt"] == f"{self.dag_id} {task_id}" for body in self.bodies)

    def paid(self, task_id):
        return self.accepted.get(f"{self.dag_id} {task_id}", 0)


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """Both DAGs of scenarios, run once; everything that was written, and how each of them went."""
    home = tmp_path_factory.mktemp("scenarios") / "airflow"
    shutil.copytree(migrated_home, home)
    with sandbox.running(generation_seconds=0.5, api_key=CANARY, faults=FAULTS) as relay:
        connection = json.loads(relay.connection)
        airflow = make_airflow(
            home,
            DAGS,
            AIRFLOW_CONN_VEO_DEFAULT=relay.connection,
            AIRFLOW_CONN_VEO_WITH_DEFAULT_MODEL=json.dumps({**connection, "extra": {"default_model": "veo3-pro"}}),
            AIRFLOW_CONN_VEO_WRONG_KEY=json.dumps({**connection, "password": CANARY + "-wrong"}),
        )
        # A DAG with failed tasks is a failed command: what the tasks did is asserted below.
        outputs = {dag_id: airflow.run("dags", "test", dag_id, "2026-11-22", check=False) for dag_id in DAG_IDS}
        outcomes = {dag_id: Outcome(airflow, dag_id, output, relay) for dag_id, output in outputs.items()}
        written = airflow.everything_it_wrote() + relay.output() + "".join(outputs.values())
    return outcomes, written


@pytest.fixture(params=DAG_IDS)
def outcome(ran, request):
    return ran[0][request.param]


ALL_FIELDS = {
    "model": "veo3.1-components",
    "images": IMAGES,
    "aspect_ratio": "9:16",
    "enhance_prompt": False,
    "extra_body": None,
    "seed": 7,
}


@pytest.mark.parametrize(
    ("task_id", "prompt", "upsample"),
    [("xcomargs", "xcomargs, all fields", True), ("templates", "templates 2026-11-22", False)],
)
def test_every_field_may_come_from_an_xcom_or_a_template(outcome, task_id, prompt, upsample):
    assert outcome.state(task_id) == ("success", 1)
    assert outcome.body(f"{outcome.dag_id} {prompt}") == {
        "prompt": f"{outcome.dag_id} {prompt}",
        "model": "veo3.1-components",
        "images": IMAGES,
        "aspect_ratio": "9:16",
        "enhance_prompt": False,
        "enable_upsample": upsample,
        "seed": 7,
    }


def test_the_id_and_the_video_are_in_xcom(outcome):
    veo_task_id = outcome.xcom("xcomargs")
    assert isinstance(veo_task_id, str)
    assert veo_task_id.startswith("veo3.1-components:")
    video = outcome.xcom("xcomargs", "veo_video")
    assert {name: video[name] for name in ("id", "state", "model", "prompt", "images", "aspect_ratio")} == {
        "id": veo_task_id,
        "state": "running",
        "model": "veo3.1-components",
        "prompt": f"{outcome.dag_id} xcomargs, all fields",
        "images": IMAGES,
        "aspect_ratio": "9:16",
    }
    assert outcome.xcom("xcomargs", "video_url") is None


def test_the_connections_default_model_is_used(outcome):
    assert outcome.body(f"{outcome.dag_id} defaults")["model"] == "veo3-pro"


def test_a_prompt_may_be_a_template_file(outcome):
    assert outcome.body(f"A template file says {outcome.dag_id} on 2026-11-22")


def test_a_prompt_that_is_a_number_stays_a_text(outcome):
    assert outcome.state("number") == ("success", 1)
    assert all(isinstance(body["prompt"], str) for body in outcome.bodies)


def test_mapping_over_prompts(outcome):
    for index in range(2):
        assert outcome.state("expand", index) == ("success", 1)
        assert outcome.body(f"{outcome.dag_id} expand 2026-11-22 {index}")
        assert outcome.xcom("expand", index=index)


def test_mapping_over_rows(outcome):
    assert [outcome.body(f"{outcome.dag_id} row {n}")["model"] for n in range(2)] == ["veo3", "veo3-fast"]


def test_waiting_pushes_the_url(outcome):
    assert outcome.state("waits") == ("success", 1)
    assert outcome.xcom("waits", "video_url").startswith("http://127.0.0.1:")
    video = outcome.xcom("waits", "veo_video")
    assert (video["state"], video["video_url"]) == ("succeeded", outcome.xcom("waits", "video_url"))


def test_attaching_is_not_billed(outcome):
    assert outcome.state("attaches") == ("success", 1)
    assert outcome.xcom("attaches") == outcome.xcom("waits")
    assert outcome.xcom("attaches", "video_url") == outcome.xcom("waits", "video_url")
    assert outcome.sent("attaches") == 0


@pytest.mark.parametrize(
    ("task_id", "tries", "sent", "paid"),
    [
        ("refused", 1, 1, 0),
        ("answer_lost", 1, 1, 1),
        ("rate_limited", 2, 2, 0),
        ("invalid", 1, 0, 0),
        ("generation_fails", 2, 2, 2),
        ("never_ready", 1, 1, 1),
        ("wrong_key", 1, 1, 0),
        ("echoes_key", 1, 1, 0),
        ("no_connection", 2, 0, 0),
    ],
)
def test_each_failure_is_tried_again_only_where_that_may_help(outcome, task_id, tries, sent, paid):
    assert outcome.state(task_id) == ("failed", tries)
    assert (outcome.sent(task_id), outcome.paid(task_id)) == (sent, paid)


def test_an_ambiguous_submit_is_sent_again_on_request_only(outcome):
    assert outcome.state("resubmitted") == ("success", 2)
    assert outcome.paid("resubmitted") == 2
    assert "it may be billed twice" in outcome.output


def test_an_id_is_in_xcom_though_the_wait_failed(outcome):
    assert outcome.xcom("never_ready")
    assert outcome.xcom("generation_fails", "veo_video")["prompt"].endswith("generation_fails")


def test_the_log_tells_the_story(outcome):
    for part in (
        "Submitting a video to http://127.0.0.1:",
        "model 'veo3.1-components', 2 images, aspect ratio 9:16, prompt ",
        f"Accepted: video {outcome.xcom('xcomargs')}",
        "It can't be known whether the request was accepted",
        "blocked by policy",
        f"existing_veo_task_id='{outcome.xcom('never_ready')}'",
        "images[0]: expected an http(s) URL",
        "aspect_ratio: expected 16:9 or 9:16, got '4:3'",
        "Check the password of the connection",
    ):
        assert part in outcome.output


def test_the_key_is_nowhere(ran):
    _, written = ran
    assert "veo3.1-components" in written
    assert CANARY not in written
