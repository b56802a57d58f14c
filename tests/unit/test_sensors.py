"""The sensor, in each of its modes, against a relay over real HTTP. It only polls."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_provider_veo.protocol import (
    VeoAuthenticationError,
    VeoContentBlockedError,
    VeoGenerationFailedError,
    VeoResponseError,
    VeoTimeoutError,
    VeoUnavailableError,
)
from airflow_provider_veo.protocol import waiting as rules
from airflow_provider_veo.sensors import VeoVideoSensor
from tests.airflow_lines import LINE
from tests.conftest import CANARY
from tests.unit.operators.test_create import create
from tests.unit.task_context import TaskInstance, arguments_of, copied, deferral, fired, resume, run

MODES = ({"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True})
AT_ONCE = 1e-9
"""A timeout that has passed after any poll."""


@pytest.fixture
def ti():
    return TaskInstance("wait")


@pytest.fixture
def video(submit):
    """The id of a video that is ready."""
    return submit()


@pytest.fixture
def slow(relay, video):
    """The id of a video that is being generated for a long time."""
    relay.configure(generation_seconds=600)
    return video


def sensor(veo_task_id, **arguments):
    given = {"task_id": "wait", "poll_interval": 0.05, "deferrable": False, **arguments}
    return VeoVideoSensor(veo_task_id=veo_task_id, **given)


def queries(relay):
    return relay.stats()["requests"].get("query", 0)


# --- poke ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", MODES)
def test_poke_is_true_when_the_video_is_ready(relay, ti, video, arguments):
    done = sensor(video, **arguments).poke(ti.context)
    assert done
    found = copied(done.xcom_value)
    assert (found["id"], found["state"], found["status"]) == (video, "succeeded", "completed")
    assert found["video_url"].startswith(relay.url)
    assert queries(relay) == 1


@pytest.mark.parametrize("arguments", MODES[:2])
def test_poke_is_false_while_the_video_is_being_generated(relay, ti, slow, arguments):
    waiting = sensor(slow, **arguments)
    for polls in 1, 2:
        done = waiting.poke(ti.context)
        assert not done
        assert done.xcom_value is None
        assert queries(relay) == polls
    relay.configure(generation_seconds=0)
    assert waiting.poke(ti.context)
    assert relay.stats()["accepted"] == 1


@pytest.mark.parametrize(
    "fault", ["query:status=503@1", "query:drop-before@1", "query:bare=502@1", "query:no-json@1", "query:rate-limit@1"]
)
def test_poke_is_false_after_a_temporary_error(relay, ti, video, fault):
    relay.set_faults(fault)
    waiting = sensor(video)
    assert not waiting.poke(ti.context)
    assert waiting.poke(ti.context)


def test_poke_is_false_while_the_video_is_not_visible_yet(relay, ti, submit):
    relay.set_faults("not-found-first=1")
    waiting = sensor(submit())
    assert not waiting.poke(ti.context)
    assert waiting.poke(ti.context)


def test_one_404_does_not_end_an_old_rescheduled_wait(relay, slow):
    relay.set_faults("query:status=404@1")
    ti = TaskInstance("wait", rescheduled_at=datetime.now(timezone.utc) - timedelta(minutes=5))
    assert not sensor(slow, mode="reschedule").poke(ti.context)
    assert queries(relay) == 2


def test_rescheduled_poke_ends_when_only_404_is_returned(relay, slow, monkeypatch):
    monkeypatch.setattr(rules, "NOT_FOUND_SECONDS", 0.5)
    relay.set_faults("query:status=404")
    ti = TaskInstance("wait", rescheduled_at=datetime.now(timezone.utc) - timedelta(minutes=5))
    with pytest.raises(AirflowFailException):
        sensor(slow, mode="reschedule").poke(ti.context)
    assert queries(relay) > 2


def test_rescheduled_poke_does_not_wait_for_a_relay_that_is_down(relay, slow):
    relay.set_faults("query:status=404@1", "query:status=503@2+")
    assert not sensor(slow, mode="reschedule").poke(TaskInstance("wait").context)
    assert queries(relay) == 2


def test_poke_accepts_the_dict_of_a_create_task(relay, ti, video):
    assert sensor({"id": video, "state": "running"}).poke(ti.context).xcom_value["id"] == video


def test_poke_rejects_a_value_that_names_no_video(relay, ti):
    with pytest.raises(AirflowFailException):
        sensor({"state": "running"}).poke(ti.context)
    assert queries(relay) == 0


@pytest.mark.parametrize("arguments", MODES)
def test_failed_generation_fails_for_good(relay, ti, video, arguments):
    relay.set_faults("failed=blocked")
    with pytest.raises(AirflowFailException, match="blocked"):
        sensor(video, **arguments).poke(ti.context)
    pushed = ti.xcoms["veo_video"]
    assert (pushed["id"], pushed["state"]) == (video, "failed")
    assert "blocked" in pushed["error"]


@pytest.mark.parametrize("arguments", MODES)
def test_rejected_key_fails_for_good(relay, ti, video, connect, arguments):
    connect(password=CANARY + "-wrong")
    with pytest.raises(AirflowFailException) as caught:
        sensor(video, **arguments).poke(ti.context)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("arguments", MODES)
def test_timeout_is_airflows(relay, ti, slow, arguments):
    with pytest.raises(AirflowSensorTimeout, match=f"Video {slow} was not ready"):
        sensor(slow, timeout=AT_ONCE, **arguments).poke(ti.context)
    assert (ti.xcoms["veo_video"]["id"], ti.xcoms["veo_video"]["state"]) == (slow, "running")


@pytest.mark.parametrize("arguments", MODES)
def test_ready_video_is_found_after_the_deadline(relay, ti, video, arguments):
    assert sensor(video, timeout=AT_ONCE, **arguments).poke(ti.context)


@pytest.mark.parametrize(("minutes", "timed_out"), [(30, False), (90, True)])
def test_deadline_of_rescheduled_pokes_counts_from_the_first(relay, slow, minutes, timed_out):
    ti = TaskInstance("wait", rescheduled_at=datetime.now(timezone.utc) - timedelta(minutes=minutes))
    waiting = sensor(slow, mode="reschedule", timeout=3600)
    if not timed_out:
        assert not waiting.poke(ti.context)
        return
    with pytest.raises(AirflowSensorTimeout, match="was not ready"):
        waiting.poke(ti.context)


UNCLEAR = ["query:status-word=pondering", "query:status-word=video_upsampling_completed"]


@pytest.mark.parametrize("fault", UNCLEAR)
def test_unclear_status_with_a_url_is_taken_as_ready_in_the_second_poke(relay, ti, video, fault):
    relay.set_faults(fault)
    waiting = sensor(video, mode="poke")
    assert not waiting.poke(ti.context)
    assert waiting.poke(ti.context).xcom_value["state"] == "succeeded"


@pytest.mark.parametrize("fault", UNCLEAR)
def test_rescheduled_poke_polls_twice_if_the_status_is_unclear(relay, ti, video, fault):
    relay.set_faults(fault)
    assert sensor(video, mode="reschedule").poke(ti.context).xcom_value["state"] == "succeeded"
    assert queries(relay) == 2


def test_rescheduled_poke_ends_when_the_url_never_comes(relay, ti, submit):
    relay.set_faults("no-url")
    with pytest.raises(AirflowException, match="no video_url in 4 answers"):
        sensor(submit(), mode="reschedule").poke(ti.context)


def test_deferred_wait_takes_an_unclear_status_with_a_url_as_ready(relay, ti, video):
    relay.set_faults(UNCLEAR[0])
    found = run(ti, lambda: sensor(video, deferrable=True))
    assert (found["id"], found["state"], found["status"]) == (video, "succeeded", "pondering")


# --- execute ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_execute_returns_and_pushes_a_video_that_is_ready(relay, ti, video, deferrable):
    found = sensor(video, deferrable=deferrable).execute(ti.context)
    assert found["id"] == video
    assert ti.xcoms == {"veo_video": copied(found), "_link_VideoLink": found["video_url"]}
    assert queries(relay) == 1


def test_execute_polls_until_the_video_is_ready(relay, ti, submit):
    relay.set_faults("late-url=2")
    assert sensor(submit()).execute(ti.context)["video_url"]
    assert queries(relay) == 3


@pytest.mark.parametrize("arguments", [MODES[0], MODES[2]])
@pytest.mark.parametrize("ends", ["failed", "timed out"])
def test_soft_fail_skips(relay, ti, slow, arguments, ends):
    if ends == "failed":
        relay.configure(generation_seconds=0)
        relay.set_faults("failed")
    waiting = sensor(slow, soft_fail=True, timeout=60 if ends == "failed" else AT_ONCE, **arguments)
    with pytest.raises(AirflowSkipException):
        waiting.execute(ti.context)


# --- deferred --------------------------------------------------------------------------------------------------------


def test_it_defers_while_the_video_is_being_generated(relay, ti, slow):
    waiting = sensor(slow, deferrable=True, timeout=600, poll_interval=7)
    deferred = deferral(waiting.execute, ti.context)
    kind, arguments = arguments_of(deferred)
    started, due = arguments.pop("started"), arguments.pop("due")
    assert kind == "VeoVideoTrigger"
    assert arguments == {
        "veo_task_id": slow,
        "veo_conn_id": "veo_default",
        "timeout": 600,
        "poll_interval": 7,
        "xcom": None,
        "end_task": False,
    }
    assert due >= started + 7
    assert (deferred.method_name, deferred.kwargs) == ("execute_complete", None)
    assert queries(relay) == 1
    assert ti.xcoms == {}


def test_temporary_error_defers(relay, ti, video):
    relay.set_faults("query:status=503@1")
    assert run(ti, lambda: sensor(video, deferrable=True))["id"] == video


def test_it_resumes_with_the_video(relay, ti, slow):
    deferred = deferral(sensor(slow, deferrable=True).execute, ti.context)
    relay.configure(generation_seconds=0)
    found = resume(ti, sensor(slow, deferrable=True), deferred, fired(deferred))
    assert (found["id"], found["state"]) == (slow, "succeeded")
    assert ti.xcoms == {"veo_video": found, "_link_VideoLink": found["video_url"]}


@pytest.mark.parametrize(
    ("kind", "raised", "state"),
    [
        (VeoGenerationFailedError, AirflowFailException, "failed"),
        (VeoContentBlockedError, AirflowFailException, "failed"),
        (VeoTimeoutError, AirflowSensorTimeout, "running"),
        (VeoAuthenticationError, AirflowFailException, None),
        (VeoUnavailableError, AirflowException, None),
        (VeoResponseError, AirflowException, None),
    ],
)
def test_execute_complete_raises_the_error_of_the_event(ti, kind, raised, state):
    event = {"error": copied(kind("no video", veo_task_id="veo3:1-x").to_dict())}
    with pytest.raises(AirflowException, match="no video") as caught:
        sensor("veo3:1-x", deferrable=True).execute_complete(ti.context, event)
    assert type(caught.value) is raised
    assert ti.xcoms.get("veo_video", {}).get("state") == state


def test_soft_fail_skips_when_it_resumes(ti):
    event = {"error": VeoTimeoutError("no video", veo_task_id="veo3:1-x").to_dict()}
    waiting = sensor("veo3:1-x", deferrable=True, soft_fail=True)
    with pytest.raises(AirflowSkipException):
        waiting.resume_execution("execute_complete", {"event": event}, ti.context)


# --- started by the triggerer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "obstacle"),
    [
        ({"deferrable": False}, "the sensor is not deferrable"),
        ({"veo_task_id": "{{ ti.xcom_pull('make') }}"}, "the triggerer can't render templates"),
        ({"veo_conn_id": "{{ var.value.veo }}"}, "the triggerer can't render veo_conn_id"),
    ],
)
def test_obstacle_to_a_start_from_the_triggerer_is_logged(relay, ti, video, logged, arguments, obstacle):
    given = {"veo_task_id": video, "deferrable": True, "start_from_trigger": True, **arguments}
    waiting = sensor(**given)
    waiting.veo_task_id, waiting.veo_conn_id = video, "veo_default"  # rendered
    waiting.execute(ti.context)
    expected = obstacle if LINE >= (3, 3) else "it needs Airflow 3.3"
    assert f"start_from_trigger is not possible: {expected}" in logged()
    assert not waiting.start_from_trigger


def test_sensor_with_a_connection_from_an_xcom_starts_in_a_worker():
    with DAG("veo", schedule=None):
        waiting = sensor("veo3:1-x", veo_conn_id=create().output, deferrable=True, start_from_trigger=True)
    assert not waiting.start_from_trigger


@pytest.mark.parametrize("ends", [False, True])
def test_triggerer_gets_where_to_read_the_id(ends):
    with DAG("veo", schedule=None):
        made = create()
        waiting = sensor(made.output, deferrable=True, timeout=600, start_from_trigger=True, end_from_trigger=ends)
    assert waiting.start_from_trigger is (LINE >= (3, 3))
    if waiting.start_from_trigger:
        arguments = waiting.start_trigger_args
        assert copied(arguments.trigger_kwargs) == {
            "xcom": {"task_id": "make", "key": "return_value"},
            "veo_conn_id": "veo_default",
            "timeout": 600,
            "poll_interval": 0.05,
            "end_task": ends,
        }
        assert arguments.next_method == "execute_complete"
        assert arguments.timeout == timedelta(seconds=1200)
