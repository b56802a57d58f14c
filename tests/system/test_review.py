"""A person chooses in the morning: the example asks, Airflow's API is given an answer, and the choice is published."""

from __future__ import annotations

import shutil
from datetime import timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.system.conftest import make_airflow
from tests.system.examples import EXAMPLES, NIGHT, settings_of
from tests.system.services import Services
from tests.system.test_announcements import WAITING_FOR_A_PERSON, Ui

DAG_ID = "veo_review"
SOME, NONE, NOTHING = RUNS = ("some+1", "none", "nothing")
DATES = {run_id: NIGHT + timedelta(days=number) for number, run_id in enumerate(RUNS)}
ANSWERS = {SOME: ["boat", "cow"], NONE: ["none of these"]}
NEVER_AGAIN = "timedelta(minutes=5)"


def dags(folder):
    """Copy the example, so that nothing is waited for between tries."""
    folder.mkdir()
    text = (EXAMPLES / f"{DAG_ID}.py").read_text(encoding="utf-8")
    assert NEVER_AGAIN in text
    (folder / f"{DAG_ID}.py").write_text(text.replace(NEVER_AGAIN, "timedelta(0)"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    root = tmp_path_factory.mktemp("review")
    home = shutil.copytree(migrated_home, root / "airflow")
    with sandbox.running(generation_seconds=0, video_seconds=0.2, api_key=CANARY) as relay:
        airflow = make_airflow(
            home,
            dags(root / "dags"),
            **settings_of(home, relay, poll_interval=2),
            AIRFLOW_VAR_VEO_PUBLISHED=(root / "published").as_uri(),
        )
        found = SimpleNamespace(airflow=airflow, root=root, runs={})
        with Services(airflow) as services:
            found.services, found.ui = services, Ui(services)
            found.runs[SOME] = night(found, SOME)
            found.again = publish_again(found, SOME)
            relay.set_faults("failed=too violent@prompt=keeper")
            found.runs[NONE] = night(found, NONE)
            relay.set_faults("failed=too violent")
            services.trigger(DAG_ID, NOTHING, logical_date=DATES[NOTHING])
            found.nothing = services.wait_for(DAG_ID, NOTHING, timeout=200)
        found.videos = relay.videos()
        yield found


def night(found, run_id):
    """Run the example until it asks, answer, and return what was seen before and after."""
    services, ui, part = found.services, found.ui, run_id.replace("+", "%2B")
    services.trigger(DAG_ID, run_id, logical_date=DATES[run_id])
    # See test_announcements.py: no person answers before the scheduler has seen the worker leave.
    left = f"TaskInstance Finished: dag_id={DAG_ID}, task_id=choose, run_id={run_id},"
    services.wait_until(lambda: left in services.log("scheduler"), 120, what="a question")
    path = f"dags/{DAG_ID}/dagRuns/{part}"
    (question,) = ui.ask("GET", f"{path}/hitlDetails")["hitl_details"]
    before = {task.task_id: task.state for task in services.task_instances(DAG_ID, run_id)}
    card = page(services, part)
    ui.ask("PATCH", f"{path}/taskInstances/choose/0/hitlDetails", {"chosen_options": ANSWERS[run_id]})
    state = services.wait_for(DAG_ID, run_id, timeout=120)
    return SimpleNamespace(
        question=question,
        before=before,
        card=card,
        card_after=page(services, part),
        state=state,
        xcoms=services.xcoms(DAG_ID, run_id),
    )


def page(services, part):
    """Return what the page Veo videos says about a batch, in its view and in the list."""
    one = services.ask("GET", f"/veo/api/batches/{DAG_ID}/{part}/make_videos/-1").json()
    (listed,) = [
        each for each in services.ask("GET", "/veo/api/batches").json()["batches"] if each["run_id"] == one["run_id"]
    ]
    assert listed["awaits_approval"] == one["awaits_approval"]
    return one["awaits_approval"]


def publish_again(found, run_id):
    """Clear the last task, and return the files that it published before and after."""
    before = published(found)
    found.ui.ask(
        "POST",
        f"dags/{DAG_ID}/clearTaskInstances",
        {"dry_run": False, "dag_run_id": run_id, "task_ids": ["publish"], "only_failed": False},
    )
    assert found.services.wait_for(DAG_ID, run_id, timeout=120) == "success"
    return before, published(found)


def published(found):
    root = found.root / "published"
    files = {str(path.relative_to(root)): path for path in root.rglob("*.mp4")}
    return {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in files.items()}


def test_the_person_is_asked_for_the_videos_of_the_night(ran):
    run = ran.runs[SOME]
    assert run.before == {
        "make_videos": "success",
        "questions": "success",
        "choose": run.before["choose"],
        "publish": None,
    }
    assert run.before["choose"] in WAITING_FOR_A_PERSON
    assert run.question["subject"] == f"Which videos of {DATES[SOME]:%Y-%m-%d} are published?"
    assert run.question["options"] == ["boat", "keeper", "cow", "none of these"]
    assert run.question["multiple"] is True
    assert "/plugin/veo-videos?batch=veo_review/some%252B1/make_videos/-1)" in run.question["body"]


def test_only_the_chosen_videos_are_published(ran):
    assert ran.runs[SOME].state == "success"
    before, _ = ran.again
    (folder,) = (ran.airflow.home / "videos" / DAG_ID).rglob(f"{SOME}/videos")
    stored = {path.name: path.read_bytes() for path in folder.glob("*.mp4")}
    assert len(stored) == 3
    assert {name.partition("/")[0] for name in before} == {f"{DATES[SOME]:%Y-%m-%d}"}
    chosen = {name.rpartition("/")[2]: content for name, (_, content) in before.items()}
    assert sorted(name.partition("-")[0] for name in chosen) == ["boat", "cow"]
    assert {name: stored[name] for name in chosen} == chosen


def test_publishing_again_copies_nothing_again(ran):
    before, after = ran.again
    assert after == before


def test_videos_that_are_not_ready_are_no_options(ran):
    assert ran.runs[NONE].question["options"] == ["boat", "cow", "none of these"]


def test_nothing_is_published_if_nothing_is_chosen(ran):
    assert ran.runs[NONE].state == "success"
    assert ran.runs[NONE].xcoms["publish", "return_value", -1] == []
    assert published(ran) == ran.again[1]


def test_nobody_is_asked_if_nothing_succeeded(ran):
    assert ran.nothing == "failed"
    states = {task.task_id: task.state for task in ran.services.task_instances(DAG_ID, NOTHING)}
    assert states["make_videos"] == "failed"
    assert {states[name] for name in ("questions", "choose", "publish")} == {"upstream_failed"}


@pytest.mark.parametrize("run_id", ANSWERS)
def test_the_page_links_to_the_question_while_it_waits(ran, run_id):
    assert (ran.runs[run_id].card, ran.runs[run_id].card_after) == (True, False)
