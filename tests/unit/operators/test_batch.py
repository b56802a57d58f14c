"""The batch operator: what a try submits, stores, pushes and writes, how it defers, and what later tries do."""

from __future__ import annotations

import decimal
import hashlib
import json
import re
import threading
import time
from urllib.parse import unquote

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowFailException, BaseOperator

from airflow_provider_veo.operators import VeoVideoBatchOperator
from airflow_provider_veo.operators.batch import KILLED
from airflow_provider_veo.protocol import VeoAuthenticationError, VeoUnavailableError, VeoValidationError
from airflow_provider_veo.protocol.prices import exact
from tests.conftest import CANARY
from tests.unit.task_context import TaskInstance, arguments_of, deferral, fired, resume, run

PRICES = {"prices": {"veo3-fast": 0.4}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "batch"


@pytest.fixture
def batch(relay, folder):
    """Make the task: it waits in the worker and stores no files, unless the arguments say otherwise."""
    relay.configure(video_seconds=0.2)

    def make(*jobs, **arguments):
        given = {"jobs": list(jobs), "result_path": folder.as_uri(), "model": "veo3-fast", "poll_interval": 0.05}
        given |= {"task_id": "make", "download": False, "deferrable": False}
        return VeoVideoBatchOperator(**{**given, **arguments})

    return make


@pytest.fixture
def rows(folder):
    return lambda: [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def states(rows):
    return lambda: [row["state"] for row in rows()]


def accepted(relay):
    return relay.stats()["accepted_by_prompt"]


# --- mistakes in a DAG file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"jobs": None}, "expected jobs or manifest, got neither"),
        ({"manifest": "jobs.csv"}, "expected jobs or manifest, got jobs and manifest"),
        ({"result_path": " "}, "result_path: expected the URI of a folder"),
        ({"on_ambiguous_submit": "retry"}, "on_ambiguous_submit: expected 'fail' or 'resubmit', got 'retry'"),
        ({"max_videos": 0}, "max_videos: expected a whole number above 0, got 0"),
        ({"max_in_flight": 1.5}, "max_in_flight: expected a whole number above 0, got 1.5"),
        ({"attempts_per_video": 0}, "attempts_per_video: expected a whole number above 0, got 0"),
        ({"max_cost": -1}, "max_cost: expected a number above 0, got -1"),
        ({"requests_per_minute": 0}, "requests_per_minute: expected a number above 0, got 0"),
        ({"poll_interval": None}, "poll_interval: expected a number above 0, got None"),
        ({"timeout": True}, "timeout: expected a number above 0, got True"),
    ],
)
def test_mistake_in_a_dag_file_is_reported(arguments, part):
    given = {"task_id": "make", "jobs": ["a cow"], "result_path": "file:///videos", **arguments}
    with pytest.raises(VeoValidationError) as caught:
        VeoVideoBatchOperator(**given)
    assert caught.value.mistakes == (part,)


def test_templated_limits_are_not_validated_at_parse_time():
    limits = dict.fromkeys(("max_videos", "max_cost"), "{{ params.limit }}")
    VeoVideoBatchOperator(task_id="make", jobs="{{ params.jobs }}", result_path="{{ params.folder }}", **limits)


def test_limits_from_xcoms_are_not_validated_at_parse_time():
    with DAG("veo", schedule=None):
        planned = BaseOperator(task_id="plan").output
        limits = {"max_videos": planned, "max_cost": planned}
        made = VeoVideoBatchOperator(task_id="make", jobs=planned, result_path="file:///videos", **limits)
    assert made.upstream_task_ids == {"plan"}


# --- one try in the worker -------------------------------------------------------------------------------------------


def test_execute_makes_every_video_once_and_stores_it(relay, ti, batch, folder, rows):
    jobs = ["a cow", {"prompt": "a dog", "key": "dog", "aspect_ratio": "16:9"}]
    done = batch(*jobs, download=True).execute(ti.context)
    assert (done["succeeded"], done["total"]) == (2, 2)
    assert accepted(relay) == {"a cow": 1, "a dog": 1}
    cow, dog = rows()
    assert (cow["state"], cow["source"], cow["request"]["prompt"]) == ("succeeded", "jobs[0]", "a cow")
    assert (dog["key"], dog["attempts"]) == ("dog", 1)
    for row in (cow, dog):
        (file,) = [path for path in (folder / "videos").iterdir() if path.as_uri() == row["file"]]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
        assert row["poster"] == file.with_suffix(".jpg").as_uri()
    assert len(list((folder / "videos").glob("*.mp4"))) == len(list((folder / "videos").glob("*.jpg"))) == 2


def test_execute_writes_a_report_and_pushes_a_message(relay, ti, batch, folder, connect):
    connect(extra=PRICES)
    done = batch("a cow", "a dog", download=True).execute(ti.context)
    report = folder / "report.html"
    assert done["report"] == ti.xcoms["report_path"] == report.as_uri()
    assert report.read_text().count('src="data:image/jpeg;base64,') == 2
    for name in re.findall(r'href="(videos/[^"]+)"', report.read_text()):
        assert (folder / unquote(name)).is_file()
    assert ti.xcoms["summary_text"].split("\n") == [
        f"veo, make, run {ti.run_id}",
        "2 of 2 videos succeeded",
        "Cost: 0.8",
        "Nothing went wrong",
        f"Report: {report.as_uri()}",
    ]


def test_a_task_that_fails_has_pushed_its_report_before(relay, ti, batch, folder):
    relay.set_faults("failed=<b>too violent</b>")
    with pytest.raises(AirflowFailException):
        batch("a cow").execute(ti.context)
    assert "1 failed" in ti.xcoms["summary_text"]
    assert ti.xcoms["report_path"] == (folder / "report.html").as_uri()
    assert "&lt;b&gt;too violent&lt;/b&gt;" in (folder / "report.html").read_text()


def test_a_report_that_can_not_be_written_does_not_fail_the_task(relay, ti, batch, folder):
    (folder / "report.html").mkdir(parents=True)
    done = batch("a cow").execute(ti.context)
    assert (done["succeeded"], done["report"]) == (1, None)
    assert "report_path" not in ti.xcoms
    assert ti.xcoms["summary_text"].endswith("Report: could not be written, see the log")


def test_execute_returns_and_pushes_what_became_of_the_jobs(relay, ti, batch, folder, connect):
    connect(extra=PRICES)
    done = batch("a cow", "a dog").execute(ti.context)
    assert done.pop("report") == (folder / "report.html").as_uri()
    ends = ("not_stored", "failed", "blocked", "refused", "unknown", "timed_out", "not_submitted")
    assert done == {
        "results": (folder / "results.jsonl").as_uri(),
        "summary": (folder / "summary.json").as_uri(),
        "total": 2,
        "succeeded": 2,
        **dict.fromkeys(ends, 0),
        "cost": 0.8,
        "possible_cost": 0,
    }
    summary = json.loads((folder / "summary.json").read_text())
    assert {name: summary[name] for name in done} == done
    assert (summary["dag_id"], summary["task_id"], summary["try_number"]) == ("veo", "make", 1)
    progress = ti.xcoms["progress"]
    assert (progress["total"], progress["done"], progress["failed"], progress["to_submit"]) == (2, 2, 0, 0)
    assert (progress["cost"], progress["folder"]) == (0.8, folder.as_uri())


def test_manifest_is_read(relay, ti, batch, tmp_path, rows):
    (tmp_path / "jobs.csv").write_text("key,prompt\nboat,a boat\n")
    batch(jobs=None, manifest=f"file://{tmp_path}/jobs.csv").execute(ti.context)
    assert [(row["key"], row["source"]) for row in rows()] == [("boat", "jobs.csv, line 2")]


# --- refused before a request ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "part"),
    [
        ({"max_cost": 0.5}, "max_cost"),
        ({"max_cost": "0.5"}, "max_cost"),
        ({"max_videos": 1}, "max_videos"),
        ({"max_cost": 5, "model": "veo3"}, '"prices": {"veo3": '),
    ],
)
def test_limit_that_is_exceeded_sends_nothing(relay, ti, batch, connect, folder, limits, part):
    connect(extra=PRICES)
    with pytest.raises(AirflowFailException) as caught:
        batch("a cow", "a dog", **limits).execute(ti.context)
    assert part in str(caught.value)
    assert relay.stats()["requests"] == {}
    assert not folder.exists()
    assert ti.xcoms == {}


def test_invalid_jobs_are_reported_together_before_a_request(relay, ti, batch, folder):
    jobs = [
        "a cow",
        {"prompt": " "},
        {"prompt": "a dog", "model": "veo9"},
        {"propmt": "a cat"},
        {"prompt": "x", "key": ["x"]},
    ]
    with pytest.raises(AirflowFailException) as caught:
        batch(*jobs).execute(ti.context)
    for index in range(1, 5):
        assert f"jobs[{index}]" in str(caught.value)
    assert relay.stats()["requests"] == {}
    assert not folder.exists()


def test_folder_of_another_task_instance_sends_nothing(relay, ti, batch):
    batch("a cow").execute(ti.context)
    with pytest.raises(AirflowFailException, match="belongs to another task instance"):
        batch("a dog").execute(TaskInstance("another").context)
    assert accepted(relay) == {"a cow": 1}


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "state", "billed"),
    [
        ("failed=blocked@prompt=dog", "failed", 2),
        ("status=400@prompt=dog", "refused", 1),
        ("drop-after@prompt=dog", "unknown", 2),
    ],
)
def test_job_that_fails_does_not_end_the_others(relay, ti, batch, states, fault, state, billed):
    relay.set_faults(fault)
    done = batch("a dog", "a cow").execute(ti.context)
    assert (done["total"], done["succeeded"], done[state]) == (2, 1, 1)
    assert states() == [state, "succeeded"]
    assert relay.stats()["accepted"] == billed


@pytest.mark.parametrize(
    ("jobs", "arguments"),
    [(["a cow", "a dog"], {"fail_on_partial_error": True}), (["a dog"], {}), (["a dog", "dogs"], {})],
)
def test_batch_fails_for_good_and_writes_its_results(relay, ti, batch, states, jobs, arguments):
    relay.set_faults("failed=blocked@prompt=dog")
    with pytest.raises(AirflowFailException, match="failed: blocked"):
        batch(*jobs, **arguments).execute(ti.context)
    assert states() == ["failed" if "dog" in job else "succeeded" for job in jobs]


def test_failed_generation_is_submitted_again_up_to_the_limit(relay, ti, batch, rows):
    relay.set_faults("failed=no luck@1-2")
    batch("a cow", attempts_per_video=3).execute(ti.context)
    (row,) = rows()
    assert (row["state"], row["attempts"], len(row["earlier_ids"])) == ("succeeded", 3, 2)
    assert accepted(relay) == {"a cow": 3}


def test_unknown_outcome_is_not_submitted_again(relay, ti, batch, connect):
    connect(extra=PRICES)
    relay.set_faults("drop-after@prompt=dog,1")
    for _ in range(2):
        done = batch("a cow", "a dog").execute(ti.context)
        assert (done["unknown"], done["cost"], done["possible_cost"]) == (1, 0.4, 0.4)
        (spent,) = ti.xcoms["veo_spend"]
        assert (spent["model"], spent["videos"], spent["cost"]) == ("veo3-fast", 1, 0.4)
        assert (spent["unknown"], spent["possible_cost"], spent["unpriced"]) == (1, 0.4, 0)
        ti.next_try()
    assert accepted(relay) == {"a cow": 1, "a dog": 1}
    done = batch("a cow", "a dog", on_ambiguous_submit="resubmit").execute(ti.context)
    assert done["succeeded"] == 2
    assert accepted(relay) == {"a cow": 1, "a dog": 2}


def test_rejected_key_fails_for_good(relay, ti, batch, connect, states):
    connect(password=CANARY + "-wrong")
    with pytest.raises(AirflowFailException) as caught:
        batch("a cow", "a dog").execute(ti.context)
    assert CANARY not in str(caught.value)
    assert states() == ["not_submitted"] * 2
    assert accepted(relay) == {}


# --- deferred --------------------------------------------------------------------------------------------------------


def test_it_submits_and_defers(relay, ti, batch, folder):
    deferred = deferral(
        batch("a cow", "a dog", deferrable=True, timeout=600, requests_per_minute=6000).execute, ti.context
    )
    kind, arguments = arguments_of(deferred)
    assert kind == "VeoVideoBatchTrigger"
    assert set(arguments["videos"]) == {video["id"] for video in relay.videos()}
    expected = {
        "veo_conn_id": "veo_default",
        "timeout": 600,
        "poll_interval": 0.05,
        "enough": 0,
        "linger": None,
        "wake_at": None,
        "requests_per_minute": 6000,
        "held_until": None,
        "refused_since": None,
    }
    assert {name: arguments[name] for name in expected} == expected
    assert arguments["handed_on"]["try_id"]
    assert arguments["progress"] == ti.xcoms["progress"]
    assert (ti.xcoms["progress"]["generating"], ti.xcoms["progress"]["done"]) == (2, 0)
    assert (deferred.method_name, deferred.kwargs, deferred.timeout) == ("execute_complete", None, None)
    assert CANARY not in json.dumps(arguments)
    assert relay.stats()["requests"] == {"create": 2}
    assert not (folder / "results.jsonl").exists()


def test_worker_is_woken_to_submit_more(relay, ti, batch):
    deferred = deferral(batch(*map(str, range(9)), deferrable=True, max_in_flight=8).execute, ti.context)
    _, arguments = arguments_of(deferred)
    assert (len(arguments["videos"]), arguments["enough"], arguments["linger"]) == (8, 2, 120)
    assert ti.xcoms["progress"]["to_submit"] == 1


def test_later_processes_finish_the_batch(relay, ti, batch, folder, states):
    prompts = [f"cow {number}" for number in range(4)]
    done = run(ti, lambda: batch(*prompts, deferrable=True, download=True, max_in_flight=2))
    assert (done["succeeded"], done["total"]) == (4, 4)
    assert accepted(relay) == dict.fromkeys(prompts, 1)
    assert states() == ["succeeded"] * 4
    assert len(list((folder / "videos").glob("*.mp4"))) == 4
    assert (ti.xcoms["progress"]["done"], ti.xcoms["progress"]["generating"]) == (4, 0)


def test_failures_that_a_trigger_reports_are_in_the_results(relay, ti, batch, states):
    relay.set_faults("failed=no luck@prompt=dog")
    done = run(ti, lambda: batch("a cow", "a dog", deferrable=True))
    assert (done["succeeded"], done["failed"]) == (1, 1)
    assert states() == ["succeeded", "failed"]


def test_execute_complete_without_outcomes_defers_again(relay, ti, batch):
    relay.configure(generation_seconds=600)
    deferred = deferral(batch("a cow", deferrable=True).execute, ti.context)
    _, first = arguments_of(deferred)
    event = {"outcomes": {}, **first["handed_on"]}
    _, again = arguments_of(deferral(batch("a cow", deferrable=True).execute_complete, ti.context, event))
    assert again["videos"] == first["videos"]
    assert again["handed_on"]["try_id"] == first["handed_on"]["try_id"]
    assert accepted(relay) == {"a cow": 1}


@pytest.mark.parametrize(
    ("kind", "raised"), [(VeoAuthenticationError, AirflowFailException), (VeoUnavailableError, VeoUnavailableError)]
)
def test_execute_complete_raises_the_error_of_the_event(relay, ti, batch, kind, raised):
    with pytest.raises(raised, match="no answer"):
        batch("a cow", deferrable=True).execute_complete(ti.context, {"error": kind("no answer").to_dict()})
    assert relay.stats()["requests"] == {}


# --- later tries and kills -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_next_try_sends_nothing(relay, ti, batch, folder, deferrable):
    relay.set_faults("failed@prompt=dog")

    def make():
        return batch("a cow", "a dog", deferrable=deferrable, download=True)

    first = run(ti, make)
    results, requests = (folder / "results.jsonl").read_bytes(), relay.stats()["requests"]
    ti.next_try()
    assert run(ti, make) == first
    assert (folder / "results.jsonl").read_bytes() == results
    assert relay.stats()["requests"] == requests


def test_next_try_submits_only_new_jobs(relay, ti, batch):
    batch("a cow").execute(ti.context)
    ti.next_try()
    assert batch("a cow", "a dog").execute(ti.context)["succeeded"] == 2
    assert accepted(relay) == {"a cow": 1, "a dog": 1}


def test_next_try_continues_with_videos_of_a_deferred_one(relay, ti, batch):
    deferred = deferral(batch("a cow", deferrable=True).execute, ti.context)
    ti.next_try()
    assert batch("a cow").execute(ti.context)["succeeded"] == 1
    assert resume(ti, batch("a cow", deferrable=True), deferred, fired(deferred))["succeeded"] == 1
    assert accepted(relay) == {"a cow": 1}


def test_kill_before_the_run_sends_nothing(relay, ti, batch):
    operator = batch("a cow")
    operator.on_kill()
    with pytest.raises(AirflowException, match=KILLED):
        operator.execute(ti.context)
    assert relay.stats()["requests"] == {}


def test_next_try_continues_after_a_kill(relay, ti, batch, logged):
    relay.configure(generation_seconds=600)
    operator = batch("a cow", "a dog", "a cat", max_in_flight=2)

    def kill():
        while len(operator._run.engine.places.in_flight if operator._run else ()) < 2 or len(relay.videos()) < 2:
            time.sleep(0.01)
        operator.on_kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(AirflowException, match=KILLED):
        operator.execute(ti.context)
    killer.join()
    assert "Up to 2 videos are still being generated and will be billed" in logged()
    assert accepted(relay) == {"a cow": 1, "a dog": 1}
    relay.configure(generation_seconds=0)
    ti.next_try()
    assert batch("a cow", "a dog", "a cat", max_in_flight=2).execute(ti.context)["succeeded"] == 3
    assert accepted(relay) == {"a cow": 1, "a dog": 1, "a cat": 1}


def test_spend_is_pushed_if_a_later_try_refuses_the_jobs(relay, ti, batch, connect):
    connect(extra=PRICES)
    relay.set_faults("failed=no luck")
    with pytest.raises(AirflowFailException):
        batch("a cow", "a dog").execute(ti.context)
    spent = ti.xcoms["veo_spend"]
    assert [(row["model"], row["cost"]) for row in spent] == [("veo3-fast", 0.8)]
    ti.next_try()
    with pytest.raises(AirflowFailException, match=r"max_cost: expected at most 0\.5, got 0\.8"):
        batch("a cow", "a dog", max_cost=0.5).execute(ti.context)
    assert ti.xcoms["veo_spend"] == spent
    ti.next_try()
    with pytest.raises(AirflowFailException, match="prompt: expected a non-empty string"):
        batch("a cow", " ").execute(ti.context)
    assert ti.xcoms["veo_spend"] == spent


@pytest.fixture
def imprecise():
    """What a DAG file may have set."""
    with decimal.localcontext(decimal.Context(prec=1)):
        exact.cache_clear()
        yield


def test_precision_that_a_dag_file_has_set_changes_no_sum(relay, ti, batch, connect, imprecise):
    connect(extra={"prices": {"veo3-fast": 0.35}})
    relay.set_faults("failed=no luck")
    with pytest.raises(AirflowFailException, match="0 of 2 jobs succeeded"):
        batch("a cow", "a dog", max_cost=2.5, attempts_per_video=9).execute(ti.context)
    assert relay.stats()["accepted"] == 7
    assert ti.xcoms["veo_spend"][0]["cost"] == 2.45
