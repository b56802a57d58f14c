"""What holds for answers of any shape, generated from the fields, words and codes that relays use."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_veo.protocol import VeoError, VideoTask, responses
from airflow_provider_veo.protocol.waiting import Wait

KEY = "sk-canary-0123456789abcdef"
STATUS_WORDS = """
    pending queued not_start submitted processing in_progress running generating image_uploading image_processing
    image_downloading video_generating video_generation_completed video_upsampling unknown completed complete success
    succeeded succeed done finished video_upsampling_completed failed failure fail cancelled canceled expired rejected
    video_generation_failed video_upsampling_failed error
"""
LISTED = frozenset(STATUS_WORDS.split())
FIELDS = """
    id task_id taskId request_id status state task_status data detail error code type message success fail_reason
    failReason error_message video_generation_error video_url url result_url output_url output result metadata videos
    video_urls task_result upsample_video_url status_update_time updated_at completed_at created enhanced_prompt model
    choices
"""
CODES = """
    success 200 0 None 400 401 404 408 429 500 502 503 504 insufficient_user_quota local:quota_not_enough some_code
    model_not_found upstream_load_saturated task_not_exist fail_to_fetch_task GATEWAY_TIMEOUT
"""
TEXTS = ["https://cdn.example.com/v.mp4", " `https://x/y` ", "https://", "task not found", "unsafe prompt", f"no {KEY}"]
URLS = ("http://", "https://")
IDS = ("id", "task_id", "taskId")

names_of_fields = st.sampled_from(FIELDS.split())
words = st.sampled_from([*STATUS_WORDS.split(), "pondering", "READY", "ok", "finish"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | words
    | st.sampled_from([*TEXTS, *CODES.split()])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names_of_fields | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=8,
)
objects = st.dictionaries(names_of_fields, values, max_size=6)
videos = st.builds(lambda content, word, url: {**content, "status": word, **url}, objects, words, st.sampled_from(
    [{}, {"video_url": "https://cdn.example.com/v.mp4"}, {"data": {"url": "https://x/y.mp4"}}, {"video_url": "v.mp4"}]
))  # fmt: skip
ids = st.sampled_from([{}, {"id": "veo3:1"}, {"task_id": 7}, {"data": {"taskId": "t-1"}}, {"request_id": "r-1"}])
codes = st.sampled_from(CODES.split())
refusals = st.builds(lambda code, id: {"error": {"message": "no", "code": code}, **id}, codes, ids) | st.builds(
    lambda code, id: {"code": code, "message": "no", **id}, codes, ids
)
bodies = st.binary(max_size=200) | (values | objects | videos | refusals).map(lambda value: json.dumps(value).encode())
statuses = st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504]) | st.integers(
    100, 999
)
header_values = st.text(max_size=30) | st.sampled_from(
    ["5", "Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 99 Oct 2026", "gzip"]
)
names = st.sampled_from(["Retry-After", "Date", "Location", "X-Request-Id", "Content-Encoding"])
headers = st.dictionaries(names, header_values)
moments = st.none() | st.floats(allow_nan=False, allow_infinity=False)

many = settings(max_examples=300, deadline=None)
few = settings(max_examples=100, deadline=None)


def outcome(parse, *answer, **arguments):
    """Return the video, or the error that a reader raises; anything else is raised."""
    try:
        return parse(*answer, **arguments)
    except VeoError as error:
        return error


def has_id(body):
    """Whether an answer has the id of a video, read without the tables."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False
    records = (content, content.get("data") if isinstance(content, dict) else None)
    found = [record.get(name) for record in records if isinstance(record, dict) for name in IDS]
    return any((isinstance(each, str) and each.strip()) or type(each) is int for each in found)


@many
@given(statuses, headers, bodies, moments)
def test_no_answer_makes_a_reader_raise_anything_but_a_veo_error(status, header, body, now):
    for parse, arguments in (
        (responses.parse_create, {"now": now}),
        (responses.parse_query, {"now": now, "veo_task_id": "asked:1"}),
        (responses.parse_query, {}),
        (responses.parse_models, {}),
    ):
        found = outcome(parse, status, header, body, **arguments)
        if isinstance(found, VeoError):
            assert str(found)
        elif isinstance(found, VideoTask):
            assert 200 <= status < 300
            assert VideoTask.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        if parse is responses.parse_create:
            assert isinstance(found, VeoError) or found.id


@many
@given(statuses, headers, bodies)
def test_create_that_is_safe_to_send_again_got_no_id(status, header, body):
    found = outcome(responses.parse_create, status, header, body)
    if has_id(body):
        assert isinstance(found, VideoTask) or found.final
    if not isinstance(found, VideoTask) and not found.final:
        assert not has_id(body)


@few
@given(st.lists(st.tuples(st.sampled_from([200, 200, 200, 200, 404, 503]), videos), min_size=1, max_size=5))
def test_no_video_is_ready_without_a_url_or_by_one_answer_with_an_unlisted_word(answers):
    wait, with_url = Wait("asked:1", started=0.0, timeout=1e9, poll_interval=15), 0
    for status, content in answers:
        video = outcome(responses.parse_query, status, {}, json.dumps(content).encode(), veo_task_id="asked:1")
        if isinstance(video, VeoError):
            continue
        is_listed = video.status.strip().lower().replace(" ", "_").replace("-", "_") in LISTED
        with_url = with_url + 1 if video.video_url else 0
        assert is_listed or video.state == "running"
        try:
            ready = wait.answered(video)
        except VeoError:
            return
        if ready is not None:
            assert ready.state == "succeeded"
            assert ready.video_url.lower().startswith(URLS)
            assert is_listed or with_url >= 2
            return


@few
@given(statuses, videos, st.sampled_from(["status", "error", "enhanced_prompt", "model", "message"]), st.integers(0, 3))
def test_texts_are_bounded_and_redacted(status, content, field, times):
    content[field] = f"{'long ' * 10_000 * times}{KEY}, Bearer {KEY}"
    body = json.dumps(content).encode()
    for parse in (responses.parse_create, responses.parse_query):
        found = outcome(parse, status, {"X-Request-Id": KEY, "Location": KEY}, body, secrets=(KEY,))
        if isinstance(found, VideoTask):
            texts = [text for text in found.to_dict().values() if isinstance(text, str)]
            texts += [found.warning or "", repr(found)]
        else:
            texts = [str(found), json.dumps(found.to_dict())]
        assert KEY not in "".join(texts)
        assert max(map(len, texts)) < 100_000
        assert isinstance(found, VideoTask) or len(str(found)) < 2_500
