"""The create operator: mistakes in a DAG file, what a try pushes, and what later tries do."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_veo.operators import VeoCreateVideoOperator
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoError,
    VeoGenerationFailedError,
    VeoRateLimitError,
    VeoValidationError,
)
from tests.airflow_lines import LINE
from tests.unit.task_context import TaskInstance

RIGHT = {"task_id": "make_video", "prompt": "a cow"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"prompt": " "}, "prompt: expected a non-empty string"),
        ({"images": "./cow.png"}, "images[0]: expected an http(s) URL"),
        ({"images": ["https://example.com/a", "https://example.com/a"]}, "images: must be unique"),
        ({"images": 7}, "images: expected a list of images"),
        ({"aspect_ratio": "4:3"}, "aspect_ratio: expected 16:9 or 9:16, got '4:3'"),
        ({"enhance_prompt": "perhaps"}, "enhance_prompt: expected true or false"),
        ({"enable_upsample": None}, "enable_upsample: expected true or false"),
        ({"extra_body": ["seed"]}, "extra_body: expected an object"),
        ({"on_ambiguous_submit": "retry"}, "on_ambiguous_submit: expected 'fail' or 'resubmit', got 'retry'"),
        ({"on_cleared": "ask"}, "on_cleared: expected 'submit' or 'fail', got 'ask'"),
        ({"poll_interval": 0}, "poll_interval: expected a number above 0, got 0"),
        ({"download_to": "file:///tmp/"}, "download_to: the file can be stored only after waiting"),
        ({"timeout": "1h"}, "timeout: expected a number above 0, got '1h'"),
    ],
)
def test_a_mistake_in_a_dag_file_fails_while_it_is_parsed(arguments, part):
    with pytest.raises(VeoValidationError) as caught:
        VeoCreateVideoOperator(**{**RIGHT, **arguments})
    assert "The arguments of task 'make_video' are not valid." in str(caught.value)
    (mistake,) = caught.value.mistakes
    assert part in mistake


def test_all_mistakes_of_a_task_are_reported_together():
    with pytest.raises(VeoValidationError) as caught:
        VeoCreateVideoOperator(**{**RIGHT, "prompt": "", "aspect_ratio": "1:1", "timeout": 0})
    assert len(caught.value.mistakes) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": "{{ params.prompt }}", "aspect_ratio": "{{ '9:16' }}", "enhance_prompt": "{% if x %}1{% endif %}"},
        {"prompt": "a_file.prompt"},
        {"images": ["{{ ti.xcom_pull('a') }}"]},
        {"images": "{{ ti.xcom_pull('a') }}"},
        {"extra_body": {"seed": "{{ 7 }}"}},
        {"model": "a-model-of-the-connection", "aspect_ratio": "9:16"},
        {"images": None},
        {"images": []},
    ],
)
def test_templated_values_are_not_validated_at_parse_time(arguments):
    VeoCreateVideoOperator(**{**RIGHT, **arguments})


def test_xcomargs_are_not_validated_at_parse_time():
    with DAG("veo", schedule=None):
        upstream = VeoCreateVideoOperator(task_id="upstream", prompt="a cow")
        fields = dict.fromkeys(VeoCreateVideoOperator.template_fields, upstream.output)
        downstream = VeoCreateVideoOperator(task_id="downstream", wait_for_completion=True, **fields)
        assert downstream.upstream_task_ids == {"upstream"}


def test_template_fields():
    assert set(VeoCreateVideoOperator.template_fields) == {
        "prompt",
        "model",
        "images",
        "aspect_ratio",
        "enhance_prompt",
        "enable_upsample",
        "extra_body",
        "veo_conn_id",
        "existing_veo_task_id",
        "download_to",
    }


# --- execute ---------------------------------------------------------------------------------------------------------


def create(**arguments):
    given = {"task_id": "make", "prompt": "a cow", "model": "veo3-fast", "poll_interval": 0.05, **arguments}
    return VeoCreateVideoOperator(**given)


def sent(relay):
    return relay.stats()["requests"].get("create", 0)


def accepted(relay):
    return relay.stats()["accepted"]


def lose_the_answer(relay, ti, **arguments):
    """Run a try whose request is accepted, but not answered, and return its error."""
    relay.set_faults("drop-after@1")
    with pytest.raises((AirflowFailException, VeoAmbiguousSubmitError)) as caught:
        create(**arguments).execute(ti.context)
    ti.next_try()
    return caught.value


def test_execute_returns_the_id_and_pushes_the_video(relay, ti):
    veo_task_id = create(model="veo3.1", images=["https://example.com/a.png"]).execute(ti.context)
    (video,) = relay.videos()
    assert veo_task_id == ti.xcoms["return_value"] == video["id"]
    assert ti.pushed_keys == ["veo_video", "return_value", "veo_spend"]
    pushed = ti.xcoms["veo_video"]
    assert (pushed["id"], pushed["state"], pushed["video_url"]) == (veo_task_id, "running", None)
    assert (pushed["model"], pushed["prompt"], pushed["aspect_ratio"]) == ("veo3.1", "a cow", "16:9")
    assert pushed["images"] == ["https://example.com/a.png"]
    assert datetime.fromisoformat(pushed["submitted_at"]).tzinfo
    assert relay.stats()["requests"] == {"create": 1}


def test_do_xcom_push_false_pushes_no_return_value(relay, ti):
    create(do_xcom_push=False).execute(ti.context)
    assert ti.pushed_keys == ["veo_video", "veo_spend"]


def spend(ti):
    """Return what the task has cost: accepted videos, their cost, unknown outcomes, what those may have cost."""
    (row,) = ti.xcoms["veo_spend"]
    assert row["day"] == datetime.now(timezone.utc).date().isoformat()
    return row["videos"], row["cost"], row["unknown"], row["possible_cost"]


def test_every_try_adds_to_the_spend(relay, ti, connect):
    connect(extra={"prices": {"veo3-fast": 0.1, "veo3": {"per_second": 0.75}}})
    relay.set_faults("failed@1")
    with pytest.raises(VeoError):
        create(wait_for_completion=True, deferrable=False).execute(ti.context)
    assert spend(ti) == (1, 0.1, 0, 0)
    ti.next_try()
    create().execute(ti.context)
    assert spend(ti) == (2, 0.2, 0, 0)
    ti.next_try()
    create(model="veo3", extra_body={"seconds": "8"}).execute(ti.context)
    assert spend(ti) == (3, 6.2, 0, 0)
    assert ti.xcoms["veo_video"]["cost"] == 6.0
    assert ti.xcoms["veo_spend"][0]["model"] == "veo3"


def test_what_may_have_been_billed_is_apart_from_the_cost(relay, ti, connect):
    connect(extra={"prices": {"veo3-fast": 0.1}})
    lose_the_answer(relay, ti)
    with pytest.raises(AirflowFailException):
        create().execute(ti.context)
    assert spend(ti) == (0, 0, 1, 0.1)
    ti.next_try()
    create(on_ambiguous_submit="resubmit").execute(ti.context)
    assert spend(ti) == (1, 0.1, 1, 0.1)


def test_the_video_of_an_unknown_outcome_costs_what_it_may_have_cost(relay, ti, connect):
    connect(extra={"prices": {"veo3-fast": 0.1}})
    lose_the_answer(relay, ti)
    create(existing_veo_task_id=relay.videos()[0]["id"]).execute(ti.context)
    assert spend(ti)[1:] == (0.1, 0, 0)


def test_a_video_of_someone_else_costs_nothing(relay, ti, connect):
    connect(extra={"prices": {"veo3-fast": 0.1}})
    other = create().execute(ti.context)
    apart = TaskInstance("attaches")
    create(existing_veo_task_id=other).execute(apart.context)
    assert "veo_spend" not in apart.xcoms


def test_a_video_without_a_price_is_counted(relay, ti):
    create().execute(ti.context)
    assert ti.xcoms["veo_spend"][0]["unpriced"] == 1
    assert spend(ti) == (1, 0, 0, 0)


def test_cost_is_the_price_of_the_model(relay, ti, connect):
    connect(extra={"prices": {"veo3-fast": 0.4}})
    create().execute(ti.context)
    assert ti.xcoms["veo_video"]["cost"] == 0.4


def test_waiting_in_the_worker_pushes_the_url(relay, ti):
    veo_task_id = create(wait_for_completion=True, deferrable=False).execute(ti.context)
    video = ti.xcoms["veo_video"]
    assert (video["id"], video["state"], video["prompt"]) == (veo_task_id, "succeeded", "a cow")
    assert ti.xcoms["video_url"] == ti.xcoms["_link_VideoLink"] == video["video_url"]
    assert video["video_url"].startswith(relay.url)


def test_id_is_pushed_although_the_wait_fails(relay, ti):
    relay.configure(generation_seconds=600)
    with pytest.raises(AirflowFailException, match="was not ready") as caught:
        create(wait_for_completion=True, deferrable=False, timeout=1e-9).execute(ti.context)
    (video,) = relay.videos()
    assert ti.xcoms["return_value"] == ti.xcoms["veo_video"]["id"] == video["id"]
    assert ti.pushed_keys[:2] == ["veo_video", "return_value"]
    kept = " and keep its state ('Keep task state and resume')" if LINE >= (3, 4) else ""
    advice = f"Video {video['id']} is billed and on record. Clear this task{kept} to continue with it."
    assert advice in str(caught.value)


def test_failed_generation_is_submitted_again_by_the_next_try(relay, ti):
    relay.set_faults("failed=blocked@1")
    with pytest.raises(VeoGenerationFailedError, match="blocked"):
        create(wait_for_completion=True, deferrable=False).execute(ti.context)
    assert (ti.xcoms["veo_video"]["state"], ti.xcoms["veo_video"]["prompt"]) == ("failed", "a cow")
    assert "video_url" not in ti.xcoms
    ti.next_try()
    create(wait_for_completion=True, deferrable=False).execute(ti.context)
    assert accepted(relay) == 2
    assert ti.xcoms["video_url"]


def test_file_is_stored_after_waiting(relay, ti, tmp_path):
    relay.configure(video_seconds=0.2)
    create(wait_for_completion=True, deferrable=False, download_to=f"file://{tmp_path}/cow.mp4").execute(ti.context)
    stored = ti.xcoms["veo_file"]
    assert stored["uri"] == f"file://{tmp_path}/cow.mp4"
    assert stored["bytes"] == (tmp_path / "cow.mp4").stat().st_size > 0


# --- later tries -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [False, True])
def test_next_try_continues_without_a_request(relay, ti, waits):
    arguments = {"wait_for_completion": waits, "deferrable": False}
    first = create(**arguments).execute(ti.context)
    submitted_at = ti.xcoms["veo_video"]["submitted_at"]
    ti.next_try()
    assert create(**arguments).execute(ti.context) == ti.xcoms["return_value"] == first
    assert ti.xcoms["veo_video"]["submitted_at"] == submitted_at
    assert ti.xcoms["_link_VideoLink"]  # the video is ready by now
    assert sent(relay) == 1


def test_changed_request_is_submitted(relay, ti):
    first = create().execute(ti.context)
    ti.next_try()
    assert create(prompt="a dog").execute(ti.context) != first
    assert relay.stats()["accepted_by_prompt"] == {"a cow": 1, "a dog": 1}


def test_task_that_is_not_durable_submits_each_time(relay, ti):
    for _ in range(2):
        create(durable=False).execute(ti.context)
        ti.next_try()
    assert accepted(relay) == 2


def test_missing_store_is_logged(relay, logged):
    create().execute(TaskInstance(has_store=False).context)
    assert "Submissions of this task are not recorded across tries" in logged()


def test_unknown_outcome_fails_for_good(relay, ti):
    first = lose_the_answer(relay, ti)
    assert isinstance(first, AirflowFailException)
    with pytest.raises(AirflowFailException, match="It can't be known whether the request was accepted"):
        create().execute(ti.context)
    assert (sent(relay), accepted(relay)) == (1, 1)
    assert set(ti.xcoms) == {"veo_spend"}


def test_unknown_outcome_is_resubmitted_on_request(relay, ti):
    first = lose_the_answer(relay, ti, on_ambiguous_submit="resubmit")
    assert isinstance(first, VeoAmbiguousSubmitError)  # Airflow retries it
    create(on_ambiguous_submit="resubmit").execute(ti.context)
    assert (sent(relay), accepted(relay)) == (2, 2)
    assert ti.xcoms["return_value"] == relay.videos()[1]["id"]


def test_unknown_outcome_is_attached_to(relay, ti):
    lose_the_answer(relay, ti)
    (video,) = relay.videos()
    assert create(existing_veo_task_id=video["id"]).execute(ti.context) == video["id"]
    ti.next_try()
    assert create().execute(ti.context) == video["id"]
    assert sent(relay) == 1


def test_refused_request_fails_for_good_and_leaves_no_record(relay, ti):
    relay.set_faults("status=400@1")
    with pytest.raises(AirflowFailException, match="HTTP 400"):
        create().execute(ti.context)
    assert (sent(relay), accepted(relay), ti.xcoms) == (1, 0, {})
    ti.next_try()
    create().execute(ti.context)
    assert accepted(relay) == 1


def test_temporary_refusal_may_be_retried(relay, ti):
    relay.set_faults("rate-limit@1")
    with pytest.raises(VeoRateLimitError):
        create().execute(ti.context)
    assert accepted(relay) == 0
