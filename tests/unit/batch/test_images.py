"""A batch whose images are uploaded, fetched from hosts that are slow or fail, over real HTTP."""

from __future__ import annotations

import base64
import http.server
import json
import os
import signal
import threading
import time

import pytest
import tenacity
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_veo.batch import preparation
from airflow_provider_veo.hooks import uploads
from airflow_provider_veo.operators import VeoVideoBatchOperator
from airflow_provider_veo.protocol import VeoImageError
from tests.unit.batch.conftest import creates, job, jobs
from tests.unit.storage.conftest import hosting
from tests.unit.storage.hosts import Reply
from tests.unit.task_context import TaskInstance, arguments_of, deferral

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
INLINE = "data:image/png;base64," + base64.b64encode(PNG).decode()
MODEL = "veo3.1-components"
SLOW_SECONDS = 30.0


@pytest.fixture(autouse=True)
def uploads_images(relay, connect, monkeypatch):
    connect(extra={"api": "openai", "allow_private_media": True})
    monkeypatch.setattr(uploads._fetched.retry, "wait", tenacity.wait_fixed(0.01))
    monkeypatch.setattr(preparation, "FIRST_PAUSE_SECONDS", 0.05)


@pytest.fixture
def host():
    with hosting() as server:
        server.content = PNG
        yield server


@pytest.fixture
def tarpit(serve):
    """The URL of a host that answers after a long time, and how many wait for it."""
    released, waiting = threading.Event(), []

    class Tarpit(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            waiting.append(self.path)
            released.wait(SLOW_SECONDS)

        def log_message(self, *arguments):
            pass

    yield f"http://127.0.0.1:{serve(Tarpit).server_port}/a.png", waiting
    released.set()


def with_image(key, url):
    return job(key, model=MODEL, images=[url])


def when(happened, act):
    """Do something in a thread as soon as something else has happened, or after a minute, so that the test ends."""

    def watch():
        deadline = time.monotonic() + 60
        while not happened() and time.monotonic() < deadline:
            time.sleep(0.01)
        act()

    threading.Thread(target=watch, daemon=True).start()


def test_jobs_with_images_are_made_and_billed_once(relay, host, a_try):
    batch = [with_image(f"i{number}", host.url if number % 2 else INLINE) for number in range(12)] + jobs(8)
    assert a_try(batch).counts == {"succeeded": 20}
    assert sorted(video["images"] for video in relay.videos()) == [0] * 8 + [1] * 12
    assert relay.stats()["paid_twice"] == {}


def test_slow_images_hold_up_neither_other_jobs_nor_a_kill(relay, tarpit, a_try):
    url, waiting = tarpit
    batch = [with_image(f"slow{number}", url) for number in range(10)] + jobs(10)
    killed = RuntimeError("killed")

    def all_else_is_accepted():
        return len(waiting) == preparation.AT_ONCE and relay.stats()["accepted"] == 10

    done = a_try(batch, begun=lambda run: when(all_else_is_accepted, lambda: run.kill(killed)))
    assert done.error is killed
    assert len(waiting) == preparation.AT_ONCE  # and none has got its answer
    assert done.run.engine.places.to_submit == {f"slow{number}" for number in range(10)}
    assert not any(key.startswith("slow") for key in done.run.engine.records)


def test_signal_ends_a_batch_that_waits_for_images(tarpit, a_try):
    class Ended(BaseException):
        pass

    def end(*_):
        raise Ended

    url, waiting = tarpit
    before = signal.signal(signal.SIGTERM, end)
    try:
        started = time.monotonic()
        when(lambda: waiting, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert isinstance(a_try([with_image("slow", url)]).error, Ended)
        assert time.monotonic() - started < SLOW_SECONDS / 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_quota_error_ends_the_wait_for_images(relay, tarpit, a_try):
    url, waiting = tarpit
    relay.set_faults("slow=2", "quota")
    started = time.monotonic()
    done = a_try([with_image("slow", url), job("cow")])
    assert waiting
    assert time.monotonic() - started < SLOW_SECONDS / 2
    assert done.counts == {"not_submitted": 2}
    assert "quota" in done.errors["slow"]


def test_a_worker_is_not_kept_for_images_that_have_no_slot(relay, tarpit, a_try):
    url, waiting = tarpit
    relay.configure(generation_seconds=600)
    relay.set_faults("slow=2")
    started = time.monotonic()
    done = a_try([with_image("slow", url), *jobs(3)], deferrable=True, max_in_flight=3)
    assert time.monotonic() - started < SLOW_SECONDS / 2
    assert waiting
    assert len(done.run.engine.places.in_flight) == 3
    assert done.run.engine.has_more


def test_jobs_wait_for_a_host_that_fails_for_a_while(relay, host, a_try):
    host.always = Reply(status=503)

    def recover():
        host.always = Reply()

    batch = [with_image(f"i{number}", host.url) for number in range(6)] + jobs(4)
    done = a_try(batch, begun=lambda run: when(lambda: creates(relay) == 4 and len(host.asked) > 30, recover))
    assert done.counts == {"succeeded": 10}
    assert set(relay.stats()["accepted_by_prompt"].values()) == {1}
    assert done.run.checkpoint.images_failing_since is None


def test_a_refusing_relay_gets_an_uploaded_job_again(relay, host, a_try):
    relay.set_faults("rate-limit=1@1-2")
    assert a_try([with_image(f"i{number}", host.url) for number in range(3)]).counts == {"succeeded": 3}
    assert relay.stats()["paid_twice"] == {}


def test_images_that_cannot_be_fetched_for_half_an_hour_are_left_to_the_next_try(relay, host, a_try, monkeypatch):
    monkeypatch.setattr(preparation, "PATIENCE_SECONDS", 0.5)
    host.always = Reply(status=503)
    batch = [with_image(f"i{number}", host.url) for number in range(6)] + jobs(2)
    done = a_try(batch)
    assert done.counts == {"succeeded": 2, "not_submitted": 6}
    assert all("its host answered HTTP 503" in error for error in done.errors.values())
    assert isinstance(done.results.error_for_now, VeoImageError)
    again = a_try(batch, outcomes={})
    assert again.counts == done.counts
    host.always = Reply()
    assert a_try(batch).counts == {"succeeded": 8}
    assert set(relay.stats()["accepted_by_prompt"].values()) == {1}


def test_image_that_can_never_be_used_is_not_fetched_again(relay, host, a_try):
    host.script = [Reply(status=404)]
    done = a_try([with_image("gone", host.url), *jobs(2)])
    assert done.counts == {"succeeded": 2, "not_submitted": 1}
    assert len(host.asked) == 1
    assert done.results.error_for_now is None


def operator(folder, batch, **arguments):
    given = {"task_id": "make", "model": MODEL, "poll_interval": 0.05, "deferrable": False, "download": False}
    return VeoVideoBatchOperator(jobs=batch, result_path=folder.as_uri(), **{**given, **arguments})


def test_task_is_retried_if_images_could_not_be_fetched(relay, host, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "PATIENCE_SECONDS", 0.3)
    host.always = Reply(status=503)
    ti, batch = TaskInstance("make"), [{"key": "cow", "prompt": "a cow", "images": [host.url]}]
    with pytest.raises(VeoImageError, match=r"0 of 1 jobs succeeded.*\n.*\n.*next try submits") as caught:
        operator(tmp_path, batch).execute(ti.context)
    assert not caught.value.final
    assert creates(relay) == 0
    host.always = Reply()
    ti.next_try()
    assert operator(tmp_path, batch).execute(ti.context)["succeeded"] == 1
    assert creates(relay) == 1


def test_partial_error_is_retried_if_images_could_not_be_fetched(host, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "PATIENCE_SECONDS", 0.3)
    host.always = Reply(status=503)
    batch = [{"prompt": "a cow", "images": [host.url]}, {"prompt": "a dog"}]
    with pytest.raises(VeoImageError, match="1 of 2 jobs succeeded"):
        operator(tmp_path, batch, fail_on_partial_error=True).execute(TaskInstance("make").context)


def test_a_worker_defers_while_images_cannot_be_fetched(relay, host, tmp_path, monkeypatch):
    """The next process knows since when, so that the wait ends."""
    monkeypatch.setattr(preparation, "PATIENCE_IN_A_WORKER", 0.5)
    host.always = Reply(status=503)
    ti, batch = TaskInstance("make"), [{"key": "cow", "prompt": "a cow", "images": [host.url]}]
    began = time.time()
    waiting = deferral(operator(tmp_path, batch, deferrable=True).execute, ti.context)
    assert time.time() - began < 10
    _, arguments = arguments_of(waiting)
    assert arguments["videos"] == {}
    assert arguments["wake_at"] > began + 60
    assert arguments["progress"]["to_submit"] == 1
    since = arguments["handed_on"]["images_failing_since"]
    assert began <= since <= time.time()

    event = {"outcomes": {}, **arguments["handed_on"], "images_failing_since": since - 3600}
    with pytest.raises(VeoImageError, match="0 of 1 jobs succeeded"):
        operator(tmp_path, batch, deferrable=True).execute_complete(ti.context, json.loads(json.dumps(event)))
    assert creates(relay) == 0


def test_row_that_has_no_encoding_is_a_mistake_before_anything_is_sent(relay, tmp_path):
    batch = [{"key": "bad", "prompt": "a cow", "images": [INLINE], "extra_body": {"note": "x\ud83d"}}]
    batch += [{"key": f"j{number}", "prompt": f"p{number}"} for number in range(5)]
    with pytest.raises(AirflowFailException, match=r"jobs\[0\]: extra_body: can't be sent as JSON"):
        operator(tmp_path, batch).execute(TaskInstance("make").context)
    assert creates(relay) == 0
