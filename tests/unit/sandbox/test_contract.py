"""The relay follows the API document: what it accepts, what it refuses and how it answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import BODY

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox import Sandbox

    from .conftest import Client

PICTURE = "https://example.com/a.png"
INLINE = "data:image/png;base64,iVBORw0KGgo="


def assert_envelope(answer: Any, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["type"] == "new_api_error"
    assert re.search(r"\(request id: \w+\)$", error["message"])


def test_documented_example_is_accepted_and_answered_as_documented(client: Client) -> None:
    answer = client.create(
        prompt="牛飞上天了",
        model="veo3.1-components",
        images=[PICTURE, PICTURE, INLINE],
        enhance_prompt=True,
        enable_upsample=True,
    )
    assert answer.status_code == 200
    assert set(answer.json()) == {"id", "status", "status_update_time"}
    assert re.fullmatch(r"veo3\.1-components:\d{10}-\w{10}", answer.json()["id"])
    assert answer.json()["status"] == "pending"
    assert len(str(answer.json()["status_update_time"])) == 13


def test_chat_shape_has_all_required_fields(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(response_shape="chat")
    answer = client.create().json()
    assert set(answer) == {"id", "object", "created", "choices", "usage"}
    assert set(answer["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert isinstance(answer["created"], int)
    assert answer["choices"][0]["index"] == 0


@pytest.mark.parametrize("field", ["model", "prompt", "enhance_prompt", "enable_upsample", "aspect_ratio"])
def test_missing_field_of_the_document_is_refused_if_strict(client: Client, sandbox: Sandbox, field: str) -> None:
    sandbox.configure(strict=True)
    answer = client.create(**{field: None})
    assert_envelope(answer, 400, "invalid_request")
    assert field in answer.text
    assert sandbox.stats()["accepted"] == 0


@pytest.mark.parametrize("missing", [{"model": None}, {"prompt": None}, {"model": None, "prompt": None}])
def test_model_and_prompt_are_always_required(client: Client, sandbox: Sandbox, missing: dict[str, Any]) -> None:
    answer = client.create(**missing)
    assert_envelope(answer, 400, "invalid_request")
    assert all(f"{field} is required" in answer.text for field in missing)
    assert sandbox.stats()["accepted"] == 0


LENIENT = [
    {"enhance_prompt": "true"},
    {"enable_upsample": "False"},
    {"images": []},
    {"images": None},
    {"aspect_ratio": None, "enhance_prompt": None, "enable_upsample": None},
]


@pytest.mark.parametrize("changes", LENIENT)
def test_what_real_clients_send_is_accepted_unless_strict(
    client: Client, sandbox: Sandbox, changes: dict[str, Any]
) -> None:
    body = {**BODY, **changes}
    assert client.send("POST", "/v1/video/create", json=body).status_code == 200
    sandbox.configure(strict=True)
    assert_envelope(client.send("POST", "/v1/video/create", json=body), 400, "invalid_request")
    assert sandbox.stats()["accepted"] == 1


def test_left_out_fields_have_defaults(client: Client, sandbox: Sandbox) -> None:
    body = {"model": "veo3-fast", "prompt": "a cow"}
    answer = client.send("POST", "/v1/video/create", json=body)
    assert answer.status_code == 200
    request = client.query(answer.json()["id"]).json()["detail"]["req"]
    assert request == {**body, "images": [], "enhance_prompt": False, "enable_upsample": False, "aspect_ratio": "16:9"}


def test_boolean_as_a_string_is_what_it_says(client: Client) -> None:
    for text, value in (("true", True), ("TRUE", True), ("false", False)):
        video = client.accepted(enhance_prompt=text)
        assert client.query(video).json()["detail"]["req"]["enhance_prompt"] is value


@pytest.mark.parametrize(
    "changes",
    [
        {"enhance_prompt": "yes"},
        {"enable_upsample": ""},
        {"enable_upsample": 1},
        {"aspect_ratio": "1:1"},
        {"aspect_ratio": "9:16", "model": "veo2"},
        {"prompt": "  "},
        {"prompt": 5},
        {"model": ""},
        {"images": [PICTURE]},
        {"images": {}},
        {"images": PICTURE},
        {"images": [PICTURE] * 2, "model": "veo3-pro-frames"},
        {"images": [PICTURE] * 3, "model": "veo3-fast-frames"},
        {"images": [PICTURE] * 3, "model": "veo2-fast-frames"},
        {"images": [PICTURE] * 4, "model": "veo3.1-components"},
        {"images": ["/etc/passwd"], "model": "veo3.1"},
        {"images": ["file:///etc/passwd"], "model": "veo3.1"},
        {"images": ["data:text/plain;base64,aGk="], "model": "veo3.1"},
        {"images": ["data:image/png;base64,%%"], "model": "veo3.1"},
        {"images": [""], "model": "veo3.1"},
        {"images": [None], "model": "veo3.1"},
    ],
)
def test_invalid_body_is_refused(client: Client, sandbox: Sandbox, changes: dict[str, Any]) -> None:
    assert_envelope(client.create(**changes), 400, "invalid_request")
    assert sandbox.stats()["accepted"] == 0


def test_all_mistakes_are_reported_at_once(client: Client) -> None:
    message = client.create(prompt="", enhance_prompt="no", aspect_ratio="4:3").json()["error"]["message"]
    assert all(field in message for field in ("prompt", "enhance_prompt", "aspect_ratio"))


def test_unknown_model_has_no_channel(client: Client) -> None:
    assert_envelope(client.create(model="veo9"), 503, "model_not_found")


def test_models_can_be_added_at_runtime(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(extra_models=["veo4-fast,images=2,9:16"])
    assert client.create(model="veo4-fast", images=[PICTURE] * 2, aspect_ratio="9:16").status_code == 200
    assert client.create(model="veo4-fast", images=[PICTURE] * 3).status_code == 400


def test_half_a_surrogate_pair_is_refused_or_replaced(client: Client) -> None:
    for body, status in (('{"model": "veo3", "prompt": "\\ud800"}', 400), ('{"model": "\\ud800", "prompt": "x"}', 503)):
        headers = {"Content-Type": "application/json"}
        assert client.send("POST", "/v1/video/create", data=body, headers=headers).status_code == status


def test_unknown_fields_are_accepted(client: Client) -> None:
    assert client.create(seed=7).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"prompt": NaN}', b"\xff"])
def test_body_that_is_not_a_json_object_is_refused(client: Client, body: bytes) -> None:
    answer = client.send("POST", "/v1/video/create", data=body, headers={"Content-Type": "application/json"})
    assert_envelope(answer, 400, "invalid_request")


def test_create_must_be_json(client: Client) -> None:
    assert_envelope(client.create(headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")


@pytest.mark.parametrize("accept", ["*/*", "text/html", None])
def test_any_accept_header_or_none_will_do_unless_strict(client: Client, sandbox: Sandbox, accept: str | None) -> None:
    headers = {"Accept": accept}
    video = client.accepted(headers=headers)
    assert client.query(video, headers=headers).status_code == 200
    assert sandbox.requests()[0]["headers"].get("accept") == accept
    sandbox.configure(strict=True)
    assert_envelope(client.create(headers=headers), 400, "invalid_request")
    assert_envelope(client.query(video, headers=headers), 422, "invalid_parameter")


def test_query_without_content_type_is_refused_if_strict(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(strict=True)
    video = client.accepted()
    assert_envelope(client.query(video), 422, "invalid_parameter")
    assert client.query(video, headers={"Content-Type": "application/json"}).status_code == 200


@pytest.mark.parametrize("given", ["Bearer wrong", "sandbox-key", "", "Basic c2FuZGJveC1rZXk="])
def test_wrong_key_is_refused_everywhere(client: Client, sandbox: Sandbox, given: str) -> None:
    headers = {"Authorization": given}
    answers = [
        client.create(headers=headers),
        client.query("x", headers=headers),
        client.send("GET", "/v1/models", headers=headers),
    ]
    for answer in answers:
        assert_envelope(answer, 401, "invalid_api_key")
        assert "wrong" not in answer.text
    assert sandbox.stats()["accepted"] == 0


def test_key_can_be_changed_at_runtime(client: Client, sandbox: Sandbox) -> None:
    before = client.headers
    sandbox.configure(api_key="another")
    assert client.send("GET", "/v1/models", headers=before).status_code == 401
    assert client.send("GET", "/v1/models").status_code == 200
    assert '"another"' in sandbox.connection


def test_wrong_methods_and_paths_return_an_envelope(client: Client) -> None:
    assert_envelope(client.send("GET", "/v1/video/create"), 405, "method_not_allowed")
    assert_envelope(client.send("POST", "/v1/video/query"), 405, "method_not_allowed")
    assert_envelope(client.send("GET", "/v1/video/list"), 404, "not_found")
    assert_envelope(client.query("nobody"), 404, "task_not_exist")


def test_models_are_listed(client: Client) -> None:
    answer = client.send("GET", "/v1/models").json()
    assert answer["object"] == "list"
    assert {"id": "veo3-fast", "object": "model", "owned_by": "veo"} in answer["data"]
    assert len(answer["data"]) == 25


@pytest.mark.slow
def test_video_passes_through_the_relays_statuses(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(generation_seconds=6)  # of which the shortest status lasts a twentieth
    video = client.accepted(model="veo3.1-components", images=[PICTURE], enable_upsample=True, enhance_prompt=True)
    seen: list[str] = []
    answer: dict[str, Any] = {}
    while not answer.get("video_url"):
        answer = client.query(video).json()
        if answer["status"] not in seen:
            seen.append(answer["status"])
    assert seen == [
        "pending",
        "image_downloading",
        "video_generating",
        "video_generation_completed",
        "video_upsampling",
        "video_upsampling_completed",
        "completed",
    ]
    assert answer["video_url"].endswith(".upsampled.mp4")
    assert answer["detail"]["video_url"].endswith(".mp4")
    assert answer["detail"]["video_url"] != answer["video_url"] == answer["detail"]["upsample_video_url"]
    assert "a cow takes off" in answer["enhanced_prompt"]
    assert len(str(answer["status_update_time"])) == 13


def test_success_looks_like_the_recorded_one_with_leftovers_of_errors(client: Client) -> None:
    images = [PICTURE, INLINE]
    video = client.accepted(model="veo3.1", images=images, enable_upsample=True, enhance_prompt=True)
    answer = client.query(video).json()
    assert set(answer) == {"id", "status", "video_url", "enhanced_prompt", "status_update_time", "detail"}
    detail = answer["detail"]
    assert detail["id"] == answer["id"] == video
    assert detail["req"]["images"] == [PICTURE, "data:image/png;base64"]
    assert (detail["status"], detail["running"]) == (answer["status"], False) == ("completed", False)
    assert detail["upsample_status"] == "MEDIA_GENERATION_STATUS_SUCCESSFUL"
    assert detail["retry_count"] == detail["max_retries"] == 3
    assert detail["error_message"].startswith("[403]")
    assert "unsafe prompt" in detail["video_generation_error"]
    assert answer["status_update_time"] == detail["completed_at"]


def test_only_a_success_has_leftovers(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(generation_seconds=1000)
    detail = client.query(client.accepted(enable_upsample=True)).json()["detail"]
    assert (detail["running"], detail["video_url"], detail["upsample_video_url"]) == (True, None, None)
    assert not {"error_message", "video_generation_error"} & detail.keys()


def test_finished_video_stays_finished(client: Client, sandbox: Sandbox) -> None:
    video = client.accepted()
    assert client.query(video).json()["status"] == "completed"
    sandbox.configure(generation_seconds=1000)
    assert client.query(video).json()["status"] == "completed"
    running = client.query(client.accepted()).json()
    assert running["status"] == "pending"
    assert running["video_url"] is None
    assert sandbox.videos()[0]["state"] == "succeeded"
    assert sandbox.videos()[1]["state"] == "running"


def test_query_answers_have_the_configured_shape(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(wrapped=True, other_id=True, url_field="output_url", time_unit="s", id_field="task_id")
    created = client.create().json()
    answer = client.query(created["task_id"]).json()
    assert answer["status"] == "SUCCESS"
    data = answer["data"]
    assert data["id"] != created["task_id"]
    assert data["id"] == client.query(created["task_id"]).json()["data"]["id"]
    assert client.query(data["id"]).status_code == 404
    assert data["output_url"].endswith(".mp4")
    assert "video_url" not in data
    assert len(str(data["status_update_time"])) == 10


def test_ids_can_be_numbers(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(numeric_ids=True)
    video = client.create().json()["id"]
    assert isinstance(video, int)
    assert client.query(video).json()["id"] == video
