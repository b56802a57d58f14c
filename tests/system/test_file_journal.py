"""Tasks that are cleared continue with their videos: with a record in files, as before Airflow 3.3, on each line."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.system.conftest import make_airflow
from tests.system.services import Services

pytestmark = pytest.mark.timeout(600)

DAGS = Path(__file__).parent / "dags_file_journal"
DAG_ID, RUN_ID = "veo_file_journal", "run"
DAY = datetime(2026, 1, 2, tzinfo=timezone.utc)
INTENT = "-1.veo_submission_intent.json"


class Round:
    """The state when all has ended: the tasks, their XComs, and what was billed."""

    def __init__(self, services, relay):
        airflow = services.airflow
        self.states = airflow.states(DAG_ID)
        self.xcoms = airflow.xcoms(DAG_ID, RUN_ID)
        self.sent = Counter(json.loads(request["body"])["prompt"] for request in relay.requests())
        self.videos = {
            prompt: [video["id"] for video in relay.videos() if video["prompt"] == prompt] for prompt in self.sent
        }
        self.logs = airflow.task_logs(DAG_ID, RUN_ID)


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """All tasks run and are cleared. The one without an answer is cleared again after its record has been removed."""
    root = tmp_path_factory.mktemp("file_journal")
    shutil.copytree(migrated_home, root / "airflow")
    folder = root / "journal"
    with sandbox.running(generation_seconds=0, api_key=CANARY, faults=["drop-after@prompt=answer_lost,1"]) as relay:
        airflow = make_airflow(
            root / "airflow",
            DAGS,
            AIRFLOW_CONN_VEO_DEFAULT=relay.connection,
            AIRFLOW__VEO__JOURNAL_PATH=folder.as_uri(),
        )
        with Services(airflow) as services:
            rounds = []

            def end():
                services.wait_for(DAG_ID, RUN_ID, timeout=240)
                rounds.append(Round(services, relay))

            services.trigger(DAG_ID, RUN_ID, logical_date=DAY)
            end()
            clear(services)
            end()
            (lost,) = folder.rglob(INTENT)
            lost.unlink()
            clear(services, "--task-regex", "answer_lost")
            end()
        written = airflow.everything_it_wrote() + "".join(path.read_text() for path in folder.rglob("*.json"))
        return SimpleNamespace(rounds=rounds, written=written, where=str(lost))


def clear(services, *task):
    services.airflow.run("tasks", "clear", DAG_ID, "--yes", "--start-date", f"{DAY:%Y-%m-%d}", *task)


def test_cleared_task_continues_with_its_video_without_billing(ran):
    first, again, _ = ran.rounds
    for task, index, prompt in ("defers", -1, "defers"), ("mapped", 0, "mapped 0"), ("mapped", 1, "mapped 1"):
        (video,) = again.videos[prompt]
        assert again.states[task, index] == ("success", 2)
        assert again.sent[prompt] == 1
        assert first.xcoms[task, "return_value", index] == again.xcoms[task, "return_value", index] == video
    assert again.xcoms["defers", "video_url", -1]


def test_a_lost_answer_sends_nothing_more_until_its_record_is_removed(ran):
    for tries, found in enumerate(ran.rounds[:2], start=1):
        assert (found.states["answer_lost", -1], found.sent["answer_lost"]) == (("failed", tries), 1)
    removed = ran.rounds[2]
    assert (removed.states["answer_lost", -1], removed.sent["answer_lost"]) == (("success", 3), 2)
    assert removed.xcoms["answer_lost", "return_value", -1] == removed.videos["answer_lost"][1]


def test_the_log_names_the_file_to_remove(ran):
    assert ran.where in ran.rounds[1].logs["task_id=answer_lost/attempt=2.log"]


def test_the_key_is_nowhere(ran):
    assert "answer_lost" in ran.written
    assert CANARY not in ran.written
