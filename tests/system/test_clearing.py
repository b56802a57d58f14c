"""Airflow 3.4: tasks cleared through the REST API with and without their state, and task loops."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from airflow_provider_veo import sandbox
from tests.airflow_lines import TASK_INSTANCES, XCOMS
from tests.conftest import CANARY
from tests.system.conftest import make_airflow
from tests.system.journal_rounds import Story, ask
from tests.system.services import Services

pytestmark = pytest.mark.timeout(900)

DAGS = Path(__file__).parent / "dags_clearing"
LOOPS = ("veo_loop", "veo_mapped_in_loop", "veo_batch_in_loop", "veo_batch_in_one_folder")
LOST = "Airflow has deleted the record of what its earlier tries submitted"
REPEATED = "nothing is on record for iteration {} of the loop"
BILLED_AGAIN = "on_cleared is 'submit': if a video was submitted before, it is submitted and billed again"
FAULTS = (
    "drop-after@prompt=answer_lost:,1",
    "status=401@prompt=unauthorized:,1",
)


class Loop:
    """A run of a DAG with a loop: what its tasks, the relay and the logs have, by place in the loop."""

    def __init__(self, services, relay, dag_id, prompt):
        airflow = services.airflow
        self.state = airflow.run_state(dag_id, "run")
        self.tries = {
            (task_id.rpartition(".")[2], region, index): (state, tries)
            for task_id, region, index, state, tries in airflow.query(
                f"SELECT task_id, region_id, region_index, state, try_number FROM {TASK_INSTANCES} ti WHERE dag_id = ?",
                dag_id,
            )
            if "gate" not in task_id
        }
        self.results = [
            json.loads(value)
            for (value,) in airflow.query(
                f"SELECT value FROM {XCOMS} xcom WHERE dag_id = ? AND \"key\" = 'return_value' ORDER BY timestamp",
                dag_id,
            )
        ]
        self.videos = [video["id"] for video in relay.videos() if video["prompt"].startswith(prompt)]
        self.logs = services.task_logs(dag_id, "run")

    def log(self, iteration, attempt):
        place = f"/pass={iteration}/attempt={attempt}.log"
        (text,) = [text for name, text in self.logs.items() if name.endswith(place) and "gate" not in name]
        return text


def loops(services, relay):
    prompts = ("loop: a paper boat", "in a loop[", "batch in a loop:", "batch in one folder:")
    return {dag_id: Loop(services, relay, dag_id, prompt) for dag_id, prompt in zip(LOOPS, prompts, strict=True)}


def shown_by_the_page(services, dag_id):
    """Return what the page shows of a DAG, and which requests for a file it answers."""

    def get(path):
        return services.ask("GET", f"/veo/{path}")

    batches = get(f"api/batches?dag_id={dag_id}").json()["batches"]
    for batch in batches:
        place = "/".join(quote(str(batch[name]), safe="") for name in ("dag_id", "run_id", "task_id", "map_index"))
        batch["videos"] = get(f"api/batches/{place}/videos?region={batch['region_id']}").json()["videos"]
        batch["files"] = [get(video["file_href"]).status_code for video in batch["videos"]]
    return SimpleNamespace(
        videos=get(f"api/videos?limit=100&dag_id={dag_id}").json()["videos"],
        ids_by_state=[
            card["id"]
            for state in ("generating", "submitted", "succeeded")
            for card in get(f"api/videos?limit=100&state={state}&dag_id={dag_id}").json()["videos"]
        ],
        batches=batches,
    )


def clear_run(services, dag_id):
    ask(services, "POST", f"/api/v2/dags/{dag_id}/dagRuns/run/clear", {"dry_run": False, "only_failed": False})


def clear_while_they_wait(services, relay, story):
    """Clear two tasks that wait, and let no video become ready until both wait again."""

    def wait(tries):
        states = {row.task_id: row.state for row in story.rows()}
        left = services.ends_seen(story.dag_id, "deferred", story.run_id) == tries
        accepted = [len(story.accepted(name)) for name in ("running", "deferred")]
        return left and accepted == [tries] * 2 and (states["running"], states["deferred"]) == ("running", "deferred")

    services.wait_until(lambda: wait(1), what="two tasks to wait")
    story.clear("running", "deferred", keep_task_state=False)
    services.wait_until(lambda: wait(2), what="two cleared tasks to wait again")
    relay.configure(generation_seconds=0.5)


def clear_tasks(story, run):
    story.end()
    run.end()
    story.clear("kept", "unauthorized", keep_task_state=True)
    story.clear("dropped", "fails_when_dropped", "answer_lost", "batch", ["mapped", 0], keep_task_state=False)
    story.end()
    story.clear("kept", "dropped", ["mapped", 1], keep_task_state=True)


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """The records are in Airflow's task state store."""
    root = tmp_path_factory.mktemp("clearing")
    shutil.copytree(migrated_home, root / "airflow")
    with sandbox.running(generation_seconds=3600, api_key=CANARY, faults=FAULTS) as relay:
        out = (root / "out").as_uri()
        variables = {
            "AIRFLOW_CONN_VEO_DEFAULT": relay.connection,
            "AIRFLOW__VEO__PAGE_ROOTS": out,
            "VEO_CLEARING": out,
        }
        with Services(make_airflow(root / "airflow", DAGS, **variables), parallelism=6) as services:
            story, run = (Story(services, relay, dag_id) for dag_id in ("veo_clearing", "veo_run_cleared"))
            for dag_id in LOOPS:
                services.trigger(dag_id, "run")
            clear_while_they_wait(services, relay, story)
            clear_tasks(story, run)
            clear_run(services, "veo_run_cleared")
            for dag_id in LOOPS:
                services.wait_for(dag_id, "run")
            first = loops(services, relay)
            page = {dag_id: shown_by_the_page(services, dag_id) for dag_id in LOOPS}
            ask(
                services,
                "POST",
                "/api/v2/dags/veo_loop/clearTaskInstances",
                {
                    "dry_run": False,
                    "only_failed": False,
                    "dag_run_id": "run",
                    "task_ids": ["paint.create"],
                    "keep_task_state": True,
                },
            )
            services.wait_for("veo_loop", "run")
            kept = loops(services, relay)
            for dag_id in LOOPS[:3]:
                clear_run(services, dag_id)
            story.end()
            run.end()
            for dag_id in LOOPS[:3]:
                services.wait_for(dag_id, "run")
            yield SimpleNamespace(
                rounds=story.rounds | run.rounds,
                first=first,
                page=page,
                kept=kept,
                repeated=loops(services, relay),
                batch=[json.loads(line) for line in (root / "out/run/batch/results.jsonl").read_text().splitlines()],
                sent=Counter(json.loads(request["body"])["prompt"] for request in relay.requests()),
            )


@pytest.fixture(scope="module")
def in_files(migrated_home, tmp_path_factory):
    """The records are under ``[veo] journal_path``."""
    root = tmp_path_factory.mktemp("clearing_files")
    shutil.copytree(migrated_home, root / "airflow")
    with sandbox.running(generation_seconds=0.5, api_key=CANARY) as relay:
        variables = {
            "AIRFLOW_CONN_VEO_DEFAULT": relay.connection,
            "AIRFLOW__VEO__JOURNAL_PATH": (root / "journal").as_uri(),
            "VEO_CLEARING": (root / "out").as_uri(),
        }
        with Services(make_airflow(root / "airflow", DAGS, **variables), parallelism=6) as services:
            run = Story(services, relay, "veo_run_cleared")
            for dag_id in LOOPS[:2]:
                services.trigger(dag_id, "run")
            run.end()
            run.clear("first", "second", "many", keep_task_state=False)
            for dag_id in LOOPS[:2]:
                services.wait_for(dag_id, "run")
            first = loops(services, relay)
            for dag_id in LOOPS[:2]:
                clear_run(services, dag_id)
            run.end()
            for dag_id in LOOPS[:2]:
                services.wait_for(dag_id, "run")
            yield SimpleNamespace(rounds=run.rounds, first=first, repeated=loops(services, relay))


def goes_on(before, after):
    (video,) = after.accepted
    assert (after.state, after.sent) == ("success", 1), "\n".join(after.tries)
    assert before.xcoms["return_value"] == after.xcoms["return_value"] == video
    assert f"Continuing with video {video}" in after.only_try
    assert "This task was cleared" not in after.only_try


def is_submitted_again(after):
    assert (after.state, after.sent, len(after.accepted)) == ("success", 2, 2)
    assert after.xcoms["return_value"] == after.record["veo_task_id"] == after.accepted[1]
    log = after.tries[-1]
    assert f"{LOST}. Airflow 3.4 does so unless 'Keep task state and resume' is ticked" in log
    assert log.index(BILLED_AGAIN) < log.index("Submitting a video to")


def test_cleared_task_whose_state_is_kept_continues_for_nothing(ran):
    first, again, once_more = ran.rounds["kept"]
    goes_on(first, again)
    goes_on(first, once_more)


def test_cleared_task_whose_state_is_deleted_warns_and_submits_again(ran):
    _, again, kept = ran.rounds["dropped"]
    is_submitted_again(again)
    assert (kept.state, kept.sent, kept.xcoms["return_value"]) == ("success", 2, again.accepted[1])


def test_cleared_task_whose_state_is_deleted_fails_on_request(ran):
    _, again = ran.rounds["fails_when_dropped"]
    assert (again.state, again.sent, again.record) == ("failed", 1, None)
    assert f"{LOST}." in again.only_try
    assert "on_cleared is 'fail': nothing was sent" in again.only_try


def test_unknown_outcome_whose_record_is_deleted_is_not_sent_again(ran):
    lost, again = ran.rounds["answer_lost"]
    assert (lost.state, lost.record["state"]) == ("failed", "intended")
    assert (again.state, again.sent, again.record) == ("failed", 1, None)
    assert LOST in again.only_try


def test_cleared_task_that_had_sent_nothing_is_submitted_without_a_warning(ran):
    refused, again = ran.rounds["unauthorized"]
    assert (refused.state, refused.accepted, refused.record) == ("failed", [], None)
    assert (again.state, len(again.accepted)) == ("success", 1)
    assert "This task was cleared" not in again.only_try


@pytest.mark.parametrize("name", ["running", "deferred"])
def test_task_that_is_cleared_while_it_waits_warns_and_submits_again(ran, name):
    (both,) = ran.rounds[name]
    is_submitted_again(both)
    assert len(both.tries) == 2


def test_one_index_of_a_mapped_task_is_cleared(ran):
    _, again = ran.rounds["mapped[0]"]
    is_submitted_again(again)
    goes_on(*ran.rounds["mapped[1]"])


def test_cleared_batch_continues_whether_its_state_is_kept_or_not(ran):
    assert len(ran.rounds["batch"]) == 2
    assert ran.sent["batch: a paper boat"] == ran.sent["batch: a paper plane"] == 1
    assert [row["state"] for row in ran.batch] == ["succeeded", "succeeded"]


@pytest.mark.parametrize("name", ["first", "second", "many[0]", "many[1]"])
def test_cleared_run_continues_for_nothing(ran, name):
    goes_on(*ran.rounds[name])


@pytest.mark.parametrize("name", ["first", "second", "many[0]", "many[1]"])
def test_record_in_files_survives_a_clear_that_deletes_the_state(in_files, name):
    goes_on(*in_files.rounds[name])


@pytest.mark.parametrize("place", ["ran", "in_files"])
def test_each_iteration_of_a_loop_makes_one_video_and_its_retry_continues_with_it(request, place):
    loop = request.getfixturevalue(place).first["veo_loop"]
    assert loop.state == "success"
    assert list(loop.tries.values()) == [("success", 2)] * 3
    assert len(loop.videos) == 3
    assert loop.results == loop.videos
    for iteration, video in enumerate(loop.videos):
        assert f"Accepted: video {video}" in loop.log(iteration, attempt=1)
        assert f"Continuing with video {video}" in loop.log(iteration, attempt=2)


@pytest.mark.parametrize("place", ["ran", "in_files"])
def test_each_mapped_task_of_each_iteration_makes_one_video(request, place):
    loop = request.getfixturevalue(place).first["veo_mapped_in_loop"]
    assert (loop.state, list(loop.tries.values())) == ("success", [("success", 2)] * 4)
    assert len(set(loop.videos)) == 4
    assert sorted(loop.results) == sorted(loop.videos)


def test_cleared_task_of_a_loop_continues_in_each_iteration(ran):
    before, after = ran.first["veo_loop"], ran.kept["veo_loop"]
    assert list(after.tries.values()) == [("success", 3)] * 3
    assert sorted(after.results) == sorted(before.videos)
    assert after.videos == before.videos


def test_cleared_loop_repeats_iterations_whose_records_airflow_has_lost(ran):
    before, after = ran.kept["veo_loop"], ran.repeated["veo_loop"]
    assert (after.state, len(after.videos)) == ("success", 5)
    assert set(after.results) == {before.videos[0], *after.videos[3:]}
    for iteration in 1, 2:
        logs = [log for name, log in after.logs.items() if f"/pass={iteration}" in name and "create" in name]
        assert sum(REPEATED.format(iteration) in log for log in logs) == 1
    logs = [log for name, log in after.logs.items() if "/pass=0/" in name]
    assert not any("on record for iteration" in log for log in logs)


def test_cleared_loop_continues_with_records_in_files(in_files):
    for dag_id, count in ("veo_loop", 3), ("veo_mapped_in_loop", 4):
        before, after = in_files.first[dag_id], in_files.repeated[dag_id]
        assert (after.state, len(after.videos)) == ("success", count)
        assert sorted(after.results) == sorted(before.results) == sorted(after.videos)


def test_each_iteration_of_a_batch_in_a_loop_needs_a_folder_of_its_own(ran):
    apart, together = ran.first["veo_batch_in_loop"], ran.first["veo_batch_in_one_folder"]
    assert (apart.state, len(apart.videos)) == ("success", 2)
    assert (together.state, len(together.videos)) == ("failed", 1)
    assert "it belongs to another task instance" in together.log(1, attempt=1)
    assert "{{ loop.index }} if it is in a task loop" in together.log(1, attempt=1)


def test_cleared_loop_of_batches_continues(ran):
    after = ran.repeated["veo_batch_in_loop"]
    assert (after.state, len(after.videos)) == ("success", 2)


def test_page_tells_the_iterations_of_a_loop_apart(ran):
    shown = ran.page["veo_loop"]
    assert sorted(shown.ids_by_state) == sorted(ran.first["veo_loop"].videos)
    assert sorted((card["iteration"], card["id"]) for card in shown.videos) == list(
        enumerate(ran.first["veo_loop"].videos)
    )
    assert {(card["map_index"], card["is_mapped"]) for card in shown.videos} == {(n, False) for n in range(3)}
    mapped = ran.page["veo_mapped_in_loop"]
    assert sorted(mapped.ids_by_state) == sorted(ran.first["veo_mapped_in_loop"].videos)
    assert len({card["key"] for card in mapped.videos}) == len({card["id"] for card in mapped.videos}) == 4
    assert sorted((card["iteration"], card["map_index"]) for card in mapped.videos) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_page_shows_the_videos_of_each_batch_in_a_loop(ran):
    batches = ran.page["veo_batch_in_loop"].batches
    assert sorted(batch["iteration"] for batch in batches) == [0, 1]
    ids = [video["id"] for batch in batches for video in batch["videos"]]
    assert sorted(ids) == sorted(ran.first["veo_batch_in_loop"].videos)
    assert [batch["files"] for batch in batches] == [[200], [200]]
