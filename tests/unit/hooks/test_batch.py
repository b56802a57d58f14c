"""A batch's creates and questions against a relay over real HTTP, with every fault caused, each sent once."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest

from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.hooks.batch import VeoBatchHook
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoError,
    VeoNotFoundError,
    VeoRateLimitError,
    VeoResponseError,
    VeoUnavailableError,
    VeoValidationError,
    VeoWrongHostError,
    payload,
)
from tests.conftest import CANARY
from tests.unit.hooks.conftest import BODY, create_video
from tests.unit.hooks.test_create import AMBIGUOUS, NOT_ACCEPTED, creates

IMPATIENT = {"read_timeout": 0.6, "connect_timeout": 0.4}
ROTATED = "sk-rotated-0123456789"


def with_hook(scenario, connections=8):
    """Run a scenario with a hook, and close it."""

    async def run():
        hook = VeoBatchHook(VeoHook(), connections)
        try:
            return await scenario(hook)
        finally:
            await hook.close()

    return asyncio.run(run())


def submit(body=BODY):
    return with_hook(lambda hook: create_video(hook, body))


def ask(veo_task_id):
    return with_hook(lambda hook: hook.get_video(veo_task_id))


# --- a create --------------------------------------------------------------------------------------------------------


def test_a_create_goes_over_the_wire_as_that_of_a_single_task_does(relay):
    body = payload.build("牛飞上天了", "veo3.1-components", enable_upsample=True)
    sync = VeoHook()
    sync.create_video(body)
    sync.close()
    video = submit(body)
    first, second = ({name.lower(): value for name, value in each["headers"].items()} for each in relay.requests())
    names = ("accept", "content-type", "content-length", "user-agent", "transfer-encoding", "content-disposition")
    assert {name: first.get(name) for name in names} == {name: second.get(name) for name in names}
    assert len({request["body"] for request in relay.requests()}) == 1
    assert video.id.startswith("veo3.1-components:")
    assert video.state == "running"


@pytest.mark.parametrize(
    "settings",
    [{"response_shape": "chat"}, {"id_field": "task_id"}, {"numeric_ids": True}, {"time_unit": "s"}, {"wrapped": True}],
    ids=str,
)
def test_every_shape_of_an_answer_is_understood(relay, settings):
    relay.configure(**settings)
    video = submit()
    assert isinstance(video.id, str)
    assert ask(video.id).video_url


def test_a_body_that_is_not_valid_is_not_sent(relay):
    with pytest.raises(VeoValidationError):
        submit({**BODY, "aspect_ratio": "4:3"})
    assert creates(relay) == 0


@pytest.mark.parametrize(("fault", "kind"), NOT_ACCEPTED)
def test_a_refused_create_is_told_as_what_it_is_and_sent_once(relay, fault, kind):
    relay.set_faults(fault)
    with pytest.raises(VeoError) as caught:
        submit()
    assert type(caught.value) is kind
    stats = relay.stats()
    assert (stats["requests"], stats["accepted"]) == ({"create": 1}, 0)  # nor was a redirect followed


@pytest.mark.parametrize(
    ("fault", "kind", "retry_after"),
    [
        ("status=500", VeoUnavailableError, None),
        ("status=503", VeoUnavailableError, None),
        ("status=503:model_not_found", VeoUnavailableError, None),
        ("envelope=some_code:502", VeoUnavailableError, None),
        ("rate-limit=7", VeoRateLimitError, 7),
        ("rate-limit", VeoRateLimitError, None),
    ],
)
def test_what_may_be_sent_again_is_left_to_who_calls(relay, fault, kind, retry_after):
    relay.set_faults(fault)
    with pytest.raises(VeoError) as caught:
        submit()
    assert type(caught.value) is kind
    assert caught.value.retry_after == retry_after
    assert relay.stats()["requests"] == {"create": 1}


@pytest.mark.parametrize("fault", [*AMBIGUOUS, "bare-after=500", "no-json@1", "empty=201"])
def test_a_create_whose_answer_is_lost_is_sent_once(relay, connect, fault):
    relay.set_faults(fault)
    connect(extra=IMPATIENT)
    started = time.monotonic()
    with pytest.raises(VeoAmbiguousSubmitError, match="may be generated and billed"):
        submit()
    assert time.monotonic() - started < 25
    assert relay.stats()["requests"] == {"create": 1}


def test_an_answer_that_takes_its_time_is_waited_for(relay, connect):
    relay.set_faults("slow=0.8")
    connect(extra={"read_timeout": 3})
    assert submit().id


@pytest.mark.parametrize(
    "change",
    [{"host": "http://127.0.0.1:9"}, {"host": "https://relay.invalid"}, {"host": "https://127.0.0.1:9"}],
    ids=str,
)
def test_a_relay_that_is_not_there_was_sent_nothing(connect, change):
    connect(**change)
    with pytest.raises(VeoUnavailableError, match="safe to send the request again"):
        submit()


def test_a_create_that_is_cancelled_is_not_sent_again(relay):
    relay.set_faults("hang-after=9")

    async def scenario(hook):
        task = asyncio.ensure_future(create_video(hook, BODY))
        while not creates(relay):
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        relay.set_faults()
        assert (await create_video(hook, BODY)).id

    with_hook(scenario)
    assert creates(relay) == 2


def test_a_hook_can_be_used_again_after_it_was_closed(relay):
    async def scenario(hook):
        await create_video(hook, BODY)
        await hook.close()
        await hook.close()
        return await create_video(hook, BODY)

    assert with_hook(scenario).id


# --- a question ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status=401", VeoAuthenticationError),
        ("status=404", VeoNotFoundError),
        ("redirect", VeoWrongHostError),
        ("rate-limit=7", VeoRateLimitError),
        ("bare=502", VeoUnavailableError),
        ("hang-before=9", VeoUnavailableError),
        ("drip=9", VeoUnavailableError),
        ("cut-off", VeoResponseError),
        ("no-json", VeoResponseError),
        ("empty", VeoResponseError),
        ("huge=2000000", VeoResponseError),
    ],
)
def test_every_fault_of_a_question_is_told_as_what_it_is(relay, connect, fault, kind):
    veo_task_id = submit().id
    connect(extra=IMPATIENT)
    relay.set_faults(f"query:{fault}")
    with pytest.raises(VeoError) as caught:
        ask(veo_task_id)
    assert type(caught.value) is kind
    assert relay.stats()["requests"] == {"create": 1, "query": 1}


@pytest.mark.parametrize("fault", ["drop-before", "reset"])
def test_a_question_that_is_dropped_may_be_asked_again(relay, fault):
    veo_task_id = submit().id
    relay.set_faults(f"query:{fault}")
    with pytest.raises(VeoUnavailableError):
        ask(veo_task_id)
    assert creates(relay) == 1


# --- the key ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["echo-key", "echo-key=500", "query:echo-key", "hang-before=9", "drop-before"])
def test_the_key_is_in_no_error_and_no_log(relay, connect, caplog, capfd, fault):
    caplog.set_level(logging.DEBUG)
    connect(extra=IMPATIENT)
    hook = VeoHook()

    async def scenario():
        batch = VeoBatchHook(hook, 2)
        try:
            if fault.startswith("query"):
                veo_task_id = (await create_video(batch, BODY)).id
                relay.set_faults(fault)
                await batch.get_video(veo_task_id)
            else:
                relay.set_faults(fault)
                await create_video(batch, BODY)
        finally:
            assert CANARY not in repr(vars(batch)) + repr(vars(batch._exchange)) + repr(batch.settings)
            await batch.close()

    with pytest.raises(VeoError) as caught:
        asyncio.run(scenario())
    assert CANARY not in str(caught.value) + repr(vars(caught.value)) + json.dumps(caught.value.to_dict())
    output = capfd.readouterr()
    assert CANARY not in caplog.text + output.out + output.err


def test_a_netrc_does_not_replace_the_key(relay, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert ask(submit().id).state == "succeeded"


def rotate(relay, monkeypatch, connection=None):
    relay.configure(api_key=ROTATED)
    monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", connection or relay.connection)


def test_a_rotated_key_is_picked_up_and_pays_once(relay, monkeypatch):
    async def scenario(hook):
        rotate(relay, monkeypatch)
        await create_video(hook, BODY)
        assert hook.settings.api_key == ROTATED

    with_hook(scenario)
    stats = relay.stats()
    assert stats["answers"]["create"] == {"401": 1, "200": 1}
    assert stats["accepted"] == 1


def test_another_form_of_the_api_is_not_taken_over_on_the_way(relay, monkeypatch):
    async def scenario(hook):
        veo_task_id = (await create_video(hook, BODY)).id
        rotate(relay, monkeypatch, json.dumps({**json.loads(relay.connection), "extra": {"api": "openai"}}))
        with pytest.raises(VeoAuthenticationError, match="Its API changed while videos were in flight"):
            await create_video(hook, BODY)
        with pytest.raises(VeoAuthenticationError):
            await hook.get_video(veo_task_id)
        assert hook.settings.api.name == "unified"

    with_hook(scenario)
    assert relay.stats()["accepted"] == 1


def test_a_rotated_key_is_picked_up_by_all_that_were_on_the_way(relay, monkeypatch):
    async def scenario(hook):
        rotate(relay, monkeypatch)
        bodies = [payload.build(f"cow {number}", "veo3-fast") for number in range(20)]
        videos = await asyncio.gather(*(create_video(hook, body) for body in bodies))
        assert len({video.id for video in videos}) == 20
        assert all([(await hook.get_video(video.id)).video_url for video in videos])

    with_hook(scenario)
    stats = relay.stats()
    assert stats["accepted"] == 20
    assert stats["paid_twice"] == {}
    assert creates(relay) <= 40


def test_a_question_picks_a_rotated_key_up(relay, monkeypatch):
    async def scenario(hook):
        veo_task_id = (await create_video(hook, BODY)).id
        rotate(relay, monkeypatch)
        assert (await hook.get_video(veo_task_id)).state == "succeeded"

    with_hook(scenario)
    assert relay.stats()["answers"]["query"] == {"401": 1, "200": 1}


def test_a_key_that_stays_wrong_is_sent_once(relay):
    relay.configure(api_key=ROTATED)
    with pytest.raises(VeoAuthenticationError):
        submit()
    assert creates(relay) == 1


def test_a_new_key_that_is_wrong_too_is_sent_once(relay, connect):
    async def scenario(hook):
        relay.configure(api_key=ROTATED)
        connect(password="sk-neither-0123456789")
        with pytest.raises(VeoAuthenticationError):
            await create_video(hook, BODY)

    with_hook(scenario)
    assert creates(relay) == 2


@pytest.mark.parametrize(
    "connection", ["{broken", '{"conn_type": "veo"}', '{"conn_type": "veo", "host": "ftp://x", "password": "other"}']
)
def test_a_connection_that_is_of_no_use_any_more_leaves_the_error_as_it_is(relay, monkeypatch, connection):
    async def scenario(hook):
        rotate(relay, monkeypatch, connection)
        for _ in range(2):
            with pytest.raises(VeoAuthenticationError):
                await create_video(hook, BODY)

    with_hook(scenario)
    assert creates(relay) == 2


def test_a_new_connection_is_checked_before_its_key_is_sent_anywhere(relay, connect):
    async def scenario(hook):
        relay.configure(api_key=ROTATED)
        connect(host="http://8.8.8.8", password="sk-secret-0123456789", extra=IMPATIENT)
        for _ in range(2):
            with pytest.raises(VeoAuthenticationError, match="plain http to a public address"):
                await create_video(hook, BODY)
        assert hook.settings.base_url == relay.url

    with_hook(scenario)
    assert creates(relay) == 2
    assert "sk-secret" not in json.dumps(relay.requests("all"))


def test_a_new_connections_proxy_is_used(relay, connect, proxy):
    async def scenario(hook):
        relay.configure(api_key=ROTATED)
        connect(password=ROTATED, extra={"proxy": f"http://127.0.0.1:{proxy.server_port}"})
        await create_video(hook, BODY)

    with_hook(scenario)
    assert proxy.asked == [f"{relay.url}/v1/video/create"]
    assert relay.stats()["accepted"] == 1
