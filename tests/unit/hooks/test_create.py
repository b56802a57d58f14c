"""A create against a relay over real HTTP, with every fault caused."""

from __future__ import annotations

import contextlib
import http.server
import json
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, timeout

from airflow_provider_veo import __version__
from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoError,
    VeoQuotaError,
    VeoRateLimitError,
    VeoRequestRejectedError,
    VeoUnavailableError,
    VeoValidationError,
    VeoWrongHostError,
    payload,
)
from tests.conftest import CANARY
from tests.unit.hooks.conftest import BODY


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
    ("redirect", VeoWrongHostError),
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
    assert time.monotonic() - started < 25
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
    assert "Attempt 1 of 5 failed; next attempt in " in line
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
    (pool,) = [pools[key] for key in pools.keys()]  # noqa: SIM118  it is not a dict
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
    with pytest.raises(VeoWrongHostError, match="never followed"):
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
