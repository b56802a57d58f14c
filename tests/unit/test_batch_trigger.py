"""The trigger that waits for a batch, against a relay over real HTTP. It only polls."""

from __future__ import annotations

import asyncio
import http.server
import itertools
import json
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_veo.batch.checkpoint import BatchCheckpoint
from airflow_provider_veo.batch.progress import Progress
from airflow_provider_veo.hooks import VeoHook, asynchronous
from airflow_provider_veo.protocol import (
    VeoAuthenticationError,
    VeoNotFoundError,
    VeoResponseError,
    VeoTimeoutError,
    payload,
    waiting,
)
from airflow_provider_veo.protocol.errors import from_dict
from airflow_provider_veo.triggers import VeoVideoBatchTrigger
from tests.conftest import CANARY
from tests.system.supervised import free_port

FOR_EVER = "query:status-word=processing@prompt=slow"
"""Videos with this prompt are never ready."""


def accepted(*prompts):
    """Submit videos, and return a submission time in the past for each id."""
    hook = VeoHook()
    bodies = [payload.build(prompt, "veo3-fast") for prompt in prompts]
    videos = {hook.create_video(body).id: time.time() - 30 for body in bodies}
    hook.close()
    return videos


def cows(count):
    return [f"cow {number}" for number in range(count)]


def made(videos, **arguments):
    """Make a trigger from its serialized form, as a triggerer does."""
    arguments = {"videos": videos, "poll_interval": 0.1, "timeout": 60, **arguments}
    classpath, serialized = VeoVideoBatchTrigger(**arguments).serialize()
    assert classpath == "airflow_provider_veo.triggers.VeoVideoBatchTrigger"
    return VeoVideoBatchTrigger(**json.loads(json.dumps(serialized)))


async def events(trigger):
    payloads = [event.payload async for event in trigger.run()]
    nothing_is_left()
    return json.loads(json.dumps(payloads))


async def collect(trigger):
    return [event.payload async for event in trigger.run()]


def nothing_is_left():
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not asynchronous._clients.get(asyncio.get_running_loop())


def fired(videos, **arguments):
    (event,) = asyncio.run(events(made(videos, **arguments)))
    return event


def outcomes(videos, **arguments):
    return fired(videos, **arguments)["outcomes"]


def requests(relay):
    return relay.stats()["requests"]


def kind_of(outcome):
    return type(from_dict(outcome["error"]))


# --- when it fires ---------------------------------------------------------------------------------------------------


def test_fires_once_when_all_have_ended_and_only_polls(relay):
    videos = accepted(*cows(12))
    found = outcomes(videos)
    assert found.keys() == videos.keys()
    for veo_task_id, outcome in found.items():
        assert outcome["video"]["id"] == veo_task_id
        assert outcome["video"]["state"] == "succeeded"
        assert outcome["video"]["video_url"]
    assert requests(relay) == {"create": 12, "query": 12}


def test_its_arguments_survive_and_hold_no_secret(relay):
    arguments = {
        "videos": {"veo3:1-x": 1.5},
        "veo_conn_id": "veo_default",
        "timeout": 7.0,
        "poll_interval": 2.0,
        "enough": 3,
        "linger": 4.0,
        "wake_at": 5.0,
        "requests_per_minute": 6.0,
        "held_until": 7.5,
        "refused_since": 8.0,
        "progress": Progress(1, 0, 0, 1, 0).to_dict(),
        "told_at": 9.0,
        "handed_on": BatchCheckpoint(try_id="a").to_dict(),
    }
    _, serialized = made(**arguments).serialize()
    assert serialized == arguments
    assert CANARY not in json.dumps(serialized)


def test_event_holds_no_secret_and_passes_state_on(relay):
    relay.set_faults("query:echo-key")
    event = fired(accepted(*cows(2)), timeout=0.1, refused_since=123.5, told_at=456.5, handed_on={"try_id": "a"})
    assert CANARY not in json.dumps(event)
    assert (event["refused_since"], event["told_at"], event["try_id"]) == (123.5, 456.5, "a")


def test_fires_when_enough_have_ended_with_those_only(relay):
    relay.set_faults(FOR_EVER)
    quick, slow = accepted(*cows(3)), accepted("slow one", "slow two")
    started = time.monotonic()
    found = outcomes({**slow, **quick}, enough=3)
    assert found.keys() == quick.keys()
    assert time.monotonic() - started < 10


def test_fires_with_fewer_when_all_have_ended(relay):
    videos = accepted(*cows(2))
    assert outcomes(videos, enough=20).keys() == videos.keys()


def test_it_lingers_after_the_first(relay):
    relay.set_faults(FOR_EVER)
    quick, slow = accepted(*cows(2)), accepted("slow one")
    started = time.monotonic()
    assert outcomes({**quick, **slow}, linger=1.0, enough=3).keys() == quick.keys()
    assert 1.0 <= time.monotonic() - started < 10


def test_it_does_not_linger_before_the_first(relay):
    relay.set_faults("query:status-word=processing@1-4")
    videos = accepted("cow")
    assert outcomes(videos, linger=0.0).keys() == videos.keys()
    assert requests(relay)["query"] == 5


def test_it_wakes_the_worker_at_a_time_whatever_has_ended(relay):
    relay.set_faults(FOR_EVER)
    started = time.time()
    assert outcomes(accepted("slow one", "slow two"), wake_at=started + 1, enough=1) == {}
    assert 1.0 <= time.time() - started < 10


def test_linger_does_not_delay_wake_at(relay):
    relay.set_faults(FOR_EVER)
    quick, slow = accepted("cow"), accepted("slow one")
    started = time.time()
    found = outcomes({**quick, **slow}, wake_at=started + 3, linger=60)
    assert found.keys() == quick.keys()
    assert time.time() - started < 30


def test_past_wake_at_fires_at_once(relay):
    assert outcomes(accepted("cow"), wake_at=time.time() - 1) == {}
    assert requests(relay) == {"create": 1}


def test_without_a_video_it_wakes_the_worker_at_the_time(relay):
    started = time.time()
    assert outcomes({}, wake_at=started + 0.5) == {}
    assert 0.5 <= time.time() - started < 10
    assert outcomes({}) == {}
    assert requests(relay) == {}


# --- what it finds out -----------------------------------------------------------------------------------------------


def test_a_failed_generation_is_a_video_that_has_ended(relay):
    relay.set_faults("failed=blocked by policy@prompt=bad")
    good, bad = accepted("cow"), accepted("bad cow")
    found = outcomes({**good, **bad})
    (failed,) = [found[veo_task_id]["video"] for veo_task_id in bad]
    assert (failed["state"], failed["error"]) == ("failed", "blocked by policy")
    assert [found[veo_task_id]["video"]["state"] for veo_task_id in good] == ["succeeded"]


def test_unclear_status_with_a_url_is_a_video_that_is_ready(relay):
    relay.set_faults("query:status-word=pondering")
    (found,) = outcomes(accepted("cow")).values()
    assert (found["video"]["state"], found["video"]["status"]) == ("succeeded", "pondering")


def test_one_ended_wait_does_not_end_the_others(relay, monkeypatch):
    monkeypatch.setattr(waiting, "NOT_FOUND_SECONDS", 0.3)
    relay.set_faults("no-url@prompt=lost", FOR_EVER)
    good, lost, slow = accepted("cow"), accepted("lost cow"), accepted("slow cow")
    long_ago = dict.fromkeys(slow, time.time() - 9999)
    found = outcomes({**good, **lost, **long_ago, "veo3:1-unknown": time.time() - 30})
    assert [found[veo_task_id]["video"]["state"] for veo_task_id in good] == ["succeeded"]
    assert [kind_of(found[veo_task_id]) for veo_task_id in lost] == [VeoResponseError]
    assert [kind_of(found[veo_task_id]) for veo_task_id in slow] == [VeoTimeoutError]
    assert kind_of(found["veo3:1-unknown"]) is VeoNotFoundError


def test_refused_key_is_an_error_of_each_video(relay):
    videos = accepted(*cows(5))
    relay.configure(api_key="sk-other-0123456789")
    found = outcomes(videos)
    assert {kind_of(outcome) for outcome in found.values()} == {VeoAuthenticationError}
    assert requests(relay) == {"create": 5, "query": 5}
    assert CANARY not in json.dumps(found)


def test_missing_connection_is_retried_until_the_timeout(relay, monkeypatch):
    videos = accepted("cow")
    monkeypatch.delenv("AIRFLOW_CONN_VEO_DEFAULT")
    ((_, outcome),) = outcomes(dict.fromkeys(videos, time.time()), timeout=1).items()
    assert kind_of(outcome) is VeoTimeoutError


def test_new_video_is_not_polled_before_it_can_be_ready(relay):
    videos = dict.fromkeys(accepted(*cows(3)), time.time())
    started = time.monotonic()
    assert len(outcomes(videos, poll_interval=0.3)) == 3
    assert time.monotonic() - started >= 4 * 0.3 - 0.1
    assert requests(relay)["query"] == 3


@pytest.mark.parametrize(
    "fault",
    ["bare=502@1-8", "reset@1-8", "drop-before@1-8", "no-json@1-8", "status=404@1-4", "quota@1-8", "empty@1-8"],
)
def test_it_outlasts(relay, fault):
    videos = accepted(*cows(4))
    relay.set_faults(f"query:{fault}")
    found = outcomes(videos)
    assert {outcome["video"]["state"] for outcome in found.values()} == {"succeeded"}
    assert requests(relay)["create"] == 4


class _Relay(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        veo_task_id = parse_qs(urlsplit(self.path).query)["id"][0]
        body = {"id": veo_task_id, "status": "completed", "video_url": "https://example.com/x.mp4"}
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def test_it_outlasts_a_relay_that_is_down(connect):
    address = ("127.0.0.1", free_port())
    connect(host=f"http://127.0.0.1:{address[1]}")
    videos = dict.fromkeys((f"veo3:{number}-x" for number in range(10)), time.time() - 30)

    async def scenario():
        run = asyncio.ensure_future(collect(made(videos)))
        await asyncio.sleep(1)
        assert not run.done()
        with http.server.ThreadingHTTPServer(address, _Relay) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            found = await asyncio.wait_for(run, 60)
            await asyncio.to_thread(server.shutdown)
        return found

    (event,) = asyncio.run(scenario())
    assert {outcome["video"]["state"] for outcome in event["outcomes"].values()} == {"succeeded"}


# --- how fast it polls -----------------------------------------------------------------------------------------------


def test_polls_respect_requests_per_minute(relay):
    videos = accepted(*cows(12))
    outcomes(videos, requests_per_minute=600)
    times = [request["time"] for request in relay.requests("query")]
    assert len(times) == 12
    assert times[-1] - times[0] >= 0.9


def test_retry_after_delays_all_polls(relay):
    videos = accepted(*cows(30))
    relay.set_faults("query:rate-limit=1@1")
    outcomes(videos, requests_per_minute=1200)
    times = [request["time"] for request in relay.requests("query")]
    assert max(after - before for before, after in itertools.pairwise(times)) >= 0.9
    assert sum(moment < times[0] + 0.9 for moment in times) < 25
    assert len(times) == 31
