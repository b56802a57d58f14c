"""A deferred create: how it defers, what its triggers' events mean, and which errors Airflow may retry."""

from __future__ import annotations

from datetime import datetime

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_veo.protocol import (
    VeoAuthenticationError,
    VeoContentBlockedError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoResponseError,
    VeoTimeoutError,
    VeoUnavailableError,
)
from tests.conftest import CANARY
from tests.unit.operators.test_create import create, sent
from tests.unit.task_context import arguments_of, deferral, fired, resume, run


def waiting(**arguments):
    return create(**{"wait_for_completion": True, "deferrable": True, **arguments})


def test_it_defers_after_pushing_the_id(relay, ti):
    deferred = deferral(waiting(timeout=600).execute, ti.context)
    (video,) = relay.videos()
    assert ti.pushed_keys == ["veo_video", "return_value", "veo_spend"]
    assert ti.xcoms["return_value"] == video["id"]
    kind, arguments = arguments_of(deferred)
    started = arguments.pop("started")
    assert kind == "VeoVideoTrigger"
    assert arguments == {
        "veo_task_id": video["id"],
        "veo_conn_id": "veo_default",
        "timeout": 600,
        "poll_interval": 0.05,
        "due": pytest.approx(started + 4 * 0.05),
        "xcom": None,
        "end_task": False,
    }
    assert int(started) == datetime.fromisoformat(ti.xcoms["veo_video"]["submitted_at"]).timestamp()
    assert (deferred.method_name, deferred.kwargs, deferred.timeout) == ("execute_complete", None, None)
    assert CANARY not in str(arguments)
    assert relay.stats()["requests"] == {"create": 1}


def test_deadline_of_the_next_try_counts_from_the_submission(relay, ti):
    relay.configure(generation_seconds=600)
    _, first = arguments_of(deferral(waiting().execute, ti.context))
    ti.next_try()
    _, again = arguments_of(deferral(waiting().execute, ti.context))
    assert again == first
    assert sent(relay) == 1


def test_next_try_does_not_defer_if_the_video_is_ready(relay, ti):
    deferral(waiting().execute, ti.context)
    ti.next_try()
    assert waiting().execute(ti.context) == ti.xcoms["return_value"]
    assert ti.xcoms["video_url"]


def test_it_resumes_with_the_video(relay, ti):
    veo_task_id = run(ti, waiting)
    video = ti.xcoms["veo_video"]
    assert veo_task_id == ti.xcoms["return_value"] == video["id"]
    assert (video["state"], video["model"], video["prompt"]) == ("succeeded", "veo3-fast", "a cow")
    assert ti.xcoms["video_url"] == ti.xcoms["_link_VideoLink"] == video["video_url"]
    assert sent(relay) == 1


def test_it_resumes_with_the_failed_generation(relay, ti):
    relay.set_faults("failed=blocked")
    deferred = deferral(waiting().execute, ti.context)
    event = fired(deferred)
    assert event["error"]["kind"] == "VeoGenerationFailedError"
    with pytest.raises(VeoGenerationFailedError, match="blocked"):  # Airflow retries it
        resume(ti, waiting(), deferred, event)
    assert ti.xcoms["veo_video"]["state"] == "failed"
    assert "blocked" in ti.xcoms["veo_video"]["error"]


def test_it_resumes_with_the_blocked_generation(relay, ti):
    relay.set_faults("failed=rejected by google")
    deferred = deferral(waiting().execute, ti.context)
    with pytest.raises(VeoContentBlockedError, match="false positive"):  # Airflow retries it
        resume(ti, waiting(), deferred, fired(deferred))
    assert ti.xcoms["veo_video"]["state"] == "failed"


def test_file_is_stored_when_it_resumes(relay, ti, tmp_path):
    relay.configure(video_seconds=0.2)
    run(ti, lambda: waiting(download_to=f"file://{tmp_path}/cow.mp4"))
    assert (tmp_path / "cow.mp4").stat().st_size == ti.xcoms["veo_file"]["bytes"]


RETRYABLE = [VeoGenerationFailedError, VeoUnavailableError, VeoResponseError]
FINAL = [VeoTimeoutError, VeoAuthenticationError, VeoNotFoundError]


@pytest.mark.parametrize("kind", [*RETRYABLE, *FINAL])
def test_execute_complete_raises_the_error_of_the_event(relay, ti, kind):
    deferral(waiting().execute, ti.context)
    veo_task_id = ti.xcoms["return_value"]
    event = {"error": kind("no video", veo_task_id=veo_task_id).to_dict()}
    with pytest.raises(kind, match="no video"):
        waiting().execute_complete(ti.context, event)
    states = {VeoGenerationFailedError: "failed", VeoTimeoutError: "running"}
    video = ti.xcoms["veo_video"]
    assert (video["id"], video["state"]) == (veo_task_id, states.get(kind, "running"))
    assert video.get("error") == ("no video" if kind in states else None)
    assert video["prompt"] == "a cow"


@pytest.mark.parametrize(("durable", "kind"), [(True, kind) for kind in RETRYABLE] + [(False, RETRYABLE[0])])
def test_airflow_may_retry_what_another_try_may_fix(relay, ti, durable, kind):
    deferred = deferral(waiting(durable=durable).execute, ti.context)
    with pytest.raises(kind):
        resume(ti, waiting(durable=durable), deferred, {"error": kind("no video").to_dict()})


@pytest.mark.parametrize(
    ("durable", "kind"), [(True, kind) for kind in FINAL] + [(False, kind) for kind in (*FINAL, *RETRYABLE[1:])]
)
def test_airflow_may_not_retry_what_would_be_billed_again(relay, ti, durable, kind):
    deferred = deferral(waiting(durable=durable).execute, ti.context)
    with pytest.raises(AirflowFailException, match="no video") as caught:
        resume(ti, waiting(durable=durable), deferred, {"error": kind("no video").to_dict()})
    veo_task_id = ti.xcoms["return_value"]
    advice = "is billed and on record" if durable else f"set existing_veo_task_id={veo_task_id!r}"
    assert f"Video {veo_task_id}" in str(caught.value)
    assert advice in str(caught.value)


@pytest.mark.parametrize("durable", [True, False])
def test_airflow_error_while_deferred_is_not_billed_again(relay, ti, durable):
    deferral(waiting(durable=durable).execute, ti.context)
    with pytest.raises(Exception, match="Trigger") as caught:
        waiting(durable=durable).resume_execution("__fail__", {"error": "Trigger failure"}, ti.context)
    assert isinstance(caught.value, AirflowFailException) is not durable
    assert (ti.xcoms["return_value"] in str(caught.value)) is not durable


# --- before anything is sent -----------------------------------------------------------------------------------------


def rendered(ti, **fields):
    """Make a task whose fields are templates, and render them as Airflow does."""
    operator = create(**{name: f"{{{{ params.{name} }}}}" for name in fields})
    operator.render_template_fields({**ti.context, "params": fields})
    return operator


def test_invalid_fields_are_reported_together_before_a_request(relay, ti):
    operator = rendered(ti, prompt=" ", model="veo9", aspect_ratio="4:3", enhance_prompt="perhaps", images="./cow.png")
    with pytest.raises(AirflowFailException) as caught:
        operator.execute(ti.context)
    for name in ("prompt", "model", "aspect_ratio", "enhance_prompt", "images[0]"):
        assert f"  - {name}: " in str(caught.value)
    assert relay.stats()["requests"] == {}
    assert ti.xcoms == {}


def test_invalid_connection_is_reported_before_a_request(relay, ti, connect):
    connect(password="", host="ftp://x")
    with pytest.raises(AirflowFailException, match="veo_default"):
        create().execute(ti.context)
    assert relay.stats()["requests"] == {}


def test_proxy_that_a_trigger_cannot_use_is_refused_before_a_request(relay, ti, connect):
    connect(extra={"proxy": "socks5://127.0.0.1:9"})
    with pytest.raises(AirflowFailException, match="proxy: "):
        waiting().execute(ti.context)
    assert relay.stats()["requests"] == {}


# --- existing videos and kills ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_existing_video_is_not_submitted(relay, ti, deferrable):
    existing = create().execute(ti.context)
    ti.next_try()
    attach = {"existing_veo_task_id": existing, "prompt": "{{ whatever }}", "deferrable": deferrable}
    assert waiting(**attach).execute(ti.context) == ti.xcoms["return_value"] == existing
    assert (ti.xcoms["veo_video"]["state"], ti.xcoms["veo_video"]["cost"]) == ("succeeded", 0.0)
    assert ti.xcoms["video_url"]
    assert sent(relay) == 1


def test_existing_video_that_the_relay_does_not_know_fails_for_good(relay, ti):
    with pytest.raises(AirflowFailException):
        create(existing_veo_task_id="veo3:1-unknown").execute(ti.context)
    assert sent(relay) == 0


def test_on_kill_names_the_video_that_will_be_billed(relay, ti, logged):
    operator = create()
    operator.on_kill()
    assert "This task was killed" not in logged()
    veo_task_id = operator.execute(ti.context)
    operator.on_kill()
    said = logged()
    assert f"Video {veo_task_id} is still being generated and will be billed" in said
    assert f"existing_veo_task_id='{veo_task_id}'" in said


def test_on_kill_sends_nothing(relay, ti):
    operator = create()
    operator.execute(ti.context)
    before = relay.stats()["requests"]
    operator.on_kill()
    assert relay.stats()["requests"] == before
