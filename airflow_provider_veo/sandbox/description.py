"""
What a query is told about a video: its status, its URL, its error, and the faults in them.

Written as the steps in which an answer comes about; each step knows the faults that change it and no others.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_veo.sandbox.fault_kinds import REASON_FORMS

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox.faults import Met
    from airflow_provider_veo.sandbox.settings import Settings
    from airflow_provider_veo.sandbox.video import Progress, Video

UPSAMPLED = ".upsampled"
"""What a file's name has before its extension when it is the upsampled one."""
LEFTOVER = "Video generation failed on upstream account, retrying (sandbox leftover)"
MAX_RETRIES = 3


@dataclasses.dataclass
class Told:
    """What is said about the video, before it is put into a relay's words."""

    status: str
    since: float
    finished: bool
    succeeded: bool = False
    video_url: str | None = None
    plain_url: str | None = None
    reason: tuple[str, str] | None = None
    """Why it failed, and the form in which to say so."""


def describe(video: Video, settings: Settings, met: Met, base_url: str) -> dict[str, Any]:
    """
    Return the answer to a query, as a JSON document.

    :param met: The faults that this query, or the video, meets.
    :param base_url: Where the files are, as the client knows this server, with a slash at the end.
    """
    told = _outcome(video.progress(settings.generation_seconds), met)
    if told.succeeded:
        _give_urls(told, video, met, base_url)
    _change_word(told, met)
    document = _document(video, told, settings)
    if told.reason:
        _put_reason(document, *told.reason)
    elif met.take("leftover-error"):
        for form in REASON_FORMS.keys() - {"error-object"}:  # `error` can't be a string and an object at once
            _put_reason(document, LEFTOVER, form)
    return _shaped(document, settings)


def _outcome(progress: Progress, met: Met) -> Told:
    told = Told(progress.status, progress.since, progress.finished)
    if not told.finished:
        return told
    if fault := met.take("failed"):
        told.status, told.reason = "failed", fault.value
        return told
    told.succeeded = True
    if met.take("upsampling-failed"):
        told.status = "video_upsampling_failed"
    return told


def _give_urls(told: Told, video: Video, met: Met, base_url: str) -> None:
    video.finished_queries += 1
    late = met.peek("late-url")
    if late and video.finished_queries <= late.value:
        met.take("late-url")
        return
    if met.take("no-url"):
        return
    name = f"{base_url}files/{quote(video.id, safe='')}"
    told.plain_url = told.video_url = f"{name}.mp4"
    if told.status == "video_upsampling_completed":
        told.video_url = f"{name}{UPSAMPLED}.mp4"


def _change_word(told: Told, met: Met) -> None:
    if fault := met.take("unknown-status"):
        told.status, told.video_url, told.plain_url = fault.value, None, None
    if fault := met.take("status-word"):
        told.status = fault.value
    if met.take("upper-case"):
        told.status = told.status.upper()


def _document(video: Video, told: Told, settings: Settings) -> dict[str, Any]:
    order = video.order
    document: dict[str, Any] = {
        "id": video.other_id if settings.other_id else _as_told(video.id, settings),
        "status": told.status,
        settings.url_field: told.video_url,
        "enhanced_prompt": enhanced(order.prompt) if order.enhance_prompt else None,
        "status_update_time": timestamp(told.since, settings),
        "detail": {
            "model": order.model,
            "status": told.status,
            "running": not told.finished,
            "aspect_ratio": order.aspect_ratio,
            "created_at": timestamp(video.accepted_at, settings),
            "completed_at": timestamp(told.since, settings) if told.finished else None,
            "retry_count": 0,
            "max_retries": MAX_RETRIES,
            "video_url": told.plain_url,
        },
    }
    if not order.enhance_prompt:
        del document["enhanced_prompt"]
    return document


def _put_reason(document: dict[str, Any], reason: str, form: str) -> None:
    *parents, field = REASON_FORMS[form]
    for parent in parents:
        document = document.setdefault(parent, {})
    document[field] = reason
    if form == "error-object":
        document["code"] = "generation_failed"


def _shaped(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    if not settings.wrapped:
        return document
    return {"status": "SUCCESS", "data": {"error": None} | document}


def _as_told(video_id: str, settings: Settings) -> str | int:
    return int(video_id) if settings.numeric_ids and video_id.isdigit() else video_id


def created(video: Video, settings: Settings) -> dict[str, Any]:
    """Return the answer to a create, in the one of the seed's two shapes that is set."""
    identity = {settings.id_field: _as_told(video.id, settings)}
    if settings.response_shape == "status":
        return identity | {"status": "pending", "status_update_time": timestamp(video.accepted_at, settings)}
    message = {"role": "assistant", "content": "The video is being generated."}
    return identity | {
        "object": "chat.completion",
        "created": int(video.accepted_at),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def timestamp(moment: float, settings: Settings) -> int:
    """Return an epoch time in the unit that is set."""
    return int(moment) if settings.time_unit == "s" else int(moment * 1000)


def enhanced(prompt: str) -> str:
    """Return what `enhance_prompt` makes of a prompt. No translator is at hand, so it says what it would do."""
    return f"A cinematic, photorealistic video, soft natural light, slow camera move: {prompt}"
