"""The hook against a relay over real HTTP, with every fault caused."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import time
import urllib.request

import pytest
import tenacity
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, timeout

from airflow_provider_veo import __version__
from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.hooks import sync as hooks
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoQuotaError,
    VeoRateLimitError,
    VeoRequestRejectedError,
    VeoResponseError,
    VeoTimeoutError,
    VeoUnavailableError,
    VeoValidationError,
    payload,
)
from tests.conftest import CANARY

BODY = payload.build("a cow flies", "veo3-fast")


@pytest.fixture
def hook(relay):
    hook = VeoHook()
    yield hook
    hook.close()


@pytest.fixture
def impatient(monkeypatch):
    """Retry as often as ever, with less time in between."""
    monkeypatch.setattr(hooks, "_backoff", tenacity.wait_fixed(0.02))


def creates(relay):
    return relay.stats()["requests"].get("create", 0)


# --- a create --------------------------------------------------------------------------------------------------------


def test_a_create_goes_over_the_wire_as_the_api_wants_it(relay, hook):
    video = hook.create_video(payload.build("牛飞上天了", "veo3.1-components", enable_upsample=True))
    (request,) = relay.requests()
    assert json.loads(request["body"]) == {
        "prompt": "牛飞上天了",
        "model": "veo3.1-components",
        "enhance_prompt": True,
        "enable_upsample": True,
        "aspect_ratio": "16:9",
    }
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert headers["content-type"] == "application/json"
    assert headers["accept"] == "application/json"
    assert headers["user-agent"].startswith(f"airflow-provider-veo/{__version__} ")
    assert int(headers["content-length"]) == len(request["body"].encode())
    assert video.id.startswith("veo3.1-components:")
    assert video.state == "running"
    assert relay.stats()["accepted"] == 1


@pytest.mark.parametrize(
    "settings",
    [{"response_shape": "chat"}, {"id_field": "task_id"}, {"numeric_ids": True}, {"time_unit": "s"}],
    ids=str,
)
def test_every_shape_of_an_answer_is_understood(relay, hook, settings):
    relay.configure(**settings)
    video = hook.create_video(BODY)
    assert isinstance(video.id, str)
    assert video.updated_at is not None
    assert hook.get_video(video.id).video_url


def test_a_body_that_is_not_valid_is_not_sent(relay, hook):
    with pytest.raises(VeoValidationError):
        hook.create_video({**BODY, "aspect_ratio": "4:3"})
    assert creates(relay) == 0


NOT_ACCEPTED = [
    *[(f"status={status}", VeoRequestRejectedError) for status in (400, 404, 405, 413, 415, 422)],
    ("status=401", VeoAuthenticationError),
    ("status=403", VeoAuthenticationError),
    ("bare=401", VeoAuthenticationError),
    ("status=402", VeoQuotaError),
    ("quota", VeoQuotaError),
    ("quota=200", VeoQuotaError),
    ("quota=429", VeoQuotaError),
    ("envelope=insufficient_user_quota", VeoQuotaError),
    ("envelope=some_code", VeoRequestRejectedError),
    ("flat-envelope=insufficient_balance", VeoQuotaError),
    ("rate-limit", VeoRateLimitError),
    ("rate-limit=120", VeoRateLimitError),
    ("rate-limit-date=120", VeoRateLimitError),
    ("redirect", VeoRequestRejectedError),
]


@pytest.mark.parametrize(("fault", "kind"), NOT_ACCEPTED)
def test_a_refused_create_is_told_as_what_it_is_and_not_sent_again(relay, hook, fault, kind):
    relay.set_faults(fault)
    with pytest.raises(VeoError) as caught:
        hook.create_video(BODY)
    assert type(caught.value) is kind
    stats = relay.stats()
    assert (stats["requests"], stats["accepted"]) == ({"create": 1}, 0)  # nor was a redirect followed


AMBIGUOUS = [
    "bare=500",
    "bare=502",
    "bare=504",
    "bare=408",
    "bare-after=502",
    "drop-before",
    "drop-after",
    "reset",
    "reset-after",
    "hang-before=9",
    "hang-after=9",
    "drip=9",
    "cut-off",
    "no-json",
    "no-id",
    "empty",
    "empty=204",
    "huge=2000000",
]


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_a_create_whose_answer_is_lost_is_never_sent_again(relay, connect, fault):
    relay.set_faults(fault)
    connect(extra={"read_timeout": 1})
    hook = VeoHook()
    started = time.monotonic()
    with pytest.raises(VeoAmbiguousSubmitError, match="may be generated and billed"):
        hook.create_video(BODY)
    assert time.monotonic() - started < 6
    assert creates(relay) == 1
    hook.close()


@pytest.mark.parametrize(
    "fault", ["status=503:model_not_found@1-2", "status=500@1-4", "rate-limit=1@1", "envelope=500@1"]
)
def test_a_create_that_was_certainly_not_accepted_is_sent_again(relay, hook, impatient, fault):
    relay.set_faults(fault)
    assert hook.create_video(BODY).id
    stats = relay.stats()
    assert stats["accepted"] == 1
    assert stats["requests"]["create"] > 1


def test_sending_again_ends(relay, hook, impatient):
    relay.set_faults("status=503")
    with pytest.raises(VeoUnavailableError):
        hook.create_video(BODY)
    assert creates(relay) == 5


def test_each_retry_is_logged_with_its_reason(relay, hook, logged):
    relay.set_faults("status=503:model_not_found@1")
    hook.create_video(BODY)
    (line,) = [line for line in logged().splitlines() if "Attempt" in line]
    assert "Attempt 1 of 5 failed, the next one is in " in line
    assert "model_not_found" in line


def test_the_relays_patience_is_obeyed(relay, hook, impatient):
    relay.set_faults("rate-limit=2@1")
    started = time.monotonic()
    hook.create_video(BODY)
    assert time.monotonic() - started >= 2


def test_a_relay_that_is_not_there_was_sent_nothing(connect, impatient):
    connect(host="http://127.0.0.1:9")
    with pytest.raises(VeoUnavailableError, match=r"POST http://127.0.0.1:9/v1/video/create, and got no answer"):
        VeoHook().create_video(BODY)


def test_a_host_without_an_address_was_sent_nothing(connect, impatient):
    connect(host="https://relay.invalid")
    with pytest.raises(VeoUnavailableError, match="safe to send the request again"):
        VeoHook().create_video(BODY)


def test_a_tls_handshake_that_fails_was_sent_nothing(relay, connect, impatient):
    connect(host=relay.url.replace("http://", "https://"))
    with pytest.raises(VeoUnavailableError, match="SSL"):
        VeoHook().create_video(BODY)
    assert creates(relay) == 0


def test_a_task_that_times_out_while_the_answer_is_due_may_have_paid(relay, hook):
    relay.set_faults("hang-after=9")
    with pytest.raises(VeoAmbiguousSubmitError) as caught, timeout(1):
        hook.create_video(BODY)
    assert isinstance(caught.value.__cause__, AirflowTaskTimeout)
    assert relay.stats()["accepted"] == 1


def test_a_task_that_times_out_before_anything_was_sent_has_paid_nothing(relay, hook):
    relay.set_faults("status=503")
    with pytest.raises(AirflowTaskTimeout), timeout(1):
        hook.create_video(BODY)
    assert relay.stats()["accepted"] == 0


def test_connections_are_pooled(relay, hook):
    for _ in range(3):
        hook.get_video(hook.create_video(BODY).id)
    pools = hook.get_conn().get_adapter(relay.url).poolmanager.pools
    (pool,) = [pools[key] for key in pools.keys()]  # noqa: SIM118  it is no dict
    assert (pool.num_requests, pool.num_connections) == (6, 1)


class _EndlessRedirect(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x" * 65536)

    def log_message(self, *arguments):
        pass


def test_a_redirect_with_an_endless_body_is_not_read_to_its_end(connect, serve):
    connect(host=f"http://127.0.0.1:{serve(_EndlessRedirect).server_port}")
    hook = VeoHook()
    with pytest.raises(VeoRequestRejectedError, match="never followed"):
        hook.create_video(BODY)
    hook.close()


# --- the key ---------------------------------------------------------------------------------------------------------


def test_the_key_is_in_no_error_even_if_the_relay_repeats_it(relay, hook):
    relay.set_faults("echo-key")
    with pytest.raises(VeoRequestRejectedError) as caught:
        hook.create_video(BODY)
    assert CANARY not in str(caught.value) + repr(vars(caught.value))
    assert CANARY not in repr(vars(hook)) + repr(hook.settings) + repr(vars(hook.get_conn()))


def test_a_netrc_does_not_replace_the_key(relay, hook, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert hook.create_video(BODY).id


def test_the_key_is_masked_in_logs(relay, hook):
    from airflow.providers.common.compat.sdk import redact

    assert hook.settings.api_key == CANARY
    assert redact(f"a text with {CANARY}") == "a text with ***"


# --- a query ---------------------------------------------------------------------------------------------------------


def test_a_video_is_asked_for_by_the_id_that_create_returned(relay, hook):
    relay.configure(other_id=True)
    video = hook.create_video(BODY)
    asked = hook.get_video(video.id)
    assert asked.id == video.id
    assert (asked.state, asked.model) == ("succeeded", "veo3-fast")
    assert asked.enhanced_prompt
    with urllib.request.urlopen(asked.video_url) as answer:
        assert answer.headers["Content-Type"] == "video/mp4"


@pytest.mark.parametrize("settings", [{"wrapped": True}, {"url_field": "output_url"}, {"url_field": "url"}], ids=str)
def test_every_shape_of_a_query_is_understood(relay, hook, settings):
    relay.configure(**settings)
    assert hook.get_video(hook.create_video(BODY).id).video_url


@pytest.mark.parametrize(
    "fault",
    [
        "status=500",
        "bare=502",
        "rate-limit=0",
        "rate-limit",
        "drop-before",
        "reset",
        "cut-off",
        "no-json",
        "empty",
        "quota",
    ],
)
def test_a_transient_answer_is_asked_again(relay, hook, impatient, fault):
    video = hook.create_video(BODY)
    relay.set_faults(f"query:{fault}@1-2")
    assert hook.get_video(video.id).state == "succeeded"
    assert relay.stats()["requests"]["query"] == 3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status=401", VeoAuthenticationError),
        ("status=403", VeoAuthenticationError),
        ("status=404", VeoNotFoundError),
        ("redirect", VeoRequestRejectedError),
    ],
)
def test_a_final_answer_is_not_asked_again(relay, hook, fault, kind):
    video = hook.create_video(BODY)
    relay.set_faults(f"query:{fault}")
    with pytest.raises(kind):
        hook.get_video(video.id)
    assert relay.stats()["requests"]["query"] == 1


def test_an_id_that_no_one_knows(hook):
    with pytest.raises(VeoNotFoundError, match="veo3:1-unknown"):
        hook.get_video("veo3:1-unknown")


# --- a wait ----------------------------------------------------------------------------------------------------------


def wait(hook, video, **arguments):
    return hook.wait_for_video(video.id, **{"poll_interval": 0.05, "timeout": 30, **arguments})


def test_a_wait_ends_with_the_video_and_logs_each_status_once(relay, hook, logged):
    relay.configure(generation_seconds=0.6)
    video = hook.create_video(BODY)
    assert wait(hook, video).video_url
    told = re.findall(rf"Video {video.id}: (\w+)", logged())
    assert told[-1] == "completed"
    assert len(told) == len(set(told)) >= 2


@pytest.mark.parametrize(
    "fault",
    [
        "query:bare=502@1-3",
        "query:drop-before@1-3",
        "query:rate-limit=0@1-3",
        "late-url=3",
        "not-found-first=3",
        "leftover-error",
        "query:unknown-status@1-3",
        "query:upper-case",
        "upsampling-failed",
    ],
)
def test_a_wait_outlasts(relay, hook, fault):
    relay.set_faults(fault)
    assert wait(hook, hook.create_video(BODY)).video_url


def test_an_unknown_status_is_warned_of(relay, hook, logged):
    relay.set_faults("query:unknown-status=pondering@1")
    wait(hook, hook.create_video(BODY))
    assert "the status 'pondering' is not a known one" in logged()


@pytest.mark.parametrize(
    "form",
    ["error", "error-object", "fail_reason", "detail.error", "detail.error_message", "detail.video_generation_error"],
)
def test_a_failed_generation_tells_the_relays_reason(relay, hook, form):
    relay.set_faults(f"failed=blocked by policy:{form}")
    video = hook.create_video(BODY)
    with pytest.raises(VeoGenerationFailedError, match="blocked by policy") as caught:
        wait(hook, video)
    assert caught.value.veo_task_id == video.id


def test_a_video_that_never_gets_a_url(relay, hook):
    relay.set_faults("no-url")
    with pytest.raises(VeoResponseError, match="paid for"):
        wait(hook, hook.create_video(BODY))
    assert relay.stats()["requests"]["query"] == 4


def test_a_wait_gives_up_in_time(relay, hook):
    relay.configure(generation_seconds=60)
    video = hook.create_video(BODY)
    with pytest.raises(VeoTimeoutError, match=f"existing_veo_task_id='{video.id}'"):
        wait(hook, video, timeout=0.5)


def test_a_key_that_is_refused_ends_a_wait(relay, hook):
    video = hook.create_video(BODY)
    relay.configure(api_key="another")
    with pytest.raises(VeoAuthenticationError):
        wait(hook, video)


# --- test connection -------------------------------------------------------------------------------------------------


def test_a_right_connection(relay, hook):
    ok, message = hook.test_connection()
    assert ok, message
    assert message.startswith(f"{relay.url} accepts the key")
    assert "veo3-fast" in message
    assert relay.stats()["requests"] == {"models": 1}


def test_a_wrong_key(connect):
    connect(password="sk-wrong-0123456789")
    ok, message = VeoHook().test_connection()
    assert not ok
    assert message.startswith("The relay answers, but does not accept the API key.")
    assert "sk-wrong" not in message


def test_a_host_that_is_down(connect):
    connect(host="http://127.0.0.1:9")
    ok, message = VeoHook().test_connection()
    assert not ok
    assert message.startswith("http://127.0.0.1:9 can't be reached.")
    assert "Check host, port and proxy" in message


@pytest.mark.parametrize("fault", ["models:bare=404", "models:no-json", "models:empty", "models:redirect"])
def test_a_host_that_is_no_relay(relay, hook, fault):
    relay.set_faults(fault)
    ok, message = hook.test_connection()
    assert not ok
    assert "not as a Veo relay does" in message
    assert "Check the host" in message


def test_a_connection_that_is_not_valid(connect):
    connect(password="", host="ftp://x")
    ok, message = VeoHook().test_connection()
    assert not ok
    assert "no API key" in message
    assert "'ftp'" in message


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["http://8.8.8.8", "http://[2001:4860:4860::8888]:8080"])
def test_plain_http_to_a_public_address_is_refused_before_anything_is_sent(connect, host):
    connect(host=host)
    with pytest.raises(VeoValidationError, match="plain http to a public address"):
        VeoHook().create_video(BODY)


@pytest.mark.parametrize(
    "host", ["http://10.1.2.3", "http://192.168.1.2", "http://127.0.0.1", "http://localhost", "http://[::1]"]
)
def test_plain_http_to_a_private_address_is_allowed(connect, host):
    connect(host=host)
    with VeoHook().get_conn():
        pass


def test_plain_http_to_a_public_address_is_allowed_on_request(connect):
    connect(host="http://8.8.8.8", extra={"allow_insecure_http": True})
    with VeoHook().get_conn():
        pass


def test_the_connections_proxy_is_used_whatever_the_environment_says(relay, connect, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    connect(extra={"proxy": f"http://user:hunter2@127.0.0.1:{proxy.server_port}"})
    hook = VeoHook()
    assert hook.create_video(BODY).id
    hook.close()
    assert proxy.asked == [f"{relay.url}/v1/video/create"]


def test_a_proxy_that_is_down_was_sent_nothing_and_its_password_is_not_told(connect, impatient):
    connect(extra={"proxy": "http://user:hunter2@127.0.0.1:9"})
    with pytest.raises(VeoUnavailableError) as caught:
        VeoHook().create_video(BODY)
    assert "hunter2" not in str(caught.value)


def test_the_connections_ca_bundle_is_used_whatever_the_environment_says(
    connect, tls_server, tmp_path, monkeypatch, impatient
):
    server, certificate = tls_server
    connect(host=f"https://localhost:{server.server_port}", extra={"ca_bundle": str(certificate)})
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.devnull)
    assert VeoHook().test_connection()[0]
    connect(host=f"https://localhost:{server.server_port}")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(VeoUnavailableError, match=r"CERTIFICATE_VERIFY_FAILED"):
        VeoHook().create_video(BODY)
