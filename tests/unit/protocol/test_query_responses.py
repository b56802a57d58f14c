"""Every row of the tables of a query, from bytes to a video or to the right error."""

import json
from datetime import datetime, timezone

import pytest

from airflow_provider_veo.protocol import (
    VeoAuthenticationError,
    VeoNotFoundError,
    VeoQuotaError,
    VeoRateLimitError,
    VeoRequestRejectedError,
    VeoResponseError,
    VeoUnavailableError,
    VeoValidationError,
    VeoWrongHostError,
    VideoTask,
    responses,
)
from airflow_provider_veo.protocol.video import veo_task_id_of
from tests.unit.protocol.answers import envelope, flat, query, query_error

# --- query: the video ------------------------------------------------------------------------------------------------

STATUS_WORDS = {
    "running": "pending queued not_start submitted processing in_progress running generating image_uploading "
    "image_processing image_downloading video_generating video_generation_completed video_upsampling",
    "succeeded": "completed success succeeded video_upsampling_completed",
    "failed": "failed failure error cancelled video_generation_failed video_upsampling_failed",
}
WORDS = [(word, state) for state, words in STATUS_WORDS.items() for word in words.split()]


@pytest.mark.parametrize(("word", "state"), WORDS)
@pytest.mark.parametrize("case", [str.lower, str.upper, str.title, "  {}\n".format])
def test_every_status_word_in_any_letter_case(word, state, case):
    video = query({"id": "x", "status": case(word)})
    assert (video.state, video.status, video.warning) == (state, case(word), None)


def test_a_status_no_one_listed_means_running_with_a_warning():
    video = query({"id": "x", "status": "pondering"})
    assert video.state == "running"
    assert "'pondering' is unknown" in video.warning


def test_the_id_that_was_asked_for_is_the_id():
    assert query({"id": "another", "status": "completed", "video_url": "https://x/y.mp4"}).id == "asked:1"


@pytest.mark.parametrize("name", ["video_url", "url", "output_url"])
def test_each_name_of_the_url(name):
    assert query({"status": "completed", name: "https://x/y.mp4"}).video_url == "https://x/y.mp4"


@pytest.mark.parametrize("url", [None, "", 7, "ftp://x/y", "x.mp4", []])
def test_what_is_no_url(url):
    assert query({"status": "completed", "video_url": url}).video_url is None


def test_a_wrapped_answer():
    video = query({"status": "SUCCESS", "data": {"id": "x", "status": "failed", "video_url": None, "error": "no"}})
    assert (video.state, video.status, video.error) == ("failed", "failed", "no")


def test_the_upsampled_file_is_the_top_level_one():
    video = query(
        {
            "status": "video_upsampling_completed",
            "video_url": "https://x/up",
            "detail": {"video_url": "https://x/plain"},
        }
    )
    assert video.video_url == "https://x/up"


@pytest.mark.parametrize(
    "content",
    [{"video_url": "https://x/plain"}, {"video_url": None, "detail": {"video_url": "https://x/plain"}}],
)
def test_a_failed_upsampling_delivers_the_plain_video_with_a_warning(content):
    video = query({"status": "VIDEO_UPSAMPLING_FAILED", "error": "x", **content})
    assert (video.state, video.video_url, video.error) == ("succeeded", "https://x/plain", None)
    assert "upsampling failed" in video.warning


REASONS = [
    ({"error": "policy"}, "policy"),
    ({"error": {"message": "policy", "code": "E1"}}, "policy (E1)"),
    ({"error": {"code": 17}}, "17"),
    ({"fail_reason": "policy"}, "policy"),
    ({"detail": {"error": "policy"}}, "policy"),
    ({"detail": {"error_message": "policy"}}, "policy"),
    ({"detail": {"video_generation_error": {"message": "policy"}}}, "policy"),
    ({"error": "", "fail_reason": None, "detail": {"error": "policy"}}, "policy"),
    ({}, "the relay gave no reason"),
    ({"detail": "text"}, "the relay gave no reason"),
]


@pytest.mark.parametrize(("places", "reason"), REASONS)
def test_each_place_of_a_reason(places, reason):
    assert query({"id": "x", "status": "failed", **places}).error == reason


@pytest.mark.parametrize(("places", "reason"), REASONS)
@pytest.mark.parametrize("status", ["completed", "processing"])
def test_a_left_over_reason_decides_nothing(places, reason, status):
    video = query({"id": "x", "status": status, "video_url": "https://x/y.mp4", **places})
    assert (video.state, video.error) == ("succeeded" if status == "completed" else "running", None)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1750323167003, "2025-06-19T08:52:47.003000+00:00"),
        (1750323167, "2025-06-19T08:52:47+00:00"),
        ("1750323167", "2025-06-19T08:52:47+00:00"),
        (1750323167.5, "2025-06-19T08:52:47.500000+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        (None, None),
        ("soon", None),
        (True, None),
        (10**300, None),
        ({}, None),
    ],
)
def test_both_units_of_the_time(value, moment):
    assert query({"status": "completed", "status_update_time": value}).to_dict()["updated_at"] == moment


def test_the_dict_is_json():
    video = query({"id": "x", "status": "completed", "video_url": "https://x/y", "status_update_time": 1750323167})
    assert json.loads(json.dumps(video.to_dict())) == {
        "id": "asked:1",
        "model": "asked",
        "state": "succeeded",
        "status": "completed",
        "video_url": "https://x/y",
        "enhanced_prompt": None,
        "error": None,
        "updated_at": "2025-06-19T08:52:47+00:00",
    }


# --- query: errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "content", "kind", "transient"),
    [
        (401, envelope(), VeoAuthenticationError, False),
        (403, envelope(), VeoAuthenticationError, False),
        (404, envelope(), VeoNotFoundError, False),
        (404, b"<html>", VeoNotFoundError, False),
        (400, envelope(), VeoRequestRejectedError, False),
        (410, b"", VeoRequestRejectedError, False),
        (307, b"", VeoWrongHostError, True),
        (429, envelope(), VeoRateLimitError, True),
        (403, envelope("insufficient_user_quota"), VeoQuotaError, True),
        (408, b"", VeoUnavailableError, True),
        (500, envelope(), VeoUnavailableError, True),
        (502, b"<html>", VeoUnavailableError, True),
        (200, b"<html>", VeoResponseError, True),
        (200, b'{"status": "comp', VeoResponseError, True),
        (200, {"id": "x"}, VeoResponseError, True),
        (200, {"status": 7}, VeoResponseError, True),
        (200, envelope(), VeoRequestRejectedError, False),
        (200, flat(404), VeoNotFoundError, False),
        (200, flat(500), VeoUnavailableError, True),
    ],
)
def test_the_errors_of_a_query(status, content, kind, transient):
    error = query_error(content, status)
    assert type(error) is kind
    assert error.transient is transient
    assert error.veo_task_id == "asked:1"
    assert "asked:1" in str(error)


# --- models ----------------------------------------------------------------------------------------------------------


def test_the_models_of_a_key():
    body = json.dumps({"object": "list", "data": [{"id": "veo3"}, {"id": 7}, "x", {}]}).encode()
    assert responses.parse_models(200, {}, body) == ["veo3", "7"]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"{}", VeoAuthenticationError),
        (404, b"<html>", VeoNotFoundError),
        (200, b"<html>", VeoResponseError),
        (200, b'{"data": "x"}', VeoResponseError),
    ],
)
def test_the_models_of_no_key_and_of_no_relay(status, body, kind):
    with pytest.raises(kind):
        responses.parse_models(status, {}, body)


@pytest.mark.parametrize("given", ["veo3:1", {"id": "veo3:1"}, "{'id': 'veo3:1'}", '{"id": "veo3:1"}'])
def test_id_is_found_in_whatever_an_upstream_task_pushed(given):
    assert veo_task_id_of(given) == "veo3:1"


@pytest.mark.parametrize("given", [None, "", "None", {}, {"id": None}, ["veo3:1"], 1.5])
def test_what_holds_no_id_is_an_error_that_shows_it(given):
    with pytest.raises(VeoValidationError, match="veo_task_id: expected"):
        veo_task_id_of(given)


def test_video_comes_back_as_it_was():
    video = VideoTask("veo3:1", model="veo3", status="pending", updated_at=datetime(2026, 11, 22, tzinfo=timezone.utc))
    assert VideoTask.from_dict(video.to_dict()) == video
