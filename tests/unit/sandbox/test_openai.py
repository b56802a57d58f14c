"""The form of the OpenAI Videos API: what the sandbox accepts, how it answers, and that faults apply alike."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests

from .test_contract import assert_envelope
from .test_files import frames_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_veo.sandbox import Sandbox

    from .conftest import Client

ORDER = {"model": "veo_3_1-fast", "prompt": "a cow takes off", "seconds": "8", "size": "720x1280"}
PNG = ("first.png", b"\x89PNG\r\n\x1a\n", "image/png")
FIELDS = {
    *("id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at"),
    *("seconds", "size", "prompt", "remixed_from_video_id", "error"),
}


def create(client: Client, files: Any = None, headers: Any = None, **changes: Any) -> requests.Response:
    """Create a video: with JSON, or with a form if there are files. A field that is None is left out."""
    order = {name: value for name, value in {**ORDER, **changes}.items() if value is not None}
    body = {"json": order} if files is None else {"data": order, "files": files}
    return client.send("POST", "/v1/videos", headers=headers or {}, **body)


def accepted(client: Client, **options: Any) -> str:
    answer = create(client, **options)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def path(video: str) -> str:
    return f"/v1/videos/{quote(video, safe='')}"


def query(client: Client, video: str) -> requests.Response:
    return client.send("GET", path(video))


def content(client: Client, video: str, **options: Any) -> requests.Response:
    return client.send("GET", f"{path(video)}/content", **options)


def test_video_is_created_queried_and_downloaded(client: Client, sandbox: Sandbox) -> None:
    created = create(client).json()
    assert set(created) == FIELDS
    assert {name: created[name] for name in ORDER} == ORDER
    assert (created["object"], created["status"], created["progress"]) == ("video", "queued", 0)
    assert created["completed_at"] is created["expires_at"] is created["error"] is None
    assert abs(created["created_at"] - time.time()) < 60
    video = query(client, created["id"]).json()
    assert set(video) == FIELDS
    assert (video["id"], video["status"], video["progress"]) == (created["id"], "completed", 100)
    assert video["expires_at"] > video["completed_at"] >= video["created_at"]
    mp4 = content(client, created["id"])
    assert mp4.headers["content-type"] == "video/mp4"
    assert frames_of(mp4.content)[0].size == (360, 640)
    assert [request["endpoint"] for request in sandbox.requests("all")] == ["create", "query", "file"]
    assert sandbox.stats()["accepted_by_prompt"] == {"a cow takes off": 1}
    listed = sandbox.videos()[0]
    assert (listed["api"], listed["state"], listed["queries"], listed["images"]) == ("openai", "succeeded", 1, 0)


def test_only_model_and_prompt_are_required(client: Client) -> None:
    video = create(client, seconds=None, size=None).json()
    assert (video["seconds"], video["size"]) == ("8", "1280x720")
    for seconds in (8, 8.0):
        answer = create(client, seconds=seconds, enable_upsample=True, headers={"Accept": "*/*"})
        assert answer.json()["seconds"] == "8"


@pytest.mark.parametrize("name", ["input_reference", "input_reference[]"])
def test_images_are_uploaded(client: Client, sandbox: Sandbox, name: str) -> None:
    video = accepted(client, files=[(name, PNG), (name, ("last.jpg", b"\xff\xd8\xff", "image/jpeg"))])
    assert query(client, video).json()["status"] == "completed"
    assert sandbox.videos()[0]["images"] == 2
    request = sandbox.requests()[0]
    assert request["headers"]["content-type"].startswith("multipart/form-data; boundary=")
    assert 'filename="last.jpg"' in request["body"]


def test_form_may_have_no_image(client: Client) -> None:
    assert create(client, files={"anything": (None, "else")}).json()["prompt"] == ORDER["prompt"]


@pytest.mark.slow
def test_video_passes_through_the_statuses(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(generation_seconds=6)  # of which the shortest status lasts a tenth
    video = accepted(client)
    assert_envelope(content(client, video), 400, "video_not_ready")
    seen: dict[str, list[int]] = {}
    while "completed" not in seen:
        answer = query(client, video).json()
        seen.setdefault(answer["status"], []).append(answer["progress"])
        assert (answer["completed_at"] is None) == (answer["status"] != "completed")
    assert list(seen) == ["queued", "in_progress", "completed"]
    progress = [share for shares in seen.values() for share in shares]
    assert progress == sorted(progress)
    assert len(set(progress)) > 10
    assert content(client, video).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"model": ""},
        {"prompt": None},
        {"prompt": " "},
        {"prompt": 5},
        {"seconds": "0"},
        {"seconds": "eight"},
        {"seconds": "８"},
        {"seconds": True},
        {"seconds": "61"},
        {"seconds": "08"},
        {"seconds": 1e300},
        {"seconds": []},
        {"seconds": 8.5},
        {"size": "640x360"},
        {"size": 720},
        {"size": "720x1280", "model": "veo2"},
        {"input_reference": "https://example.com/a.png"},
        {"input_reference": {"image_url": "https://example.com/a.png"}},
    ],
)
def test_invalid_json_is_refused(client: Client, sandbox: Sandbox, changes: dict[str, Any]) -> None:
    assert_envelope(create(client, **changes), 400, "invalid_request")
    assert sandbox.stats()["accepted"] == 0


@pytest.mark.parametrize(
    "files",
    [
        [("input_reference", PNG)] * 3,
        [("input_reference", ("a.bin", b"x", "application/octet-stream"))],
        [("input_reference", ("a.png", b"", "image/png"))],
        [("input_reference", (None, "https://example.com/a.png"))],
        [("input_reference[image_url]", (None, "https://example.com/a.png"))],
        [(f"field{number}", (None, "x")) for number in range(60)],
        [("input_reference", PNG)] * 60,
    ],
)
def test_invalid_form_is_refused(client: Client, sandbox: Sandbox, files: Any) -> None:
    assert_envelope(create(client, files=files), 400, "invalid_request")
    assert sandbox.stats()["accepted"] == 0


def test_all_mistakes_are_reported_at_once(client: Client) -> None:
    message = create(client, prompt="", size="1x1", seconds="x").json()["error"]["message"]
    assert all(field in message for field in ("prompt", "size", "seconds"))


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"no form", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n", 400),
        (f"multipart/form-data; boundary={'x' * 5000}", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x; charset=hex", b'--x\r\nContent-Disposition: x; name="a"\r\n\r\n', 400),
        ("application/json", b"[", 400),
        ("application/x-www-form-urlencoded", b"model=veo3&prompt=x", 415),
        ("text/plain", b"", 415),
    ],
)
def test_body_that_is_neither_json_nor_a_form_is_refused(
    client: Client, sandbox: Sandbox, content_type: str, body: bytes, status: int
) -> None:
    answer = client.send("POST", "/v1/videos", data=body, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert sandbox.stats()["accepted"] == 0


def test_upload_is_bounded(client: Client, sandbox: Sandbox) -> None:
    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="input_reference"; filename="a.png"\r\n\r\n'
        for _ in range(65):
            yield bytes(1024 * 1024)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = client.send("POST", "/v1/videos", data=body(), headers=headers, timeout=60)
    except requests.ConnectionError:
        pass  # the answer can be lost with the connection, which the relay closes with data unread
    else:
        assert_envelope(answer, 413, "request_too_large")
    assert sandbox.stats()["answers"] == {"create": {"413": 1}}
    assert sandbox.requests()[0]["body_bytes"] <= 65 * 1024 * 1024


def test_key_is_required_everywhere(client: Client) -> None:
    video = accepted(client)
    for method, where in (("POST", "/v1/videos"), ("GET", path(video)), ("GET", f"{path(video)}/content")):
        answer = client.send(method, where, headers={"Authorization": "Bearer wrong"})
        assert_envelope(answer, 401, "invalid_api_key")


def test_unknown_things_are_not_found(client: Client) -> None:
    assert_envelope(query(client, "video_unknown"), 404, "task_not_exist")
    assert_envelope(query(client, "a/b"), 404, "task_not_exist")
    assert_envelope(content(client, "video_unknown"), 404, "task_not_exist")
    assert_envelope(create(client, model="veo_9"), 503, "model_not_found")
    assert_envelope(client.send("GET", "/v1/videos"), 405, "method_not_allowed")
    assert_envelope(client.send("DELETE", path("x")), 405, "method_not_allowed")
    assert_envelope(content(client, accepted(client), params={"variant": "thumbnail"}), 400, "invalid_parameter")


def test_videos_of_one_form_are_unknown_to_the_other(client: Client) -> None:
    assert client.query(accepted(client)).status_code == 404
    assert query(client, client.accepted()).status_code == 404


def test_content_has_ranges(client: Client) -> None:
    video = accepted(client)
    complete = content(client, video)
    part = content(client, video, headers={"Range": "bytes=100-", "If-Range": complete.headers["etag"]})
    assert part.status_code == 206
    assert part.content == complete.content[100:]
    assert client.send("HEAD", f"{path(video)}/content").headers["content-length"] == str(len(complete.content))


def test_ids_can_be_long(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(long_ids=True)
    videos = [accepted(client, model=model) for model in ("veo3", "veo3.1", "veo3-fast", "veo_3_1")]
    assert all(300 < len(video) < 800 and video.startswith("video_") for video in videos)
    for video in videos:
        assert query(client, video).json()["id"] == video
        assert content(client, video).status_code == 200


def test_gateways_add_fields(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(id_field="task_id", openai_url_field="metadata.url", other_id=True)
    created = create(client).json()
    assert created["task_id"] == created["id"]
    assert created["metadata"]["url"] is None
    answer = query(client, created["id"]).json()
    assert answer["id"] != created["id"]
    assert client.send("GET", answer["metadata"]["url"]).headers["content-type"] == "video/mp4"


def test_lost_answer_is_counted(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("drop-after@prompt=cow", "status=429@prompt=horse")
    for files in (None, {"input_reference": PNG}):
        with pytest.raises(requests.ConnectionError):
            create(client, files=files)
        assert create(client, files=files, prompt="a horse").status_code == 429
    assert sandbox.stats()["paid_twice"] == {"a cow takes off": 2}
    assert [video["images"] for video in sandbox.videos()] == [0, 1]


def test_create_can_be_answered_without_an_id(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(id_field="task_id")
    sandbox.set_faults("no-id")
    assert not {"id", "task_id"} & create(client).json().keys()
    assert sandbox.stats()["accepted"] == 1


def test_failure_has_a_code_and_a_message(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("failed=unsafe prompt@1", "failed=unsafe prompt:fail_reason@2")
    video, other = accepted(client), accepted(client)
    answer = query(client, video).json()
    assert (answer["status"], answer["completed_at"]) == ("failed", None)
    assert answer["error"] == {"code": "generation_failed", "message": "unsafe prompt"}
    assert query(client, other).json()["fail_reason"] == "unsafe prompt"
    assert_envelope(content(client, video), 400, "video_not_ready")


def test_faults_change_the_status(client: Client, sandbox: Sandbox) -> None:
    video = accepted(client)
    sandbox.set_faults("status-word=processing@1", "unknown-status@2", "leftover-error", "upsampling-failed")
    answers = [query(client, video).json() for _ in range(3)]
    assert [answer["status"] for answer in answers] == ["processing", "video_reticulating", "completed"]
    assert "leftover" in answers[2]["error"]["message"]
    sandbox.set_faults("not-found-first=4:400")
    assert_envelope(query(client, video), 400, "task_not_exist")


def test_completed_video_can_have_no_content(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("file:status=500@prompt=cow")
    cow, horse = accepted(client), accepted(client, prompt="a horse")
    assert query(client, cow).json()["status"] == query(client, horse).json()["status"] == "completed"
    assert [content(client, video).status_code for video in (cow, cow, horse)] == [500, 500, 200]


@pytest.mark.parametrize(("fault", "host"), [("file:redirect", "127.0.0.1"), ("redirect-host", "localhost")])
def test_content_can_be_redirected(client: Client, sandbox: Sandbox, fault: str, host: str) -> None:
    video = accepted(client)
    sandbox.set_faults(fault)
    moved = content(client, video).headers["location"]
    assert moved == f"{sandbox.url.replace('127.0.0.1', host)}/redirected{path(video)}/content"
    followed = content(client, video, allow_redirects=True)
    assert frames_of(followed.content)
    # requests sends the key to its own host only.
    received = sandbox.requests("redirected")[0]
    assert received["authorized"] == ("authorization" in received["headers"]) == (host == "127.0.0.1")


def test_request_log_hides_the_key_in_forms(client: Client, sandbox: Sandbox) -> None:
    create(client, files={"input_reference": PNG}, prompt=f"the key is {sandbox.api_key}")
    assert "the key is (hidden)" in sandbox.requests()[0]["body"]
    assert sandbox.api_key not in json.dumps(sandbox.requests("all"))
