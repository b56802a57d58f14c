"""The operators and the sensor with a relay that speaks the OpenAI Videos API, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_veo.hooks import VeoAsyncHook, VeoHook
from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoContentBlockedError,
    VeoError,
    VeoImageError,
    VeoNotFoundError,
    VeoQuotaError,
    VeoRateLimitError,
    VeoUnavailableError,
    VeoWrongHostError,
    payload,
)
from airflow_provider_veo.sensors import VeoVideoSensor
from tests.conftest import CANARY
from tests.unit.storage.conftest import hosting
from tests.unit.task_context import TaskInstance, run

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
INLINE = "data:image/png;base64," + base64.b64encode(PNG).decode()
FORM = {"api": "openai", "allow_private_media": True, "read_timeout": 5}


@pytest.fixture(autouse=True)
def speaks_openai(relay, connect):
    relay.configure(video_seconds=0.2)
    connect(extra=FORM)


@pytest.fixture
def ti():
    return TaskInstance("make")


@pytest.fixture
def hook():
    hook = VeoHook()
    yield hook
    hook.close()


@pytest.fixture
def images():
    with hosting() as host:
        host.content = PNG
        yield host


def body(hook, prompt="a cow", model="veo3-fast", **fields):
    return payload.build(prompt, model, catalog=hook.settings.catalog, **fields)


def create(**arguments):
    given = {"task_id": "make", "prompt": "a cow", "model": "veo3.1-components", "poll_interval": 0.05}
    return VeoCreateVideoOperator(**{**given, **arguments})


def accepted(relay):
    return relay.stats()["accepted_by_prompt"]


# --- the hooks -------------------------------------------------------------------------------------------------------


def test_both_hooks_poll_alike(relay, hook):
    video = hook.create_video(body(hook))
    done = hook.get_video(video.id)
    assert done == asyncio.run(VeoAsyncHook().get_video(video.id))
    assert (done.state, done.status) == ("succeeded", "completed")
    assert done.video_url == f"{relay.url}/v1/videos/{video.id}/content"
    ((_, first),) = [(each, each["headers"]["range"]) for each in relay.requests("file")][:1]
    assert first == "bytes=0-0"


@pytest.mark.parametrize("settings", [{"openai_url_field": "metadata.url"}, {"openai_url_field": "video_url"}])
def test_a_url_in_the_answer_is_taken_without_looking_for_the_file(relay, hook, settings):
    relay.configure(**settings)
    done = hook.get_video(hook.create_video(body(hook)).id)
    assert done.video_url.startswith(relay.url)
    assert relay.requests("file") == []


def test_long_ids_are_polled(relay, hook):
    relay.configure(long_ids=True)
    video = hook.create_video(body(hook))
    assert len(video.id) > 300
    assert hook.get_video(video.id).video_url


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("drop-after", VeoAmbiguousSubmitError),
        ("reset-after", VeoAmbiguousSubmitError),
        ("bare-after=502", VeoAmbiguousSubmitError),
        ("cut-off", VeoAmbiguousSubmitError),
        ("no-id", VeoAmbiguousSubmitError),
        ("quota", VeoQuotaError),
        ("rate-limit", VeoRateLimitError),
        ("status=401", VeoAuthenticationError),
        ("redirect", VeoWrongHostError),
        ("flat-envelope=insert_task_failed:500", VeoAmbiguousSubmitError),
        ("nested-envelope=model_not_found:503", VeoUnavailableError),
    ],
)
def test_the_money_rules_are_those_of_the_other_form(relay, hook, fault, kind, monkeypatch):
    import tenacity

    from airflow_provider_veo.hooks import sync

    monkeypatch.setattr(sync, "_backoff", tenacity.wait_fixed(0.02))
    relay.set_faults(fault)
    with pytest.raises(VeoError) as caught:
        hook.create_video(body(hook))
    assert type(caught.value) is kind
    assert relay.stats()["paid_twice"] == {}
    assert relay.stats()["requests"]["create"] == (5 if kind is VeoUnavailableError else 1)
    assert hook.nothing_sent == (kind is not VeoAmbiguousSubmitError)


@pytest.mark.parametrize("veo_task_id", ["a;b", "..;/x", "a:b", "a%2fb", "é?#", "a b+c&d"])
@pytest.mark.parametrize("form", ["openai", "unified"])
def test_both_hooks_send_the_same_id(relay, connect, veo_task_id, form):
    connect(extra={"api": form})
    hook = VeoHook()
    for poll in (hook.get_video, lambda each: asyncio.run(VeoAsyncHook().get_video(each))):
        with pytest.raises(VeoNotFoundError):
            poll(veo_task_id)
    hook.close()
    sync, asynchronous = [(each["path"], each["query"].replace("+", "%20")) for each in relay.requests("query")]
    assert sync == asynchronous


def test_an_unknown_id_is_not_found(hook):
    with pytest.raises(VeoNotFoundError):
        hook.get_video("video_unknown")


# --- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_video_is_made_and_stored(relay, ti, tmp_path, deferrable):
    def make():
        return create(
            wait_for_completion=True,
            deferrable=deferrable,
            download_to=f"file://{tmp_path}/a.mp4",
            images=[INLINE],
            extra_body={"seconds": "4"},
        )

    run(ti, make)
    stored = ti.xcoms["veo_file"]
    assert hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest() == stored["sha256"]
    (video,) = relay.videos()
    assert (video["images"], video["aspect_ratio"], video["id"]) == (1, "16:9", ti.xcoms["return_value"])
    assert accepted(relay) == {"a cow": 1}
    assert CANARY not in json.dumps(ti.xcoms, default=str)


def test_the_key_is_not_sent_to_where_the_relay_redirects(relay, ti, tmp_path):
    relay.set_faults("file:redirect-host")
    run(ti, lambda: create(wait_for_completion=True, deferrable=False, download_to=f"file://{tmp_path}/a.mp4"))
    redirected = relay.requests("redirected")
    assert redirected
    assert all("localhost" in each["headers"]["host"] for each in redirected)
    assert not any("authorization" in each["headers"] for each in redirected)
    assert all(each["authorized"] for each in relay.requests("file"))


def test_a_success_whose_file_cannot_be_had_is_no_success(relay, ti):
    relay.set_faults("file:status=500")
    sensor = VeoVideoSensor(
        task_id="make", veo_task_id=VeoHook().create_video(body(VeoHook())).id, poll_interval=0.05, deferrable=True
    )
    with pytest.raises(AirflowException, match="its file can't be had: HTTP 500"):
        run(ti, lambda: sensor)


def test_a_blocked_video_is_told(relay, hook):
    relay.set_faults("failed=rejected by google: unsafe prompt")
    video = hook.create_video(body(hook))
    with pytest.raises(VeoContentBlockedError):
        hook.wait_for_video(video.id, poll_interval=0.05)


def test_upsampling_is_refused_before_anything_is_sent(relay, ti):
    with pytest.raises(AirflowFailException, match="enable_upsample: this relay's API has no upsampling"):
        create(enable_upsample=True).execute(ti.context)
    assert relay.stats()["requests"] == {}


def test_an_image_that_cannot_be_fetched_leaves_no_record(relay, ti, images, monkeypatch):
    import tenacity

    from airflow_provider_veo.hooks import uploads
    from tests.unit.storage.hosts import Reply

    monkeypatch.setattr(uploads._fetched.retry, "wait", tenacity.wait_fixed(0.01))
    images.always = Reply(status=503)
    with pytest.raises(VeoImageError):
        create(images=[images.url]).execute(ti.context)
    assert relay.stats()["requests"] == {}
    images.always = Reply()
    ti.next_try()
    assert create(images=[images.url]).execute(ti.context)
    assert accepted(relay) == {"a cow": 1}


def test_a_stored_video_may_be_downloaded_by_its_id(ti, hook, tmp_path):
    video = hook.create_video(body(hook))
    operator = VeoDownloadVideoOperator(task_id="make", veo_task_id=video.id, destination=f"file://{tmp_path}/videos/")
    operator.execute(ti.context)
    (file,) = Path(tmp_path, "videos").rglob("*.mp4")
    assert file.stat().st_size == ti.xcoms["veo_file"]["bytes"]


# --- a batch ---------------------------------------------------------------------------------------------------------


def batch(folder, jobs, **arguments):
    given = {"task_id": "make", "result_path": folder.as_uri(), "model": "veo3.1-components", "poll_interval": 0.05}
    return VeoVideoBatchOperator(jobs=jobs, **given, **arguments)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_batch_is_made_and_stored(relay, ti, tmp_path, images, deferrable):
    jobs = [{"key": f"j{n}", "prompt": f"prompt {n}", "images": [images.url] if n % 2 else None} for n in range(8)]

    def make():
        return batch(tmp_path, jobs, deferrable=deferrable)

    run(ti, make)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {row["state"] for row in rows} == {"succeeded"}
    assert all(Path(row["file"].removeprefix("file://")).exists() for row in rows)
    assert sorted(video["images"] for video in relay.videos()) == [0] * 4 + [1] * 4
    assert set(accepted(relay).values()) == {1}
    assert not any("authorization" in {name.lower() for name in headers} for _, headers in images.asked)


def test_a_job_whose_image_cannot_be_used_is_not_submitted_and_the_others_are(relay, ti, tmp_path, images):
    from tests.unit.storage.hosts import Reply

    images.always = Reply(status=404)
    jobs = [{"prompt": "with an image", "images": [images.url]}, {"prompt": "without"}]

    def make():
        return batch(tmp_path, jobs, deferrable=False, download=False)

    run(ti, make)
    rows = {
        row["request"]["prompt"]: row for row in map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    }
    assert rows["without"]["state"] == "succeeded"
    assert rows["with an image"]["state"] == "not_submitted"
    assert "its host answered HTTP 404" in rows["with an image"]["error"]
    images.always = Reply()
    ti.next_try()
    run(ti, make)
    assert accepted(relay) == {"with an image": 1, "without": 1}
