"""Two hundred videos wait at once, through a crash of the triggerer, a rotated key, and a relay that misbehaves."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.system.conftest import make_airflow
from tests.system.dags_many.veo_many import ALONE, CREATES, MAPPED
from tests.system.services import Services

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

DAGS = Path(__file__).parent / "dags_many"
ROTATED = CANARY + "-rotated"
COUNT = ALONE + MAPPED + CREATES
LASTING = ("late-url=2@prompt=late", "leftover-error@prompt=leftover", "failed=blocked@prompt=never_made")
FAULTS = (
    ("query:reset", 60, "none"),
    ("query:rate-limit=3", 8, "429"),
    ("query:drip=1", 8, "200"),
    ("query:unknown-status", 8, "200"),
    ("query:bare=502", 8, "502"),
)
"""Each with the seconds that it lasts at least, and the status of its answers."""
ENOUGH = COUNT / 4
"""Answers of a kind."""


def store_connection(airflow, relay, key):
    """Put the connection into the metadata database, where a key is rotated while Airflow runs."""
    file = airflow.home / "connections.json"
    file.write_text(json.dumps({"veo_default": {"conn_type": "veo", "host": relay.url, "password": key}}))
    airflow.run("connections", "import", "--overwrite", str(file))
    file.unlink()


def misbehave(services, relay, fault, seconds, status):
    """Let the relay misbehave for that long at least, and until many waits have felt it."""
    relay.set_faults(*LASTING, fault)
    time.sleep(seconds)
    services.wait_until(
        lambda: relay.stats()["answers"]["query"].get(status, 0) > ENOUGH, what=f"{ENOUGH} answers {status}"
    )


def states(services, run_id):
    return Counter(row.state for row in services.task_instances("veo_many", run_id))


def run_the_dag_that_ends_badly(services, relay):
    dag_id, run_id = "veo_ends_badly", services.trigger("veo_ends_badly", "badly")

    def state(task_id):
        return next(row.state for row in services.task_instances(dag_id, run_id) if row.task_id == task_id)

    services.wait_until(
        lambda: any(video["queries"] for video in relay.videos() if video["prompt"] == "user ends it"),
        what="the triggerer to ask for the video of user_ends_it",
    )
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/user_ends_it"
    answer = services.ask("PATCH", path, {"new_state": "failed"})
    assert answer.ok, answer.text
    services.wait_until(lambda: state("trigger_breaks") == "failed", what="the end of trigger_breaks")
    services.wait_until(
        lambda: any("a user ended the task" in log for log in services.task_logs(dag_id, run_id).values()),
        what="the log of the ended wait",
    )
    return SimpleNamespace(
        rows={row.task_id: row for row in services.task_instances(dag_id, run_id)},
        xcoms=services.xcoms(dag_id, run_id),
        logs=services.task_logs(dag_id, run_id),
    )


@pytest.fixture(scope="module")
def night(migrated_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("many") / "airflow"
    shutil.copytree(migrated_home, home)
    with sandbox.running(generation_seconds=3600, api_key=CANARY, other_id=True, faults=LASTING) as relay:
        airflow = make_airflow(home, DAGS)
        store_connection(airflow, relay, CANARY)
        with Services(airflow, parallelism=2) as services:
            run_id = services.trigger("veo_many", "many")
            services.wait_until(
                lambda: states(services, run_id)["deferred"] >= COUNT, timeout=600, what=f"{COUNT} deferred waits"
            )
            while_waiting = SimpleNamespace(
                states=states(services, run_id),
                other=services.wait_for("meanwhile", services.trigger("meanwhile", "other")),
                after=states(services, run_id),
            )

            ends_badly = run_the_dag_that_ends_badly(services, relay)

            services.kill("triggerer")
            before = relay.stats()["requests"]
            services.start("triggerer")
            services.wait_until(
                lambda: relay.stats()["requests"]["query"] > before["query"] + COUNT,
                what="questions of the new triggerer",
            )

            store_connection(airflow, relay, ROTATED)
            relay.configure(api_key=ROTATED)

            for fault, seconds, status in FAULTS:
                misbehave(services, relay, fault, seconds, status)
            during = relay.stats()
            relay.set_faults(*LASTING)
            relay.configure(generation_seconds=1)
            state = services.wait_for("veo_many", run_id, timeout=400)
            yield SimpleNamespace(
                state=state,
                while_waiting=while_waiting,
                ends_badly=ends_badly,
                rows={(row.task_id, row.map_index): row for row in services.task_instances("veo_many", run_id)},
                xcoms=airflow.xcoms("veo_many", run_id),
                during=during,
                stats=relay.stats(),
                videos={video["prompt"]: video for video in relay.videos()},
                triggerer_log=services.log("triggerer"),
                written=airflow.everything_it_wrote(),
            )


def test_two_hundred_waits_hold_no_worker_slot(night):
    assert night.while_waiting.states["deferred"] == COUNT
    assert night.while_waiting.states["running"] == 0
    assert night.while_waiting.other == "success"
    assert night.while_waiting.after["deferred"] == COUNT


def test_every_video_ends_and_only_the_one_that_failed_fails(night):
    failed = {key for key, row in night.rows.items() if row.state != "success"}
    assert failed == {("alone_3", -1)}
    assert night.rows["alone_3", -1].state == "failed"
    assert night.state == "failed"


def test_not_one_create_more_was_sent(night):
    assert night.stats["requests"]["create"] == COUNT + len(night.ends_badly.rows)
    assert night.stats["accepted"] == COUNT + len(night.ends_badly.rows)
    assert night.stats["paid_twice"] == {}


def test_a_trigger_that_breaks_does_not_become_another_submit(night):
    row = night.ends_badly.rows["trigger_breaks"]
    assert (row.state, row.try_number) == ("failed", 2)
    veo_task_id = night.ends_badly.xcoms["trigger_breaks", "return_value", -1]
    log = "".join(text for name, text in night.ends_badly.logs.items() if "trigger_breaks" in name)
    assert f"Continuing with video {veo_task_id}" in log
    assert "Trigger failure" in log
    assert "the trigger broke" in log


def test_wait_that_a_user_ends_logs_what_will_be_billed(night):
    veo_task_id = night.ends_badly.xcoms["user_ends_it", "return_value", -1]
    log = "".join(text for name, text in night.ends_badly.logs.items() if "user_ends_it" in name)
    assert f"Video {veo_task_id} is still being generated and will be billed" in log


def test_the_relay_did_misbehave(night):
    fired = night.during["faults_fired"]
    answers = night.during["answers"]["query"]
    assert fired
    for status in ("429", "502", "none"):
        assert answers[status] > ENOUGH, answers


def test_the_rotated_key_was_used(night):
    assert night.stats["answers"]["query"].get("401", 0) >= 1


def test_a_wait_in_the_triggerer_ran_no_worker_process(night):
    alone = [row for (task_id, _), row in night.rows.items() if task_id.startswith("alone_") and task_id != "alone_3"]
    assert len(alone) == ALONE - 1
    assert {(row.pid, row.hostname or "") for row in alone} == {(None, "")}
    assert {row.try_number for row in alone} <= {0, 1}


def test_results_are_dicts_in_every_mode(night):
    for n in range(ALONE):
        if n != 3:
            video = night.xcoms[f"alone_{n}", "return_value", -1]
            assert video["video_url"].startswith("http://127.0.0.1:")
            assert video["id"] == night.xcoms["submit_alone", f"v{n}", -1]
    for n in range(MAPPED):
        assert night.xcoms["mapped", "return_value", n]["state"] == "succeeded"
    for n in range(CREATES):
        assert night.xcoms["create", "video_url", n] == night.xcoms["create", "veo_video", n]["video_url"]
        assert night.xcoms["create", "veo_video", n]["prompt"] == f"create {n}"


def test_no_key_is_anywhere(night):
    # The connection itself is in the database, encrypted.
    assert night.xcoms["submit_alone", "v0", -1] in night.written
    assert CANARY not in night.written
