"""The asynchronous hook and the trigger against a relay over real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_veo.hooks import VeoAsyncHook, VeoHook, asynchronous
from airflow_provider_veo.protocol import (
    VeoAuthenticationError,
    VeoError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoRateLimitError,
    VeoResponseError,
    VeoTimeoutError,
    VeoUnavailableError,
    VeoValidationError,
    VeoWrongHostError,
)
from airflow_provider_veo.protocol.errors import from_dict
from airflow_provider_veo.triggers import VeoVideoTrigger
from tests.conftest import CANARY
from tests.unit.hooks.conftest import BODY


@pytest.fixture
def veo_task_id(relay):
    hook = VeoHook()
    veo_task_id = hook.create_video(BODY).id
    hook.close()
    return veo_task_id


def ask(veo_task_id):
    return asyncio.run(VeoAsyncHook().get_video(veo_task_id))


def queries(relay):
    return relay.stats()["requests"].get("query", 0)


def test_both_hooks_understand_the_same(relay, veo_task_id):
    hook = VeoHook()
    assert ask(veo_task_id) == hook.get_video(veo_task_id)
    hook.close()
    first, second = relay.requests("query")
    assert {name: first["headers"].get(name) for name in ("accept", "user-agent")} == {
        name: second["headers"].get(name) for name in ("accept", "user-agent")
    }


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status=401", VeoAuthenticationError),
        ("status=404", VeoNotFoundError),
        ("redirect", VeoWrongHostError),
        ("rate-limit=7", VeoRateLimitError),
        ("bare=502", VeoUnavailableError),
        ("drop-before", VeoUnavailableError),
        ("reset", VeoUnavailableError),
        ("hang-before=9", VeoUnavailableError),
        ("drip=9", VeoUnavailableError),
        ("cut-off", VeoResponseError),
        ("no-json", VeoResponseError),
        ("empty", VeoResponseError),
        ("huge=2000000", VeoResponseError),
    ],
)
def test_every_fault_is_told_as_what_it_is(relay, connect, veo_task_id, fault, kind):
    if fault in ("hang-before=9", "drip=9"):
        connect(extra={"read_timeout": 0.5, "connect_timeout": 0.5})
    relay.set_faults(f"query:{fault}")
    started = time.monotonic()
    with pytest.raises(VeoError) as caught:
        ask(veo_task_id)
    assert type(caught.value) is kind
    assert time.monotonic() - started < 25
    assert "redirected" not in relay.stats()["requests"]


def test_a_relay_that_repeats_the_key_is_not_repeated(relay, veo_task_id):
    relay.set_faults("query:echo-key")
    with pytest.raises(VeoError) as caught:
        ask(veo_task_id)
    assert CANARY not in str(caught.value) + repr(vars(caught.value))


@pytest.mark.parametrize("change", [{"host": "http://127.0.0.1:9"}, {"host": "https://relay.invalid"}])
def test_a_relay_that_is_not_there(connect, change):
    connect(**change)
    with pytest.raises(VeoUnavailableError):
        ask("veo3:1-x")


def test_plain_http_to_the_public_is_refused(connect):
    connect(host="http://8.8.8.8")
    with pytest.raises(VeoValidationError, match="plain http to a public address"):
        ask("veo3:1-x")


def test_a_connection_that_does_not_exist(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_VEO_DEFAULT", raising=False)
    with pytest.raises(VeoUnavailableError, match="The conn_id `veo_default` isn't defined"):
        ask("veo3:1-x")


def test_a_netrc_does_not_replace_the_key(relay, veo_task_id, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert ask(veo_task_id).state == "succeeded"


def test_waits_share_a_client_and_it_is_closed_after_the_last(relay, veo_task_id):
    async def scenario():
        loop = asyncio.get_running_loop()
        async with VeoAsyncHook() as first, VeoAsyncHook() as second:
            await asyncio.gather(*(hook.get_video(veo_task_id) for hook in (first, second) for _ in range(20)))
            (client,) = asynchronous._clients[loop].values()
            session = client._exchange._session
        assert session.closed
        assert not asynchronous._clients[loop]

    asyncio.run(scenario())
    assert queries(relay) == 40


def test_the_connection_is_looked_up_once_for_many(relay, veo_task_id, monkeypatch):
    looked_up = []
    real = BaseHook.get_connection

    def counting(conn_id):
        looked_up.append(conn_id)
        return real(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", counting)

    async def scenario():
        async with VeoAsyncHook():
            await asyncio.gather(*(VeoAsyncHook().get_video(veo_task_id) for _ in range(50)))

    asyncio.run(scenario())
    assert looked_up == ["veo_default"]


def test_a_rotated_key_is_picked_up_at_once(relay, veo_task_id, connect):
    async def scenario():
        async with VeoAsyncHook() as hook:
            await hook.get_video(veo_task_id)
            relay.configure(api_key="sk-rotated-0123456789")
            os.environ["AIRFLOW_CONN_VEO_DEFAULT"] = relay.connection
            videos = await asyncio.gather(*(hook.get_video(veo_task_id) for _ in range(10)))
            assert {video.state for video in videos} == {"succeeded"}

    asyncio.run(scenario())


def test_a_connection_that_can_not_be_looked_up_may_be_asked_for_again(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", "{broken")
    with pytest.raises(VeoUnavailableError, match="The connection 'veo_default' can't be looked up") as caught:
        ask("veo3:1-x")
    assert caught.value.transient


def test_a_connection_that_can_no_longer_be_looked_up_goes_on_being_used(relay, veo_task_id, monkeypatch, caplog):
    monkeypatch.setattr(asynchronous, "LOOK_UP_SECONDS", 0.0)

    async def scenario():
        async with VeoAsyncHook() as hook:
            await hook.get_video(veo_task_id)
            monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", "{broken")
            assert (await hook.get_video(veo_task_id)).state == "succeeded"

    asyncio.run(scenario())
    assert "can't be looked up" in caplog.text
    assert CANARY not in caplog.text


def test_a_key_that_stays_wrong_is_asked_with_once(relay, veo_task_id):
    relay.configure(api_key="sk-rotated-0123456789")
    with pytest.raises(VeoAuthenticationError):
        ask(veo_task_id)
    assert queries(relay) == 1


@pytest.mark.parametrize("where", ["connection", "environment"])
def test_a_proxy_is_used(relay, veo_task_id, connect, proxy, monkeypatch, where):
    address = f"http://127.0.0.1:{proxy.server_port}"
    monkeypatch.setenv("http_proxy", address if where == "environment" else "http://127.0.0.1:9")
    connect(extra={"proxy": address} if where == "connection" else {})
    assert ask(veo_task_id).state == "succeeded"
    assert len(proxy.asked) == 1


def test_the_connections_ca_bundle_is_used(connect, tls_server):
    server, certificate = tls_server
    connect(host=f"https://localhost:{server.server_port}", extra={"ca_bundle": str(certificate)})
    with pytest.raises(VeoResponseError):  # not a relay, but it answers
        ask("veo3:1-x")
    connect(host=f"https://localhost:{server.server_port}")
    with pytest.raises(VeoUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        ask("veo3:1-x")


# --- the trigger -----------------------------------------------------------------------------------------------------


def fired(**arguments):
    trigger = VeoVideoTrigger(**{"poll_interval": 0.1, "timeout": 20, "started": time.time(), **arguments})
    classpath, serialized = trigger.serialize()
    assert classpath == "airflow_provider_veo.triggers.VeoVideoTrigger"
    again = VeoVideoTrigger(**json.loads(json.dumps(serialized)))

    async def run():
        return [event.payload async for event in again.run()]

    (payload,) = asyncio.run(run())
    return json.loads(json.dumps(payload))


def test_a_trigger_fires_the_video(relay, veo_task_id):
    video = fired(veo_task_id=veo_task_id)["video"]
    assert (video["id"], video["state"]) == (veo_task_id, "succeeded")
    assert video["video_url"]


def test_its_arguments_hold_no_secret(relay, veo_task_id):
    assert CANARY not in json.dumps(VeoVideoTrigger(veo_task_id=veo_task_id).serialize())


@pytest.mark.parametrize(
    "fault",
    ["query:bare=502@1-3", "query:reset@1-3", "query:rate-limit=0@1-3", "late-url=3", "not-found-first=3",
     "leftover-error", "query:unknown-status@1-3", "upsampling-failed"],
)  # fmt: skip
def test_it_outlasts(relay, fault):
    relay.set_faults(fault)
    hook = VeoHook()
    assert fired(veo_task_id=hook.create_video(BODY).id)["video"]["video_url"]
    hook.close()


@pytest.mark.parametrize(
    ("fault", "kind", "part"),
    [
        ("failed=blocked by policy", VeoGenerationFailedError, "blocked by policy"),
        ("no-url", VeoResponseError, "is billed"),
        ("query:status=401", VeoAuthenticationError, "API key"),
        ("query:status-word=pending", VeoTimeoutError, "'pending'"),
        ("query:rate-limit=60", VeoTimeoutError, "The last poll failed"),
    ],
)
def test_it_fires_the_error_that_ends_the_wait(relay, fault, kind, part):
    relay.set_faults(fault)
    hook = VeoHook()
    veo_task_id = hook.create_video(BODY).id
    hook.close()
    timeout = 1 if kind is VeoTimeoutError else 60  # it ends by its answer, however slow the machine is
    error = from_dict(fired(veo_task_id=veo_task_id, timeout=timeout)["error"])
    assert type(error) is kind
    assert part in str(error)


def test_a_deadline_that_passed_still_allows_one_question(relay, veo_task_id):
    assert fired(veo_task_id=veo_task_id, started=time.time() - 9999)["video"]
    assert queries(relay) == 1


def test_it_logs_a_status_when_it_changes_only(relay, logged):
    relay.configure(generation_seconds=4)
    hook = VeoHook()
    veo_task_id = hook.create_video(BODY).id
    hook.close()
    fired(veo_task_id=veo_task_id, timeout=120)
    lines = [line for line in logged().splitlines() if f"Video {veo_task_id}:" in line and "triggers" in line]
    assert 1 < len(lines) == len({line.partition(veo_task_id)[2].split()[1] for line in lines})
    assert queries(relay) > len(lines)


def test_being_killed_says_what_goes_on_being_billed(logged):
    asyncio.run(VeoVideoTrigger(veo_task_id="veo3:1-x").on_kill())
    assert "Video veo3:1-x is still being generated and will be billed" in logged()


def test_no_video_to_wait_for():
    error = from_dict(fired(veo_task_id={"state": "running"})["error"])
    assert type(error) is VeoValidationError
    assert "expected the id that create returned" in str(error)
