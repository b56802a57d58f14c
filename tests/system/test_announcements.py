"""Who learns of a video's file: DAGs that wait for it, a person who approves of it, and whoever looks at the UI."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.system.conftest import DAGS, PROJECT, make_airflow
from tests.system.services import Services
from tests.unit.storage import s3

LINKED = ("slow_create", "slow_deferred", "slow_decorated", "store")
FAULTS = (
    "failed=blocked by policy@prompt=blocked",
    "file:slow=20@prompt=slow",
)
WAITING_FOR_A_PERSON = ("awaiting_input", "deferred")  # from Airflow 3.3 on, and before
IN_A_FOLDER, IN_S3, LINKS, WORKERLESS = "in_a_folder", "in_s3", "links", "workerless"


class Ui:
    """What a person sees and does, through the REST API."""

    def __init__(self, services):
        self.services = services

    def ask(self, method, path, document=None):
        answer = self.services.ask(method, f"/api/v2/{path}", document)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def task(self, dag_id, run_id, task_id):
        return self.ask("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")["state"]

    def link(self, dag_id, run_id, task_id):
        links = self.ask("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")
        assert list(links["extra_links"]) == ["Video"]
        return links["extra_links"]["Video"]

    def events(self, run_id):
        found = self.ask("GET", f"assets/events?source_run_id={run_id}")["asset_events"]
        return [event for event in found if event["source_run_id"] == run_id]

    def store_in(self, destination):
        self.services.ask("DELETE", "/api/v2/variables/veo_destination")
        self.ask("POST", "variables", {"key": "veo_destination", "value": destination})


def examples(folder):
    """Copy the DAGs that are tested here; those that wait before they first ask do so for less long."""
    folder.mkdir()
    shutil.copy(DAGS.with_name("dags_files") / "veo_announcements.py", folder)
    for name in ("veo_files_in_s3.py", "veo_approval.py"):
        text = (PROJECT / "dags_examples" / name).read_text(encoding="utf-8")
        assert "deferrable=True" in text
        (folder / name).write_text(text.replace("deferrable=True", "deferrable=True, poll_interval=2"))
    return folder


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """All of it, once: the runs side by side where nothing depends on their order."""
    root = tmp_path_factory.mktemp("announcements")
    shutil.copytree(migrated_home, root / "airflow")
    with (
        sandbox.running(generation_seconds=3600, video_seconds=0.5, api_key=CANARY, faults=FAULTS) as relay,
        s3.serving() as objects,
    ):
        bucket = objects.bucket()
        airflow = make_airflow(
            root / "airflow",
            examples(root / "dags"),
            AIRFLOW_CONN_VEO_DEFAULT=relay.connection,
            AIRFLOW_CONN_MY_S3=objects.connection,
        )
        with Services(airflow) as services:
            found = SimpleNamespace(airflow=airflow, services=services, ui=Ui(services), root=root)
            found.ui.store_in(f"file://{root}/videos/")
            services.trigger("veo_announcements", LINKS)
            services.trigger("veo_no_worker", WORKERLESS)
            found.seen = watch_links(found, relay)
            found.approvals = {answer: answer_approval(found, answer) for answer in ("Approve", "Reject")}
            found.published = {IN_A_FOLDER: publish(found, IN_A_FOLDER)}
            found.ui.store_in(f"s3://my_s3@{bucket.name}/videos/")
            found.published[IN_S3] = publish(found, IN_S3)
            found.events = {run: found.ui.events(run) for run in (LINKS, IN_A_FOLDER, IN_S3)}
            found.last_links = {task_id: found.ui.link("veo_announcements", LINKS, task_id) for task_id in LINKED}
        found.objects = bucket.objects()
        found.bucket = bucket.name
        found.ids = {video["prompt"]: video["id"] for video in relay.videos()}
        found.relay_output = relay.output()
        yield found


def watch_links(found, relay):
    """
    Return the states in which each task was seen with and without its link, until all runs have ended.

    No video becomes ready before those tasks that are deferred then have been seen.
    """
    tasks = [("veo_announcements", LINKS, task_id) for task_id in (*LINKED, "wait", "blocked")]
    tasks.append(("veo_no_worker", WORKERLESS, "wait"))
    seen = {task_id if dag_id != "veo_no_worker" else "no_worker": [] for dag_id, _, task_id in tasks}

    def has_ended(states):
        return states and states[-1][0] in ("success", "failed", "upstream_failed")

    def watch():
        for task, states in zip(tasks, seen.values(), strict=True):
            if not has_ended(states) and (look := look_at(found.ui, *task)) not in states:
                states.append(look)

    def all_wait():
        watch()
        deferred = ("deferred", None)
        left = all(found.services.ends_seen("veo_announcements", name, LINKS) for name in ("slow_deferred", "wait"))
        return left and deferred in seen["wait"] and deferred in seen["no_worker"]

    def all_have_ended():
        watch()
        return all(map(has_ended, seen.values()))

    found.services.wait_until(all_wait, what="the tasks with links to wait")
    relay.configure(generation_seconds=1)
    found.services.wait_until(all_have_ended, what="the tasks with links to end")
    return seen


def look_at(ui, dag_id, run_id, task_id):
    """Return a task's state, and the link that it has in this state."""
    while True:
        state, link = ui.task(dag_id, run_id, task_id), ui.link(dag_id, run_id, task_id)
        if ui.task(dag_id, run_id, task_id) == state:
            return state, link


def answer_approval(found, answer):
    """Run the example until it asks, answer, and return what it asked and how it ended."""
    run_id = answer.lower()
    found.services.trigger("veo_approval", run_id)
    path = f"dags/veo_approval/dagRuns/{run_id}"
    # No person is so quick that the scheduler has not seen the worker leave.
    found.services.wait_until(lambda: found.services.ends_seen("veo_approval", "approve", run_id), what="a question")
    assert found.ui.task("veo_approval", run_id, "approve") in WAITING_FOR_A_PERSON
    (question,) = found.ui.ask("GET", f"{path}/hitlDetails")["hitl_details"]
    before = {task.task_id: task.state for task in found.services.task_instances("veo_approval", run_id)}
    found.ui.ask("PATCH", f"{path}/taskInstances/approve/-1/hitlDetails", {"chosen_options": [answer]})
    state = found.services.wait_for("veo_approval", run_id)
    return SimpleNamespace(
        question=question,
        before=before,
        state=state,
        tasks={task.task_id: task.state for task in found.services.task_instances("veo_approval", run_id)},
        xcoms=found.services.xcoms("veo_approval", run_id),
        log="".join(found.services.task_logs("veo_approval", run_id).values()),
    )


def publish(found, run_id):
    """Run the first DAG of the example, and return what the run of the second one published that it started."""
    found.ui.ask("PATCH", "dags/veo_publish_files", {"is_paused": False})
    runs = "SELECT run_id FROM dag_run WHERE dag_id = 'veo_publish_files'"
    before = set(found.airflow.query(runs))
    assert found.services.wait_for("veo_files_in_s3", found.services.trigger("veo_files_in_s3", run_id)) == "success"
    found.services.wait_until(lambda: set(found.airflow.query(runs)) - before, what="the DAG of the alias to start")
    ((started,),) = set(found.airflow.query(runs)) - before
    assert found.services.wait_for("veo_publish_files", started) == "success"
    published = found.services.xcoms("veo_publish_files", started)["publish", "return_value", -1]
    return SimpleNamespace(
        stored=found.services.xcoms("veo_files_in_s3", run_id)["create", "veo_file", -1], published=published
    )


def facts_of(ran, task_id):
    key = "return_value" if task_id == "store" else "veo_file"
    return ran.services.xcoms("veo_announcements", LINKS)[task_id, key, -1]


@pytest.mark.parametrize("task_id", LINKED)
def test_the_event_of_an_outlet_carries_what_is_known_of_the_file(ran, task_id):
    (event,) = [each for each in ran.events[LINKS] if (each["source_task_id"], each["name"]) == (task_id, "films")]
    facts = facts_of(ran, task_id)
    assert facts.keys() >= {"uri", "bytes", "sha256", "content_type", "width", "duration_seconds", "veo_task_id"}
    assert {name: event["extra"].get(name) for name in facts} == facts


def test_each_of_several_outlets_gets_the_facts(ran):
    events = {each["name"]: each["extra"] for each in ran.events[LINKS] if each["source_task_id"] == "store"}
    assert events.keys() == {"films", "archive"}
    assert facts_of(ran, "store").items() <= events["archive"].items()


def test_a_task_that_stored_nothing_announces_nothing(ran):
    assert ran.seen["blocked"][-1][0] == "failed"
    assert {event["source_task_id"] for event in ran.events[LINKS]} == set(LINKED)


@pytest.mark.parametrize("run_id", [IN_A_FOLDER, IN_S3])
def test_an_alias_gets_the_files_own_asset_and_starts_the_dag_that_is_scheduled_on_it(ran, run_id):
    stored = ran.published[run_id].stored
    (event,) = ran.events[run_id]
    assert event["uri"] == stored["uri"]
    assert stored.items() <= event["extra"].items()
    assert ran.published[run_id].published == [stored]


def test_the_example_stores_in_a_folder_and_in_s3(ran):
    local = ran.published[IN_A_FOLDER].stored
    path = ran.root / "videos" / local["uri"].removeprefix(f"file://{ran.root}/videos/")
    assert path.stat().st_size == local["bytes"]
    remote = ran.published[IN_S3].stored
    sizes = {f"s3://{ran.bucket}/{key}": size for key, size in ran.objects.items()}
    assert sizes.keys() == {remote["uri"], remote["poster"]}
    assert sizes[remote["uri"]] == remote["bytes"]


def test_an_approved_video_is_stored_and_published(ran):
    approval = ran.approvals["Approve"]
    assert approval.state == "success"
    assert set(approval.tasks.values()) == {"success"}
    stored = approval.xcoms["store", "return_value", -1]
    assert (ran.root / "videos" / stored["uri"].partition("/videos/")[2]).stat().st_size == stored["bytes"]
    assert f"Publishing {stored['uri']}" in approval.log


def test_a_rejected_video_is_not_stored_and_the_run_ends_well(ran):
    approval = ran.approvals["Reject"]
    assert approval.state == "success"
    assert {name: approval.tasks[name] for name in ("approve", "store", "publish")} == {
        "approve": "success",
        "store": "skipped",
        "publish": "skipped",
    }
    name = approval.xcoms["create", "return_value", -1].replace(":", "_")
    assert list((ran.root / "videos").rglob(f"{name}*")) == []


@pytest.mark.parametrize("answer", ["Approve", "Reject"])
def test_who_approves_is_shown_the_video_before_anything_is_stored(ran, answer):
    approval = ran.approvals[answer]
    assert approval.question["body"] == approval.xcoms["wait", "return_value", -1]["video_url"]
    assert approval.question["subject"].startswith("Publish the video of ")
    assert (approval.before["wait"], approval.before["store"], approval.before["publish"]) == ("success", None, None)


def url_of(ran, task_id):
    prompt = "slow_video" if task_id in ("store", "wait") else task_id
    return f"/files/{quote(ran.ids[f'announcements {prompt}'])}.mp4"


@pytest.mark.parametrize("task_id", LINKED)
def test_a_task_that_stores_a_video_links_to_it_while_it_runs(ran, task_id):
    states = {state for state, link in ran.seen[task_id] if link}
    assert states == {"running", "success"}
    assert all(link.endswith(url_of(ran, task_id)) for _, link in ran.seen[task_id] if link)


def test_a_link_stays_when_the_task_has_ended(ran):
    for task_id, link in ran.last_links.items():
        assert link.endswith(url_of(ran, task_id))


def test_a_sensor_links_to_the_video_when_it_is_there(ran):
    assert ("deferred", None) in ran.seen["wait"]
    state, link = ran.seen["wait"][-1]
    assert state == "success"
    assert link.endswith(url_of(ran, "wait"))


def test_a_sensor_that_never_had_a_worker_links_to_the_video(ran):
    assert ("deferred", None) in ran.seen["no_worker"]
    state, link = ran.seen["no_worker"][-1]
    assert state == "success"
    assert link.endswith(url_of(ran, "watched"))


def test_there_is_no_link_where_there_is_no_video(ran):
    assert {link or None for _, link in ran.seen["blocked"]} == {None}


def test_the_key_is_nowhere(ran):
    written = ran.airflow.everything_it_wrote()
    assert ran.published[IN_S3].stored["sha256"] in written
    assert CANARY not in written + ran.relay_output + json.dumps(ran.events)
