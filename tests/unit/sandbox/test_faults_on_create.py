"""Each fault reaches a client over real HTTP, and the video is accepted or not, as documented."""

from __future__ import annotations

import email.utils
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_veo.sandbox.answers import DEFAULT_CODES
from airflow_provider_veo.sandbox.settings import CHOICES

from .conftest import BODY

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox import Sandbox

    from .conftest import Client


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 408, 413, 415, 422, 429, 500, 502, 503, 504])
def test_status_fault_returns_an_envelope(client: Client, sandbox: Sandbox, status: int) -> None:
    sandbox.set_faults(f"status={status}")
    answer = client.create()
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == DEFAULT_CODES.get(status, "upstream_error")
    assert sandbox.stats()["accepted"] == 0


@pytest.mark.parametrize(
    ("spec", "status", "code"),
    [
        ("status=403:insufficient_user_quota", 403, "insufficient_user_quota"),
        ("status=400:1234", 400, 1234),
        ("envelope=insufficient_user_quota", 200, "insufficient_user_quota"),
        ("envelope=model_not_found:503", 503, "model_not_found"),
        ("quota", 403, "insufficient_user_quota"),
        ("quota=429", 429, "insufficient_user_quota"),
    ],
)
def test_error_code_can_be_chosen(client: Client, sandbox: Sandbox, spec: str, status: int, code: Any) -> None:
    sandbox.set_faults(spec)
    answer = client.create()
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert sandbox.stats()["accepted"] == 0


def test_flat_envelope_has_no_error_object(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("flat-envelope=quota_exceeded", "flat-envelope=quota_exceeded:200")
    answer = client.create()
    assert answer.status_code == 400
    assert answer.json()["code"] == "quota_exceeded"
    assert answer.json()["data"] is None


def test_nested_envelope_has_its_code_inside_its_message(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("nested-envelope=insufficient_user_quota@1", "nested-envelope=1234:200")
    first, second = client.create(), client.create()
    assert (first.status_code, second.status_code) == (500, 200)
    codes = [json.loads(answer.json()["error"]["message"])["error"]["code"] for answer in (first, second)]
    assert codes == ["insufficient_user_quota", 1234]
    assert sandbox.stats()["accepted"] == 0


def test_pending_video_can_already_have_a_url(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("early-url")
    answer = client.create().json()
    assert (answer["status"], bool(answer["id"])) == ("pending", True)
    assert answer["video_url"].startswith("https://")
    assert sandbox.stats()["accepted"] == 1


@pytest.mark.parametrize("path", CHOICES["id_field"])
@pytest.mark.parametrize("shape", CHOICES["response_shape"])
def test_id_is_at_the_configured_path(client: Client, sandbox: Sandbox, path: str, shape: str) -> None:
    sandbox.configure(id_field=path, response_shape=shape)
    answer: Any = client.create().json()
    assert path != "data.task_id" or answer["data"]["id"] == 1
    for part in path.split("."):
        answer = answer[part]
    assert client.query(answer).status_code == 200
    sandbox.set_faults("no-id")
    assert answer.partition(":")[0] not in client.create().text


@pytest.mark.parametrize("kind", ["bare", "bare-after"])
def test_bare_fault_returns_a_gateway_page(client: Client, sandbox: Sandbox, kind: str) -> None:
    sandbox.set_faults(f"{kind}=502")
    answer = client.create()
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "text/html"
    assert "<h1>502 Bad Gateway</h1>" in answer.text
    assert sandbox.stats()["accepted"] == (kind == "bare-after")


def test_rate_limit_sends_retry_after(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("rate-limit=7@1", "rate-limit-date=60@2", "rate-limit@3")
    seconds, date, silent = (client.create() for _ in range(3))
    assert {answer.status_code for answer in (seconds, date, silent)} == {429}
    assert seconds.headers["retry-after"] == "7"
    moment = email.utils.parsedate_to_datetime(date.headers["retry-after"]).timestamp()
    assert 55 < moment - time.time() < 61
    assert "retry-after" not in silent.headers


def test_followed_redirect_is_recorded(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("redirect@1", "redirect=https://example.com/x@2")
    first = client.create()
    assert first.status_code == 307
    assert first.headers["location"] == f"{sandbox.url}/redirected/v1/video/create"
    assert sandbox.requests("redirected") == []
    assert client.send("POST", first.headers["location"]).status_code == 404
    assert len(sandbox.requests("redirected")) == 1
    assert client.create().headers["location"] == "https://example.com/x"
    assert sandbox.stats()["accepted"] == 0


@pytest.mark.parametrize(
    ("spec", "accepted"),
    [
        ("drop-before", 0),
        ("reset", 0),
        ("hang-before=0.1", 0),
        ("drop-after", 1),
        ("reset-after", 1),
        ("hang-after=0.1", 1),
    ],
)
def test_lost_answer_is_a_connection_error(client: Client, sandbox: Sandbox, spec: str, accepted: int) -> None:
    sandbox.set_faults(spec)
    with pytest.raises(requests.ConnectionError) as caught:
        client.create()
    assert ("Connection reset" in str(caught.value)) == spec.startswith("reset")
    stats = sandbox.stats()
    assert stats["accepted"] == accepted
    assert stats["answers"] == {"create": {"none": 1}}
    assert stats["faults_fired"] == {spec: 1}


@pytest.mark.parametrize(("kind", "accepted"), [("hang-before", 0), ("hang-after", 1)])
def test_hanging_relay_triggers_the_client_timeout(client: Client, sandbox: Sandbox, kind: str, accepted: int) -> None:
    sandbox.set_faults(f"{kind}=30")
    with pytest.raises(requests.ReadTimeout):
        client.create(timeout=2)
    assert sandbox.stats()["accepted"] == accepted


def test_slow_answer_is_correct_but_late(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("slow=0.3")
    begin = time.monotonic()
    assert client.create().json()["id"]
    assert time.monotonic() - begin >= 0.3


def test_drip_answer_arrives_in_pieces(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("drip=3")
    begin = time.monotonic()
    answer = client.send("POST", "/v1/video/create", json=BODY, stream=True)
    assert time.monotonic() - begin < 2.5
    arrivals = [round(time.monotonic() - begin, 2) for _ in answer.iter_content(1)]
    assert len(set(arrivals)) > 15
    assert arrivals[-1] >= 2.5


def test_cut_off_answer_is_incomplete(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("cut-off")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        client.create()
    assert sandbox.stats()["accepted"] == 1
    assert sandbox.stats()["answers"] == {"create": {"200": 1}}


def test_create_with_unusable_answer_is_accepted(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("no-json@1", "no-id@2", "empty@3", "empty=204@4", "huge=100000@5")
    text, nameless, empty, no_content, huge = (client.create() for _ in range(5))
    with pytest.raises(requests.JSONDecodeError):
        text.json()
    assert text.status_code == nameless.status_code == 200
    assert "id" not in nameless.json()
    assert (empty.status_code, empty.content) == (200, b"")
    assert (no_content.status_code, no_content.content) == (204, b"")
    assert len(huge.content) == 100000
    assert huge.json()["id"]
    assert sandbox.stats()["accepted"] == 5


def test_refused_request_is_not_corrupted(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("no-json")
    assert client.create(prompt="").status_code == 400
    assert sandbox.stats()["faults_fired"] == {}


def test_echo_key_repeats_the_key_but_does_not_log_it(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("echo-key")
    answer = client.create()
    assert answer.status_code == 400
    assert sandbox.api_key in answer.json()["error"]["message"]
    assert sandbox.api_key not in sandbox.output()


def test_faults_apply_to_the_named_endpoint(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("models:status=403", "query:bare=502")
    assert client.send("GET", "/v1/models").status_code == 403
    assert client.query("x").text.startswith("<html>")
    assert client.create().status_code == 200


@pytest.mark.parametrize(
    ("selector", "met"),
    [
        ("3", [3]),
        ("2-4", [2, 3, 4]),
        ("5+", [5, 6]),
        ("model=veo3-fast", [1, 3, 5]),
        ("model=veo3-fast,2", [3]),
        ("prompt=number 4", [4]),
        ("prompt=number,2-3", [2, 3]),
        ("100%", [1, 2, 3, 4, 5, 6]),
    ],
)
def test_selector_chooses_requests(client: Client, sandbox: Sandbox, selector: str, met: list[int]) -> None:
    sandbox.set_faults(f"status=500@{selector}")
    models = {1: "veo3-fast", 0: "veo3-pro"}
    failed = [n for n in range(1, 7) if client.create(model=models[n % 2], prompt=f"number {n}").status_code == 500]
    assert failed == met


def test_share_is_reproducible_after_a_reset(client: Client, sandbox: Sandbox) -> None:
    rounds = []
    for _ in range(2):
        sandbox.reset()
        sandbox.set_faults("status=500@40%")
        rounds.append([client.create().status_code for _ in range(30)])
    assert rounds[0] == rounds[1]
    assert 3 < rounds[0].count(500) < 25


def test_answer_and_delivery_faults_combine(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("status=503", "cut-off")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.create()
    assert sandbox.stats()["faults_fired"] == {"status=503": 1, "cut-off": 1}
