"""Answers that repeat the key, or hold what no database keeps: redacted and cleaned where they are parsed."""

from __future__ import annotations

import json

import pytest

from airflow_provider_veo.protocol import VeoAmbiguousSubmitError, VeoError, VideoTask, responses

KEY = 'sk-canary-0123456789/abc"def'
FORMS = {
    "plain": KEY,
    "escaped in JSON": json.dumps(KEY)[1:-1],
    "as code points": "".join(f"\\u{ord(character):04x}" for character in KEY),
    "as code points in capitals": "".join(f"\\u{ord(character):04X}" for character in KEY),
    "percent-encoded": "".join(f"%{ord(character):02x}" for character in KEY),
}
TEXTS = ("error", "enhanced_prompt", "status", "model")


def queried(**fields: object) -> VideoTask:
    body = json.dumps({"id": "x", "status": "failed", **fields}).encode()
    return responses.parse_query(200, {}, body, veo_task_id="veo3:1", secrets=(KEY,))


def created(veo_task_id: str) -> VideoTask:
    body = json.dumps({"id": veo_task_id, "status": "pending"}).encode()
    return responses.parse_create(200, {}, body, secrets=(KEY,))


def leaks(said: object) -> bool:
    text = said if isinstance(said, str) else json.dumps(said)
    return any(form in text or json.dumps(form)[1:-1] in text for form in FORMS.values())


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_an_answer_repeats_is_redacted(field, form):
    video = queried(**{field: f"not with {FORMS[form]}, no"})
    assert not leaks(video.to_dict())
    assert not leaks(repr(video))
    assert not leaks(video.warning or "")


@pytest.mark.parametrize("form", FORMS)
def test_a_key_in_an_error_is_redacted(form):
    body = json.dumps({"error": {"message": f"no {FORMS[form]} (request id: {KEY})", "code": f"bad_{FORMS[form]}"}})
    with pytest.raises(VeoError) as raised:
        responses.parse_create(400, {"X-Request-Id": FORMS[form]}, body.encode(), secrets=(KEY,))
    assert not leaks(str(raised.value))
    assert not leaks(raised.value.to_dict())


@pytest.mark.parametrize("form", ["plain", "percent-encoded"])
def test_a_url_with_the_key_is_left_out_and_said_to_be(form):
    video = queried(status="completed", video_url=f"https://example.com/v.mp4?key={FORMS[form]}")
    assert video.video_url is None
    assert "URL was ignored" in (video.warning or "")
    assert not leaks(video.warning or "")


@pytest.mark.parametrize(
    "veo_task_id", [f"veo3:{KEY}", "veo3:\ud800", "veo3:\0", "veo3:a\nb", "v" * 1025], ids=lambda each: ascii(each)[:20]
)
def test_an_id_that_cannot_be_kept_leaves_the_create_unknown(veo_task_id):
    with pytest.raises(VeoAmbiguousSubmitError) as raised:
        created(veo_task_id)
    assert not leaks(str(raised.value))


@pytest.mark.parametrize("veo_task_id", ["veo3.1-components:1762241017-xTL0P9HvGF", "v" * 1000, "视频-1"])
def test_any_other_id_is_kept_to_the_letter(veo_task_id):
    assert created(veo_task_id).id == veo_task_id


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("odd", ["half \ud800 of one", "a NUL\0", "bell \x07", "long " * 20_000], ids=ascii)
def test_what_no_database_keeps_is_cleaned(field, odd):
    video = queried(**{field: odd})
    stored = json.dumps(video.to_dict(), ensure_ascii=False)
    stored.encode()
    assert "\\u0000" not in stored and "\\u0007" not in stored
    assert len(stored) < 30_000


def test_text_that_people_read_stays_as_it_is():
    text = "一头牛飞上天了 🐄\n\twith a second line"
    assert queried(status="completed", enhanced_prompt=text).enhanced_prompt == text


def test_a_short_secret_blanks_no_text():
    body = json.dumps({"id": "x", "status": "completed", "enhanced_prompt": "a banana"}).encode()
    video = responses.parse_query(200, {}, body, veo_task_id="veo3:1", secrets=("a", "an"))
    assert video.enhanced_prompt == "a banana"
