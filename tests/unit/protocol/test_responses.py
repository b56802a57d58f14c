"""Every row of the tables of a create, from bytes to a video or to the right error."""

import json
from datetime import datetime, timezone

import pytest

from airflow_provider_veo import protocol
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoQuotaError,
    VeoRateLimitError,
    VeoRequestRejectedError,
    VeoUnavailableError,
    VeoWrongHostError,
    VideoTask,
    responses,
)
from tests.unit.protocol.answers import KEY, SEED_ID, create, create_error, envelope, flat

# --- create: accepted ------------------------------------------------------------------------------------------------


def test_the_seeds_example():
    video = create({"id": SEED_ID, "status": "pending", "status_update_time": 1762241017286})
    assert video == VideoTask(
        id=SEED_ID,
        model="veo3.1-components",
        state="running",
        status="pending",
        updated_at=datetime(2025, 11, 4, 7, 23, 37, 286000, tzinfo=timezone.utc),
    )


def test_the_seeds_table():
    video = create(
        {
            "id": "chat-1",
            "object": "chat.completion",
            "created": 1762241017,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }
    )
    assert (video.id, video.state, video.status) == ("chat-1", "running", None)


@pytest.mark.parametrize(
    ("content", "veo_task_id"),
    [
        ({"task_id": "t-1"}, "t-1"),
        ({"id": 12345678901234567890}, "12345678901234567890"),
        ({"id": 0}, "0"),
        ({"id": "", "task_id": "t-2"}, "t-2"),
        ({"id": " kept to the letter "}, " kept to the letter "),
        ({"status": "SUCCESS", "data": {"id": "t-3", "status": "pending"}}, "t-3"),
        ({"code": "success", "message": "", "data": {"task_id": "t-4"}}, "t-4"),
        ({"code": "success", "message": "", "data": {"id": 4711, "task_id": "t-6"}}, "t-6"),
        ({"id": "t-7", "task_id": "t-8"}, "t-7"),
        ({"id": 0, "task_id": "t-19"}, "t-19"),
        ({"id": 4711, "task_id": "t-20"}, "t-20"),
        ({"id": 0, "code": "success", "data": {"task_id": "t-21"}}, "t-21"),
        ({"id": -1, "data": {"id": "t-22"}}, "t-22"),
        ({"request_id": "of the request", "output": {"task_id": "t-23", "task_status": "PENDING"}}, "t-23"),
        ({"code": 200, "data": [{"status": "submitted", "task_id": "t-24"}], "request_id": "r"}, "t-24"),
        ({"code": "success", "data": "task_abc"}, "task_abc"),
        ({"taskId": "t-9"}, "t-9"),
        ({"request_id": "t-10"}, "t-10"),
        ({"request_id": "of the request", "data": {"task_id": "t-11"}}, "t-11"),
        ({"code": 0, "request_id": "of the request", "data": {"id": 12}}, "12"),
        ({"success": True, "data": {"taskId": "t-13", "status": "processing"}}, "t-13"),
        ({"data": {"request_id": "t-14"}}, "t-14"),
        ({"code": "success", "message": "", "data": "t-15"}, "t-15"),
        ({"code": "success", "message": "", "data": 4711}, "4711"),
        ({"code": 200, "message": "success", "data": {"id": "t-16"}}, "t-16"),
        ({"id": "t-17", "status": "error", "error": {"message": "busy", "code": "model_not_found"}}, "t-17"),
        ({"code": "model_not_found", "message": "x", "data": {"task_id": "t-18"}}, "t-18"),
        ({"id": "t-5", "error": {"message": "left over", "code": "insufficient_user_quota"}}, "t-5"),
    ],
)
def test_a_2xx_with_an_id_is_accepted(content, veo_task_id):
    assert create(content).id == veo_task_id
    assert create(content, status=201).id == veo_task_id


def test_an_enhanced_prompt_of_the_answer_is_kept():
    assert create({"id": "a", "enhanced_prompt": "A cow flies"}).enhanced_prompt == "A cow flies"


# --- create: the error table -----------------------------------------------------------------------------------------

QUOTA_CODES = [
    "insufficient_user_quota",
    "insufficient_quota",
    "pre_consume_token_quota_failed",
    "quota_not_enough",
    "quota_exceeded",
    "insufficient_balance",
]


def _saying(code):
    yield from (envelope(code), envelope(None, kind=code), flat(code), envelope(code.upper()), flat(f"local:{code}"))
    # A relay's own relay has said it.
    for message in (json.dumps(envelope(code)), f"bad response: {json.dumps(flat(code))} (request id: 7)"):
        yield {"error": {"message": message, "type": "new_api_error", "code": "bad_response"}}


@pytest.mark.parametrize("code", QUOTA_CODES)
@pytest.mark.parametrize("status", [200, 400, 401, 402, 403, 429, 500, 503])
def test_out_of_money_under_any_status(status, code):
    for content in _saying(code):
        error = create_error(content, status)
        assert type(error) is VeoQuotaError
        assert error.final


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (200, envelope(), VeoRequestRejectedError),
        (200, flat(), VeoRequestRejectedError),
        (200, flat(429), VeoRateLimitError),
        (200, envelope("401"), VeoAuthenticationError),
        (200, envelope(500), VeoUnavailableError),
        (200, envelope("model_not_found"), VeoUnavailableError),
        (200, envelope(408), VeoAmbiguousSubmitError),
        *[(status, envelope(), VeoRequestRejectedError) for status in (400, 404, 405, 413, 415, 422)],
        *[(status, content, VeoRequestRejectedError) for status in (400, 413, 415, 422) for content in (
            b"<html>", b"")],
        # Not from the relay's application: not accepted, and no fault of this request.
        *[(status, content, VeoWrongHostError) for status in (404, 405) for content in (
            b"<html>", b"", {"message": "no Route matched"}, {"status": 404})],
        *[(status, content, VeoAuthenticationError) for status in (401, 403) for content in (envelope(), b"<html>")],
        (402, b"", VeoQuotaError),
        (429, envelope(), VeoRateLimitError),
        (429, b"<html>", VeoRateLimitError),
        *[(status, content, VeoUnavailableError) for status in (500, 502, 503, 504, 524) for content in (
            envelope(), envelope("model_not_found"), flat(), envelope(14), {"error": {"message": "busy"}})],
        # A gateway's own JSON: it doesn't know what became of the request.
        *[(status, content, VeoAmbiguousSubmitError) for status in (502, 503, 504) for content in (
            {"code": status, "message": "Gateway Timeout"}, {"code": str(status), "message": "x", "data": None},
            {"error": {"code": status, "message": "The request timed out"}}, {"error": {"code": str(status)}})],
        *[(500, content, VeoAmbiguousSubmitError) for content in (flat(500), flat(14))],
        *[(status, {"error": {"message": "x", "type": missing, "param": missing, "code": str(status)}},
           VeoAmbiguousSubmitError) for status in (502, 503, 504) for missing in ("None", None, "")],
        *[(status, content, VeoAmbiguousSubmitError) for status, word in (
            (502, "BAD_GATEWAY"), (503, "ServiceUnavailable"), (504, "GatewayTimeout"),
            (504, "FST_REPLY_FROM_GATEWAY_TIMEOUT")) for content in (flat(word), {"error": {"code": word}})],
        (504, {"error": {"message": "x", "type": "new_api_error", "code": "504"}}, VeoUnavailableError),
        (404, {"status": "error", "code": 404, "message": "Application not found"}, VeoWrongHostError),
        (502, {"status": "error", "code": 502, "message": "Application failed to respond"}, VeoAmbiguousSubmitError),
        *[(status, content, VeoUnavailableError) for status in (200, 400, 403, 404, 429, 500) for content in (
            envelope("upstream_load_saturated"), envelope("get_channel_failed"), flat("local:no_available_channel"))],
        *[(status, content, VeoAmbiguousSubmitError) for status in (500, 502, 503, 504, 524, 408) for content in (
            b"<html>Bad Gateway</html>", b"", {"message": "Internal server error"}, {"error": "Bad Gateway"},
            {"status": 500}, [1], b'{"error": {"message": "cut o')],
        (408, envelope(), VeoAmbiguousSubmitError),
        (200, b"", VeoAmbiguousSubmitError),
        (204, b"", VeoAmbiguousSubmitError),
        (200, b'{"id": "veo3:1-x", "sta', VeoAmbiguousSubmitError),
        (200, b"<html>OK</html>", VeoAmbiguousSubmitError),
        (200, b"\xff\xfe\x00", VeoAmbiguousSubmitError),
        (200, b"[" * 100_000, VeoAmbiguousSubmitError),
        (200, b"1" * 10_000, VeoAmbiguousSubmitError),
        (200, {"id": None}, VeoAmbiguousSubmitError),
        (200, {"id": True}, VeoAmbiguousSubmitError),
        (200, {"status": "pending"}, VeoAmbiguousSubmitError),
        (200, {"code": "success", "message": "", "data": None}, VeoAmbiguousSubmitError),
        (200, {"error": None}, VeoAmbiguousSubmitError),
        (200, {"error": {}}, VeoAmbiguousSubmitError),
        (200, {"status": "error"}, VeoAmbiguousSubmitError),
        (200, {"status": "error", "error": "bad model"}, VeoRequestRejectedError),
        (200, {"status": "error", "message": "bad model"}, VeoRequestRejectedError),
        (200, {"status": "ERROR", "data": {"error": "bad model"}}, VeoRequestRejectedError),
        (200, {"status": "error", "error": "x", "code": "insufficient_balance"}, VeoQuotaError),
        (200, {"status": "failed", "error": "bad model"}, VeoAmbiguousSubmitError),
        # What is an id elsewhere is not one in an error.
        (200, {"request_id": "r", **flat()}, VeoRequestRejectedError),
        (200, {"request_id": "r", **envelope("quota_not_enough")}, VeoQuotaError),
        (200, {"request_id": "r", "status": "error", "message": "no"}, VeoRequestRejectedError),
        (200, {"request_id": "r", "success": False}, VeoAmbiguousSubmitError),
        # The id of the request is not that of the video, if something else may be.
        *[(200, {"request_id": "r", **content}, VeoAmbiguousSubmitError) for content in (
            {"result": {"task_id": "t-1"}}, {"task": {"id": "t-1"}}, {"video_id": "t-1"}, {"jobId": "t-1"},
            {"data": {"video_id": "t-1", "request_id": "r"}}, {"data": {"data": {"task_id": "t-1"}}}, {"results": []})],
        *[(200, {"code": 0, "message": "ok", "data": data}, VeoAmbiguousSubmitError) for data in (
            "accepted", "in_progress", "video_generating")],
        # A code that only repeats the status, or says that time ran out, does not come from who knows the outcome.
        *[(500, {"error": {"message": "x", "type": kind, "code": "500"}}, VeoAmbiguousSubmitError) for kind in (
            None, "None", "internal_server_error")],
        (500, {"error": {"code": 500, "message": "Internal error", "status": "INTERNAL"}}, VeoAmbiguousSubmitError),
        (524, {"error": {"code": 524, "message": "A timeout occurred"}}, VeoAmbiguousSubmitError),
        *[(504, content, VeoAmbiguousSubmitError) for word in ("FUNCTION_INVOCATION_TIMEOUT", "IDLE_TIMEOUT")
          for content in (flat(word), {"error": {"code": word}})],
        *[(200, flat(code), VeoAmbiguousSubmitError) for code in (500, 502, 504, "504")],
        (200, {"request_id": "r", "error": "no"}, VeoAmbiguousSubmitError),
        (200, {"code": "invalid", "message": "no", "data": "prompt"}, VeoAmbiguousSubmitError),
        *[(200, {"code": "success", "data": data}, VeoAmbiguousSubmitError) for data in (
            "", "success", "two words", "https://x/y.mp4", True, [], ["t-1"])],
        # The code counts outside of an envelope, too.
        *[(status, {"error": "quota_not_enough", "message": "x"}, VeoQuotaError) for status in (200, 403, 429, 500)],
        (400, {"code": "local:insufficient_user_quota"}, VeoQuotaError),
        (429, {"error": {"message": "saturated, try later", "type": "insufficient_quota", "code": "x"}}, VeoQuotaError),
        # An id after all: it may have been accepted, so it is not sent again.
        *[(status, {"id": "t-1", **envelope()}, VeoAmbiguousSubmitError) for status in (429, 500, 503)],
        *[(status, {"data": {"task_id": "t-1"}}, VeoAmbiguousSubmitError) for status in (303, 404, 429, 503)],
        *[(status, {"id": "t-1", "status": "pending"}, VeoAmbiguousSubmitError) for status in (400, 401, 402, 422)],
        (400, {"id": "t-1", **envelope()}, VeoAmbiguousSubmitError),
        (401, {"id": "t-1", **envelope("invalid_api_key")}, VeoAmbiguousSubmitError),
        *[(500, content, VeoAmbiguousSubmitError) for content in (
            {"error": {"message": "x", "type": "new_api_error", "task_id": "t-1"}},
            {**envelope(), "video": {"id": "t-1"}},
            {**envelope(), "video_id": "t-1"}, {**envelope(), "data": [{"task_id": "t-1"}]},
            {**envelope(), "output": {"task_id": "t-1"}})],
        *[(status, {"code": "fail_to_fetch_task", "message": '{"id": "t-1", "status": "queued"}', "data": None},
           VeoAmbiguousSubmitError) for status in (201, 400, 500)],
        (400, {"id": "", "task_id": None, **envelope()}, VeoRequestRejectedError),
        (400, {"id": 0, **envelope()}, VeoRequestRejectedError),
        (301, {"id": 0}, VeoAmbiguousSubmitError),
        *[(500, {"id": number, **envelope()}, VeoAmbiguousSubmitError) for number in (0, -1)],
        (503, {"id": "t-1", **envelope("model_not_found")}, VeoAmbiguousSubmitError),
        (200, b'{"id": "x", "pad": "' + b"x" * 1024 * 1024 + b'"}', VeoAmbiguousSubmitError),
        *[(status, b"", VeoWrongHostError) for status in (301, 302, 303, 307, 308)],
        (409, envelope(), VeoRequestRejectedError),
        (499, b"", VeoAmbiguousSubmitError),
        (600, b"", VeoAmbiguousSubmitError),
    ],
)  # fmt: skip
def test_the_error_table_of_a_create(status, content, kind):
    error = create_error(content, status)
    assert type(error) is kind
    assert error.status_code == status
    assert "create a video" in str(error)
    assert f"HTTP {status}" in str(error)


def test_only_what_is_certainly_not_accepted_is_safe_to_send_again():
    finals = {name for name in protocol.__all__ if getattr(getattr(protocol, name), "final", False)}
    assert "VeoAmbiguousSubmitError" in finals
    assert {"VeoUnavailableError", "VeoRateLimitError", "VeoGenerationFailedError"}.isdisjoint(finals)


def test_a_redirect_says_where_it_leads_and_that_it_is_not_followed():
    error = create_error(b"", 307, {"Location": "https://elsewhere.example/v1"})
    assert "https://elsewhere.example/v1" in str(error)
    assert "never followed" in str(error)


def test_refusal_that_has_an_id_names_it():
    text = str(create_error({"id": "veo3:1-x", **envelope()}, 503))
    assert "It has the id 'veo3:1-x'." in text
    assert KEY not in str(create_error({"id": KEY, **envelope()}, 503, secrets=(KEY,)))


def test_an_ambiguous_answer_says_what_to_do():
    text = str(create_error(b"<html>", 502))
    assert "may be generated and billed" in text
    assert "existing_veo_task_id" in text


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "now", "seconds"),
    [
        ({"Retry-After": "7"}, None, 7.0),
        ({"Retry-After": "1e9"}, None, 86_400.0),
        ({"Retry-After": "Wed, 21 Oct 2099 07:28:30 GMT"}, 1792567700.0, 86_400.0),
        ({"retry-after": " 1.5 "}, None, 1.5),
        ({"RETRY-AFTER": "-3"}, None, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, 1792567700.0, 10.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, 1792567800.0, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, None, None),
        ({"Retry-After": "soon"}, 0.0, None),
        ({"Retry-After": "nan"}, 0.0, None),
        ({"Retry-After": "inf"}, 0.0, None),
        ({}, 0.0, None),
        (None, 0.0, None),
    ],
)
def test_retry_after(headers, now, seconds):
    assert create_error(envelope(), 429, headers, now=now).retry_after == seconds


def test_the_request_id_is_found_in_the_message_or_in_a_header():
    assert create_error(envelope(), 400).request_id == "2026X"
    assert create_error(b"", 400, {"X-Oneapi-Request-Id": "abc"}).request_id == "abc"
    assert "request id abc" in str(create_error(b"", 400, {"X-Request-Id": "abc"}))


def test_the_code_is_told():
    assert create_error(envelope("bad_thing"), 400).code == "bad_thing"
    assert create_error(envelope("", kind="kind_only"), 400).code == "kind_only"
    assert create_error(b"", 400).code is None


# --- what errors may say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        f"<html>{KEY}</html>".encode(),
        json.dumps(envelope(message=f"Invalid token {KEY}")).encode(),
        json.dumps(envelope(code=KEY)).encode(),
        json.dumps({"authorization": f"Bearer {KEY}"}).encode(),
        json.dumps({"x": KEY}).replace("sk-", "\\u0073k-").encode(),
        b"x" * 490 + KEY.encode(),
    ],
)
@pytest.mark.parametrize("secrets", [(KEY,), ()])
def test_an_error_never_holds_the_key(body, secrets):
    error = create_error(body, 400, {"Location": KEY}, secrets=secrets)
    assert KEY[:12] not in str(error) + repr(error) + repr(vars(error))


def test_a_key_that_looks_like_none_is_removed_where_it_is_known():
    assert "hunter2" not in str(create_error(b"your key is hunter2!", 400, secrets=("hunter2",)))


@pytest.mark.parametrize("body", [b"y" * 10_000, json.dumps(envelope(message="y" * 10_000)).encode(), b"\x00y" * 9000])
def test_an_error_repeats_at_most_500_characters_of_the_answer(body):
    text = str(create_error(body, 400))
    assert text.count("y") <= 520
    assert "\x00" not in text


def test_an_error_survives_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(create_error(envelope(), 429, {"Retry-After": "7"})))
    assert (error.status_code, error.code, error.retry_after) == (429, "some_code", 7.0)
    invalid = pickle.loads(pickle.dumps(protocol.VeoValidationError("title", ["a", "b"])))
    assert invalid.mistakes == ("a", "b")
    assert str(invalid) == "title\n  - a\n  - b"


def test_secret_that_is_part_of_a_code_does_not_change_what_the_code_means():
    body = json.dumps({"error": {"code": "insufficient_user_quota", "message": "no money"}}).encode()
    with pytest.raises(VeoQuotaError) as raised:
        responses.parse_create(500, {}, body, secrets=("quota",))
    assert "quota" not in str(raised.value.code)


LOST = (
    "read_response_body_failed",
    "unmarshal_response_body_failed",
    "copy_response_body_failed",
    "bad_response_body",
    "insert_task_failed",
)


@pytest.mark.parametrize("status", [200, 400, 500, 502, 503])
@pytest.mark.parametrize("code", LOST)
def test_a_relay_that_lost_the_answer_of_its_own_relay_leaves_the_outcome_unknown(status, code):
    for content in _saying(code):
        assert type(create_error(content, status)) is VeoAmbiguousSubmitError


def litellm(status, message, kind="internal_server_error"):
    """What LiteLLM's proxy wrote (recorded with 1.108) when its relay answered with an error, or not at all."""
    return {"error": {"message": f"litellm.X: OpenAIException - {message}", "type": kind, "code": str(status)}}


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (500, litellm(500, "Internal Server Error"), VeoAmbiguousSubmitError),  # the connection was closed
        (502, litellm(502, "<html>bad gateway</html>"), VeoAmbiguousSubmitError),
        (504, litellm(504, ""), VeoAmbiguousSubmitError),
        (408, litellm(408, "Connection timed out", "invalid_request_error"), VeoAmbiguousSubmitError),
        (503, litellm(503, json.dumps(envelope("model_not_found"))), VeoUnavailableError),
        (429, litellm(429, json.dumps(envelope("rate_limit_exceeded")), "throttling_error"), VeoRateLimitError),
        (401, litellm(401, json.dumps(envelope("invalid_api_key")), "authentication_error"), VeoAuthenticationError),
        (
            400,
            {"error": {"message": "No connected db.", "type": "no_db_connection", "code": "400"}},
            VeoAuthenticationError,
        ),
        (400, litellm(400, "Invalid model name", "invalid_request_error"), VeoRequestRejectedError),
        (500, envelope("internal_server_error"), VeoUnavailableError),  # not LiteLLM's: the code is a word
    ],
)
def test_the_errors_of_litellm(status, content, kind):
    assert type(create_error(content, status)) is kind


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateways_answer_that_a_relay_passed_on_leaves_the_outcome_unknown(status):
    assert type(create_error(flat("fail_to_fetch_task"), status)) is VeoAmbiguousSubmitError
