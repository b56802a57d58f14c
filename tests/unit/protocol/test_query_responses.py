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
    "image_processing image_downloading video_generating video_generation_completed video_upsampling unknown "
    "video_upsampling_completed",
    "succeeded": "completed complete success succeeded succeed done finished",
    "failed": "failed failure fail cancelled canceled expired rejected video_generation_failed video_upsampling_failed",
}
WORDS = [(word, state) for state, words in STATUS_WORDS.items() for word in words.split()]
PLACES_OF_A_STATUS = ["", "data.", "detail.", "data.detail."]


def nested(path, value):
    """Return an object with a value at a path, such as ``data.videos[0].url``."""
    first, _, rest = path.partition(".")
    name, is_list, _ = first.partition("[0]")
    value = nested(rest, value) if rest else value
    return {name: [value] if is_list else value}


@pytest.mark.parametrize(("word", "state"), WORDS)
@pytest.mark.parametrize("case", [str.lower, str.upper, str.title, "  {}\n".format])
def test_status_word_is_read_in_any_letter_case(word, state, case):
    video = query({"id": "x", "status": case(word)})
    assert (video.state, video.status, video.warning) == (state, case(word), None)


@pytest.mark.parametrize("place", PLACES_OF_A_STATUS)
@pytest.mark.parametrize("name", ["status", "state", "task_status"])
def test_status_is_read_under_each_name_in_each_place(name, place):
    assert query(nested(place + name, "completed")).state == "succeeded"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"status": "SUCCESS", "data": {"status": "queued"}}, "queued"),
        ({"status": "SUCCESS", "data": {"task_status": "queued"}}, "queued"),
        ({"status": "SUCCESS", "data": {"detail": {"status": "queued"}}}, "queued"),
        ({"status": "SUCCESS", "data": {"id": "x"}}, "SUCCESS"),
        ({"status": "SUCCESS", "data": {"status": ""}}, "SUCCESS"),
        ({"status": "SUCCESS", "data": {"status": 200}}, "SUCCESS"),
        ({"status": "completed", "detail": {"status": "video_upsampling"}}, "completed"),
        ({"status": "queued", "state": "completed", "task_status": "failed"}, "queued"),
    ],
)
def test_wrapper_status_counts_only_if_the_inner_object_has_none(content, status):
    assert query(content).status == status


def test_a_status_no_one_listed_means_running_with_a_warning():
    video = query({"id": "x", "status": "pondering"})
    assert video.state == "running"
    assert "'pondering' is unknown" in video.warning


def test_the_id_that_was_asked_for_is_the_id():
    assert query({"id": "another", "status": "completed", "video_url": "https://x/y.mp4"}).id == "asked:1"


PATHS_OF_A_URL = [
    *("video_url", "url", "result_url", "output_url", "output", "output.video_url", "output.url", "result.video_url"),
    *("result.url", "metadata.url", "videos[0]", "videos[0].url", "video_urls[0]", "task_result.videos[0].url"),
    *("detail.upsample_video_url", "detail.video_url", "detail.url"),
]


@pytest.mark.parametrize("path", PATHS_OF_A_URL)
@pytest.mark.parametrize("wrapper", ["", "data.", "data.data."])
@pytest.mark.parametrize("form", ["{}", "`{}`", " {}\n", "` {} `"])
def test_url_is_found_at_each_path(path, wrapper, form):
    content = {"id": "x", "status": "completed"} | nested(wrapper + path, form.format("https://x/y.mp4"))
    assert query(content).video_url == "https://x/y.mp4"


@pytest.mark.parametrize("wrapper", ["", "data.", "data.data."])
def test_url_is_read_from_the_fail_reason_of_a_success_only(wrapper):
    place = nested(f"{wrapper}fail_reason", "https://x/y.mp4")
    assert query({"status": "SUCCESS"} | place).video_url == "https://x/y.mp4"
    assert query({"status": "IN_PROGRESS"} | place).video_url is None
    assert query({"status": "SUCCESS", "video_url": "https://x/z.mp4"} | place).video_url == "https://x/z.mp4"


def test_first_usable_url_is_taken():
    content = {"video_url": "", "url": "v.mp4", "output": {"url": "https://x/1"}, "videos": ["https://x/2"]}
    assert query({"status": "completed"} | content).video_url == "https://x/1"


@pytest.mark.parametrize(
    "url", [None, "", 7, "ftp://x/y", "x.mp4", [], "https://", "https:///y", "see https://x/y", {}]
)
def test_what_is_no_url(url):
    assert query({"status": "completed", "video_url": url}).video_url is None


def test_a_wrapped_answer():
    video = query({"status": "SUCCESS", "data": {"id": "x", "status": "failed", "video_url": None, "error": "no"}})
    assert (video.state, video.status, video.error) == ("failed", "failed", "no")


@pytest.mark.parametrize("more", [{"status": "video_generating"}, {"status": "completed"}, {"running": True}])
def test_generation_error_left_over_from_a_retry_does_not_end_the_wait(more):
    detail = {"video_generation_error": "unsafe prompt", **more}
    for content in ({"status": "error", "detail": detail}, {"data": {"status": "error", "detail": detail}}):
        assert query_error({**content, "error": "relay is busy"}).transient


def test_generation_error_beside_the_status_error_is_a_failed_video():
    video = query({"status": "error", "detail": {"video_generation_error": "rejected by google"}})
    assert (video.state, video.error) == ("failed", "rejected by google")


@pytest.mark.parametrize("word", ["video_upsampling_completed", "pondering"])
def test_unclear_status_with_a_url_may_mean_ready(word):
    assert query({"status": word, "video_url": "https://x/y"}).may_be_ready
    assert not query({"status": word}).may_be_ready


@pytest.mark.parametrize("word", ["pending", "video_upsampling", "unknown", "completed", "failed"])
def test_any_other_status_is_clear(word):
    video = query({"status": word, "video_url": "https://x/y"})
    assert not video.may_be_ready
    assert video.state == dict(WORDS)[word]


def test_secret_that_is_part_of_a_status_leaves_it_clear():
    video = query({"status": "video_generating", "video_url": "https://x/y"}, secrets=("video_gen",))
    assert (video.status, video.state, video.may_be_ready, video.warning) == ("***erating", "running", False, None)


def test_the_upsampled_file_is_the_top_level_one():
    video = query(
        {
            "status": "completed",
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
    ({"failReason": "policy"}, "policy"),
    ({"error_message": "policy"}, "policy"),
    ({"message": "policy"}, "policy"),
    ({"data": {"fail_reason": "policy"}, "message": "success"}, "policy"),
    ({"data": {"detail": {"message": "policy"}}}, "policy"),
    ({"code": "success", "message": "success"}, "the relay gave no reason"),
    (
        {"error": "failed", "detail": {"error": "busy", "video_generation_error": "unsafe prompt"}},
        "failed; unsafe prompt",
    ),
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
        (400, envelope("task_not_exist"), VeoNotFoundError, False),
        (400, flat("task_not_exist"), VeoNotFoundError, False),
        (200, flat("task_not_exist"), VeoNotFoundError, False),
        (200, {"status": "error", "message": "Task not found"}, VeoNotFoundError, False),
        (200, {"status": "error", "error": {"code": "task_not_exist"}}, VeoNotFoundError, False),
        (200, {"status": "error", "code": 404, "message": "unknown id"}, VeoNotFoundError, False),
        (200, {"status": "error", "message": "任务不存在"}, VeoNotFoundError, False),
        (200, {"data": {"status": "ERROR", "error": "not found"}}, VeoNotFoundError, False),
        (200, {"status": "error", "message": "channel not found"}, VeoUnavailableError, True),
        (200, {"status": "error", "message": "wrong account", "code": "x"}, VeoUnavailableError, True),
        (200, {"status": "error", "code": "quota_not_enough"}, VeoQuotaError, True),
        (200, {"status": "error"}, VeoUnavailableError, True),
        (200, {"status": "error", "error": {"message": "busy"}}, VeoUnavailableError, True),
        (200, {"status": "error", "detail": {"error_message": "[403] left over"}}, VeoUnavailableError, True),
        # The relay has not reached its own relay. A channel that is missing is not a missing video, either.
        (400, flat("fail_to_fetch_task"), VeoUnavailableError, True),
        (404, flat("fail_to_fetch_task"), VeoUnavailableError, True),
        (404, envelope("model_not_found"), VeoUnavailableError, True),
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
