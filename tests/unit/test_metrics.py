"""Metrics and spans, as Airflow's own OpenTelemetry logger and a tracer collect them in memory."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from importlib import import_module
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath, Stats, TaskDeferred
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_provider_veo import metrics
from airflow_provider_veo.journal import TaskJournal
from airflow_provider_veo.journal.batch_journal import BatchJournal
from airflow_provider_veo.journal.identity import owner_of
from airflow_provider_veo.metrics import NAMES, TaskMetrics
from airflow_provider_veo.operators import VeoDownloadVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.protocol import VeoAmbiguousSubmitError, VeoDownloadError
from airflow_provider_veo.sensors import VeoVideoSensor
from tests.airflow_lines import LINE
from tests.conftest import CANARY
from tests.unit.conftest import LOG
from tests.unit.operators.test_create import create
from tests.unit.task_context import TaskInstance, deferral, fired, run

PLACE = "airflow.sdk._shared.observability.metrics" if LINE >= (3, 2) else "airflow.metrics"
PROMPT = "a cow that nobody may read about"


class Broken(import_module(f"{PLACE}.base_stats_logger").NoStatsLogger):
    """A metrics system that fails for this provider; on some lines Airflow itself uses it meanwhile."""

    @classmethod
    def incr(cls, stat, *arguments, **options):
        if stat.startswith("veo."):
            raise ConnectionError("no metrics today")


class BrokenSpan(trace.NonRecordingSpan):
    """A span that fails."""

    def is_recording(self):
        raise ConnectionError("no spans today")


class BrokenTracer:
    """A tracer that fails."""

    def start_span(self, name, **options):
        raise ConnectionError("no traces today")


@pytest.fixture
def backend(monkeypatch):
    """Put a logger in the place of the one that Airflow makes from its configuration."""

    def use(logger):
        if LINE >= (3, 3):
            stats = import_module("airflow.sdk._shared.observability.metrics.stats")
            monkeypatch.setattr(stats, "_factory", lambda: logger)
            monkeypatch.setattr(stats, "_backend", None)
        else:
            monkeypatch.setattr(Stats, "instance", logger, raising=False)
            monkeypatch.setattr(Stats, "_instance_pid", os.getpid(), raising=False)

    return use


@pytest.fixture
def counted(backend):
    """Return what was counted so far: the sums by name without tags, and the tags of each."""
    reader = InMemoryMetricReader()
    backend(import_module(f"{PLACE}.otel_logger").SafeOtelLogger(MeterProvider([reader])))
    seen = {}

    def read():
        data = reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                if (name := metric.name.removeprefix("airflow.")).startswith("veo."):
                    seen[name] = [(dict(point.attributes), point.value) for point in metric.data.data_points]
        return {name: sum(value for _, value in points) for name, points in seen.items()}

    read.points = seen
    return read


@pytest.fixture(scope="module")
def tracing():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return SimpleNamespace(exporter=exporter, provider=provider)


@pytest.fixture
def spans(tracing, monkeypatch):
    """The finished spans, traced by the tracer of the process."""
    tracing.exporter.clear()
    monkeypatch.setattr(trace, "get_tracer", tracing.provider.get_tracer)
    return tracing.exporter.get_finished_spans


@pytest.fixture(autouse=True)
def _not_warned_yet(monkeypatch):
    monkeypatch.setattr(metrics, "_warned", set())


def without_waiting(counts):
    return {name: count for name, count in counts.items() if name != metrics.WAITED}


def waiting(**arguments):
    return create(**{"wait_for_completion": True, **arguments})


PRICED = {"prices": {"veo3-fast": 0.4}}


def test_a_video_is_counted_once_however_it_is_waited_for(connect, ti, counted, tmp_path):
    connect(extra=PRICED)
    run(ti, lambda: waiting(deferrable=True, download_to=f"{tmp_path.as_uri()}/"))
    counts = counted()
    size = ti.xcoms["veo_file"]["bytes"]
    assert counts.pop(metrics.WAITED) > 0
    assert counts == {
        "veo.submissions.accepted": 1,
        "veo.cost": 0.4,
        "veo.videos.succeeded": 1,
        "veo.stored_files": 1,
        "veo.stored_bytes": size,
    }
    own = {"dag_id": "veo", "task_id": "make"}
    assert {name for name, points in counted.points.items() if points[0][0] == own} == {
        metrics.STORED_FILES,
        metrics.STORED_BYTES,
    }
    assert counted.points["veo.submissions.accepted"] == [({**own, "model": "veo3-fast"}, 1)]


def test_a_retry_that_finds_its_video_counts_no_submission(relay, ti, counted):
    relay.configure(generation_seconds=600)
    with pytest.raises(TaskDeferred):
        waiting(deferrable=True).execute(ti.context)
    ti.next_try()
    relay.configure(generation_seconds=0)
    run(ti, lambda: waiting(deferrable=True))
    assert without_waiting(counted()) == {"veo.submissions.accepted": 1, "veo.videos.succeeded": 1}


def test_a_retry_after_a_failed_download_counts_the_video_once(relay, ti, counted, tmp_path):
    relay.set_faults("file:status=403")
    to = f"{tmp_path.as_uri()}/"
    with pytest.raises((VeoDownloadError, AirflowFailException)):
        run(ti, lambda: waiting(download_to=to))
    ti.next_try()
    relay.set_faults()
    run(ti, lambda: waiting(download_to=to))
    counts = without_waiting(counted())
    assert counts.pop(metrics.STORED_BYTES) == ti.xcoms["veo_file"]["bytes"]
    assert counts == {"veo.submissions.accepted": 1, "veo.videos.succeeded": 1, "veo.stored_files": 1}


def test_a_file_that_exists_is_not_stored_again(relay, ti, counted, tmp_path):
    run(ti, lambda: waiting(download_to=f"{tmp_path.as_uri()}/"))
    before = counted()
    (path,) = tmp_path.rglob("*.mp4")
    store = VeoDownloadVideoOperator(task_id="make", destination=path.as_uri(), veo_video=ti.xcoms["veo_video"])
    stored = store.execute(ti.context)
    assert (stored["bytes"], "reused" in stored) == (path.stat().st_size, False)
    assert counted() == before


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("drop-after", "unknown"),
        ("status=400", "refused"),
        ("status=401", "refused"),
        ("status=503", "unavailable"),
    ],
)
def test_a_create_that_is_not_accepted_is_counted(connect, relay, impatient, ti, counted, fault, outcome):
    connect(extra=PRICED)
    relay.set_faults(fault)
    with pytest.raises(Exception):  # noqa: B017  of any kind: the outcome is what matters
        run(ti, create)
    assert counted() == {f"veo.submissions.{outcome}": 1}


def test_each_try_that_finds_an_unknown_submission_counts_it(relay, ti, counted):
    relay.set_faults("drop-after")
    with pytest.raises(AirflowFailException):
        run(ti, create)
    relay.set_faults()
    for found in (1, 2):
        ti.next_try()
        with pytest.raises(AirflowFailException):
            run(ti, create)
        assert counted() == {"veo.submissions.unknown": 1, "veo.found_unknown": found}


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(("reason", "end"), [("too slow", "failed"), ("blocked by the safety filter", "blocked")])
def test_a_failed_generation_is_counted_by_its_kind(relay, ti, counted, deferrable, reason, end):
    relay.set_faults(f"failed={reason}")
    with pytest.raises(Exception, match=reason):
        run(ti, lambda: waiting(deferrable=deferrable))
    assert without_waiting(counted()) == {"veo.submissions.accepted": 1, f"veo.videos.{end}": 1}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_wait_that_times_out_is_counted(relay, ti, counted, deferrable):
    relay.configure(generation_seconds=600)
    with pytest.raises(Exception, match="was not ready"):
        run(ti, lambda: waiting(deferrable=deferrable, timeout=0.3, poll_interval=0.05))
    counts = counted()
    assert counts.pop(metrics.WAITED) >= 0.3
    assert counts == {"veo.submissions.accepted": 1, "veo.videos.timed_out": 1}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_sensor_counts_what_it_waited_for(relay, ti, counted, deferrable):
    run(ti, create)
    before = counted()
    assert without_waiting(before) == {"veo.submissions.accepted": 1}
    relay.configure(generation_seconds=0.3)
    other = TaskInstance("wait")

    def sensor():
        return VeoVideoSensor(
            task_id="wait", veo_task_id=ti.xcoms["return_value"], poll_interval=0.05, deferrable=deferrable
        )

    run(other, sensor)
    assert without_waiting(counted()) == {"veo.submissions.accepted": 1, "veo.videos.succeeded": 1}
    ((tags, _),) = counted.points["veo.videos.succeeded"]
    assert (tags["dag_id"], tags["task_id"]) == ("veo", "wait")


def test_events_of_earlier_versions_are_understood(relay, ti, counted):
    deferred = deferral(waiting(deferrable=True).execute, ti.context)
    event = fired(deferred)
    del event["started"]
    waiting(deferrable=True).execute_complete(ti.context, event)
    assert counted() == {"veo.submissions.accepted": 1, "veo.videos.succeeded": 1}


def batch(folder, **arguments):
    jobs = [f"prompt {number}" for number in range(5)]
    given = {"jobs": jobs, "model": "veo3-fast", "poll_interval": 0.05, **arguments}
    return VeoVideoBatchOperator(task_id="make", result_path=folder.as_uri(), **given)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_batch_counts_each_video_once_through_all_its_processes_and_tries(
    connect, relay, ti, counted, tmp_path, deferrable
):
    connect(extra=PRICED)
    relay.set_faults("failed=blocked by the safety filter@1")
    relay.configure(generation_seconds=0.2)
    result = run(ti, lambda: batch(tmp_path, deferrable=deferrable, max_in_flight=3))
    assert (result["succeeded"], len(relay.videos())) == (5, 6)
    ti.next_try()
    run(ti, lambda: batch(tmp_path, deferrable=deferrable))
    counts = counted()
    assert counts.pop(metrics.WAITED) >= 6 * 0.2
    assert counts.pop(metrics.COST) == pytest.approx(6 * 0.4) == pytest.approx(result["cost"])
    assert counts.pop(metrics.STORED_BYTES) == sum(path.stat().st_size for path in tmp_path.rglob("*.mp4"))
    assert counts == {
        "veo.submissions.accepted": 6,
        "veo.videos.succeeded": 5,
        "veo.videos.blocked": 1,
        "veo.stored_files": 5,
    }


def test_a_batch_counts_a_lost_answer_when_it_happens_and_in_each_try_that_finds_it(relay, ti, counted, tmp_path):
    relay.set_faults("drop-after@1")
    run(ti, lambda: batch(tmp_path, download=False))
    assert counted()["veo.submissions.unknown"] == 1
    ti.next_try()
    run(ti, lambda: batch(tmp_path, download=False))
    assert without_waiting(counted()) == {
        "veo.submissions.accepted": 4,
        "veo.submissions.unknown": 1,
        "veo.videos.succeeded": 4,
        "veo.found_unknown": 1,
    }


def test_metrics_that_fail_fail_no_task_and_are_logged_once(relay, ti, backend, caplog, tmp_path):
    backend(Broken())
    with caplog.at_level(logging.WARNING, logger=metrics.log.name):
        run(ti, lambda: waiting(download_to=f"{tmp_path.as_uri()}/"))
    assert list(tmp_path.rglob("*.mp4"))
    (record,) = [each for each in caplog.records if each.name == metrics.log.name]
    assert "no metrics today" in record.getMessage()


class Hanging(Broken):
    """A metrics system that does not return before it may."""

    entered, may_return = threading.Event(), threading.Event()

    @classmethod
    def incr(cls, stat, *arguments, **options):
        if stat.startswith("veo."):
            cls.entered.set()
            cls.may_return.wait(20)


@pytest.fixture
def hanging(backend):
    Hanging.entered.clear()
    Hanging.may_return.clear()
    backend(Hanging())
    yield Hanging
    Hanging.may_return.set()


def test_a_batch_records_its_answers_while_the_metrics_hang(relay, ti, hanging, tmp_path):
    seen = []

    def look():
        assert hanging.entered.wait(20)
        deadline = time.monotonic() + 10
        while len(seen) < 5 and time.monotonic() < deadline:
            journal = BatchJournal(ObjectStoragePath(f"{tmp_path.as_uri()}/_journal"), owner_of(ti.context), LOG)
            seen[:] = [record.veo_task_id for record in journal.read().values() if record.veo_task_id]
            time.sleep(0.1)
        hanging.may_return.set()

    looking = threading.Thread(target=look)
    looking.start()
    run(ti, lambda: batch(tmp_path, download=False, deferrable=False))
    looking.join()
    assert set(seen) == {video["id"] for video in relay.videos()}


def test_a_task_can_be_killed_while_the_metrics_hang(relay, ti, hanging):
    class Killed(BaseException):
        pass

    def kill(number, frame):
        raise Killed

    def send():
        assert hanging.entered.wait(20)
        time.sleep(0.5)  # until it hangs
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    handler = signal.signal(signal.SIGTERM, kill)
    began = time.monotonic()
    killing = threading.Thread(target=send)
    killing.start()
    try:
        with pytest.raises(Killed):
            create().execute(ti.context)
    finally:
        signal.signal(signal.SIGTERM, handler)
        killing.join()
    assert time.monotonic() - began < 10
    hanging.may_return.set()
    ti.next_try()
    create().execute(ti.context)
    assert len(relay.videos()) == 1


def test_models_that_nobody_has_declared_share_a_tag(counted):
    own = TaskMetrics("dag", "task", frozenset({"veo4"}))
    for model in ("veo4", "https://example.com/?q=1", None, ["veo4"]):
        own.ended("failed", model, None)
    counted()
    assert {tags["model"]: value for tags, value in counted.points["veo.videos.failed"]} == {"veo4": 1, "other": 3}


def test_all_names_are_valid_for_statsd_and_opentelemetry():
    assert len(set(NAMES)) == len(NAMES)
    assert [name for name in NAMES if not re.fullmatch(r"veo\.[a-z_.]+", name) or len(f"airflow.{name}") > 63] == []


def test_submitting_and_storing_are_traced_below_the_tasks_own_span(relay, ti, spans, tmp_path, tracing):
    with tracing.provider.get_tracer("airflow").start_as_current_span("task"):
        run(ti, lambda: waiting(prompt=PROMPT, download_to=f"{tmp_path.as_uri()}/"))
    submit, store, task = spans()
    assert (submit.name, store.name) == ("veo.submit", "veo.store")
    assert submit.parent.span_id == store.parent.span_id == task.context.span_id
    assert dict(submit.attributes) == {"veo.model": "veo3-fast", "veo.outcome": "accepted"}
    assert submit.status.is_ok


def test_the_spans_of_a_batch_belong_to_its_task(relay, ti, spans, tracing, tmp_path):
    with tracing.provider.get_tracer("airflow").start_as_current_span("task"):
        run(ti, lambda: batch(tmp_path, jobs=["a", "b", "c"]))
    *found, task = spans()
    assert sorted(each.name for each in found) == ["veo.store"] * 3 + ["veo.submit"] * 3
    assert {each.parent.span_id for each in found} == {task.context.span_id}


def test_a_span_of_an_error_has_its_class_and_none_of_its_text(relay, ti, spans):
    relay.set_faults("drop-after")
    with pytest.raises(AirflowFailException):
        run(ti, lambda: create(prompt=PROMPT))
    (submit,) = spans()
    assert dict(submit.attributes) == {
        "veo.model": "veo3-fast",
        "veo.outcome": "unknown",
        "error.type": VeoAmbiguousSubmitError.__name__,
    }
    assert (submit.status.is_ok, submit.status.description, submit.events) == (False, None, ())
    assert not [secret for secret in (PROMPT, CANARY, relay.url) if secret in submit.to_json()]


def test_nothing_comes_between_the_answer_and_its_record(relay, ti, counted, spans, monkeypatch):
    seen = []
    accept = TaskJournal.accept

    def accepting(journal, intent, veo_task_id):
        seen.append((counted(), spans()))
        return accept(journal, intent, veo_task_id)

    monkeypatch.setattr(TaskJournal, "accept", accepting)
    run(ti, create)
    assert seen == [({}, ())]
    assert (len(counted()), len(spans())) == (1, 1)


def test_without_opentelemetry_nothing_is_traced_or_logged(relay, ti, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    monkeypatch.delattr("opentelemetry.trace")
    relay.set_faults("status=400")
    with caplog.at_level(logging.WARNING, logger=metrics.log.name), pytest.raises(AirflowFailException):
        run(ti, create)
    assert [each for each in caplog.records if each.name == metrics.log.name] == []


def test_a_tracer_that_fails_fails_no_task(relay, ti, monkeypatch, caplog):
    monkeypatch.setattr(trace, "get_tracer", lambda name: BrokenTracer())
    with caplog.at_level(logging.WARNING, logger=metrics.log.name):
        run(ti, create)
    assert len([each for each in caplog.records if each.name == metrics.log.name]) == 1
    assert len(relay.videos()) == 1


def test_a_span_that_fails_does_not_hide_what_the_relay_has_answered(relay, ti, monkeypatch, tmp_path):
    spans = SimpleNamespace(start_span=lambda name, **options: BrokenSpan(trace.INVALID_SPAN_CONTEXT))
    monkeypatch.setattr(trace, "get_tracer", lambda name: spans)
    relay.set_faults("status=400@prompt=prompt 1")
    result = run(ti, lambda: batch(tmp_path, download=False))
    assert (result["succeeded"], result["refused"]) == (4, 1)
