"""What is sent to a relay that speaks the OpenAI Videos API, and what its files' answers mean."""

import pytest

from airflow_provider_veo.protocol import VeoError, VeoValidationError, VideoTask, payload
from airflow_provider_veo.protocol.api import Reply
from airflow_provider_veo.protocol.models import OPEN_CATALOG
from airflow_provider_veo.protocol.openai import OpenAIApi

KEY = "sk-canary-0123456789abcdef"
IMAGES = ["https://example.com/a.png", "data:image/png;base64,aGk="]
api = OpenAIApi("https://gateway.example.com", (KEY,))


def body(*given, **named):
    return payload.build(*given, **named, catalog=OPEN_CATALOG)


def test_a_create_has_a_size_and_no_field_of_the_other_form():
    request = api.create(body("a cow flies", "gemini/veo-3.1"))
    assert (request.method, request.path, request.files) == ("POST", "/v1/videos", [])
    assert request.fields == {"prompt": "a cow flies", "model": "gemini/veo-3.1", "size": "1280x720"}


def test_a_size_and_a_duration_may_be_given():
    given = body("x", "veo_3_1", aspect_ratio="9:16", extra_body={"seconds": 8, "size": "1080x1920"})
    fields = api.create(given).fields
    assert (fields["size"], fields["seconds"]) == ("1080x1920", "8")
    assert api.create(body("x", "veo_3_1", aspect_ratio="9:16")).fields["size"] == "720x1280"


def test_images_are_uploaded():
    request = api.create(body("x", "veo_3_1-components", images=IMAGES))
    assert request.files == [("input_reference", image) for image in IMAGES]
    assert "images" not in request.fields


def test_upsampling_is_a_mistake_before_anything_is_sent():
    with pytest.raises(VeoValidationError, match="enable_upsample: this relay's API has no upsampling"):
        body("x", "veo_3_1", enable_upsample=True)


def test_a_known_model_keeps_its_limits():
    with pytest.raises(VeoValidationError, match="veo3-pro-frames takes at most 1 image"):
        body("x", "veo3-pro-frames", images=IMAGES)
    with pytest.raises(VeoValidationError, match="veo2 doesn't honour it"):
        body("x", "veo2", aspect_ratio="9:16")


@pytest.mark.parametrize("veo_task_id", ["video_1", "veo3:1-x", "a/b?c#d%2e", "video_" + "x" * 700, "é"])
def test_an_id_is_one_part_of_the_path(veo_task_id):
    from urllib.parse import unquote

    path = api.query(veo_task_id).path
    assert path.count("/") == 3
    assert not set(path) & set("?#")
    assert unquote(path.rpartition("/")[2]) == veo_task_id


@pytest.mark.parametrize("veo_task_id", [".", ".."])
def test_an_id_that_is_another_path_is_refused(veo_task_id):
    with pytest.raises(VeoValidationError, match="Nothing was sent"):
        api.query(veo_task_id)


def test_only_a_finished_video_without_a_url_is_checked_for_its_file():
    assert api.needs_content(VideoTask("v", state="succeeded")) == api.content("v")
    for video in (
        VideoTask("v"),
        VideoTask("v", state="failed"),
        VideoTask("v", state="succeeded", video_url="https://x"),
    ):
        assert api.needs_content(video) is None


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_file_that_cannot_be_served_now_is_looked_for_again(status):
    with pytest.raises(VeoError) as caught:
        api.read_content(Reply(status, {"Retry-After": "7"}, b""), VideoTask("v", state="succeeded"), api.content("v"))
    assert caught.value.transient
    assert (caught.value.status_code, caught.value.retry_after, caught.value.veo_task_id) == (status, 7.0, "v")


@pytest.mark.parametrize(
    ("status", "body"),
    [(202, b'{"status": "processing"}'), (200, b'{"error": {"message": "removed"}}'), (200, b"<html>"), (204, b"")],
)
def test_what_is_no_file_leaves_the_video_without_a_url(status, body):
    read = api.read_content(Reply(status, {}, body), VideoTask("v", state="succeeded"), api.content("v"))
    assert read.video_url is None
    assert "its file can't be had" in read.warning


@pytest.mark.parametrize("status", [200, 206, 302, 307])
def test_a_file_that_is_served_becomes_the_url(status):
    read = api.read_content(Reply(status, {}, b"\0"), VideoTask("v:1", state="succeeded"), api.content("v:1"))
    assert read.video_url == "https://gateway.example.com/v1/videos/v%3A1/content"


def test_a_file_that_is_not_served_leaves_the_video_without_a_url():
    said = b'{"error": {"message": "blocked, key ' + KEY.encode() + b'", "type": "server_error"}}'
    read = api.read_content(Reply(500, {}, said), VideoTask("v", state="succeeded"), api.content("v"))
    assert read.video_url is None
    assert "its file can't be had: HTTP 500" in read.warning
    assert KEY not in read.warning
