"""
The answers to a create and to a query: a video's status, URL and error in either form, and the faults in them.

An answer is built in steps. Each step handles only the faults that change it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_veo.sandbox.contract import FIELD_TYPES, OPENAI
from airflow_provider_veo.sandbox.fault_kinds import REASON_FORMS

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox.contract import Order
    from airflow_provider_veo.sandbox.faults import MatchedFaults
    from airflow_provider_veo.sandbox.settings import Settings
    from airflow_provider_veo.sandbox.video import Video

UPSAMPLED = ".upsampled"
"""What an upsampled file's name has before its extension."""
LEFTOVER = "Video generation failed on upstream account, retrying (sandbox leftover)"
LEFTOVERS = {
    "error_message": "[403] upstream account refused the request, retrying (sandbox leftover)",
    "video_generation_error": "your request contains unsafe prompt, retrying (sandbox leftover)",
}
"""What is left in the `detail` of a succeeded video from the relay's own retries (recorded answer)."""
MAX_RETRIES = 3
EXPIRES_AFTER = 24 * 60 * 60
"""Seconds after which a gateway would delete a video. The sandbox doesn't."""


@dataclasses.dataclass
class Outcome:
    """What to report about a video, before it is formatted as JSON."""

    status: str
    since: float
    finished: bool
    share: float = 0.0
    """How much of the generation time has passed."""
    succeeded: bool = False
    video_url: str | None = None
    plain_url: str | None = None
    reason: tuple[str, str] | None = None
    """Why it failed, and the form in which to report it."""


def describe(video: Video, settings: Settings, faults: MatchedFaults, base_url: str) -> dict[str, Any]:
    """
    Return the answer to a query, as a JSON document.

    :param faults: The faults that affect this query or the video.
    :param base_url: The base URL of the files, as the client sees this server, with a trailing slash.
    """
    outcome = _outcome(video, settings, faults)
    if outcome.succeeded:
        _set_urls(outcome, video, faults, base_url)
    _change_status(outcome, faults)
    openai = video.order.api == OPENAI
    document = (_openai_document if openai else _document)(video, outcome, settings)
    own_form = "error-object" if openai else "error"
    if outcome.reason:
        reason, form = outcome.reason
        _set_reason(document, reason, own_form if form == "error" else form)
    elif faults.take("leftover-error"):
        for form in REASON_FORMS.keys() - {"error", "error-object"} | {own_form}:
            _set_reason(document, LEFTOVER, form)
    return document if openai else _wrapped(document, settings)


def _outcome(video: Video, settings: Settings, faults: MatchedFaults) -> Outcome:
    progress = video.progress(settings.generation_seconds)
    outcome = Outcome(progress.status, progress.since, progress.finished, share=progress.share)
    if not outcome.finished:
        return outcome
    if fault := faults.take("failed"):
        outcome.status, outcome.reason = "failed", fault.value
        return outcome
    outcome.succeeded = True
    if video.order.api != OPENAI and faults.take("upsampling-failed"):
        outcome.status = "video_upsampling_failed"
    return outcome


def _set_urls(outcome: Outcome, video: Video, faults: MatchedFaults, base_url: str) -> None:
    video.finished_queries += 1
    late = faults.peek("late-url")
    if late and video.finished_queries <= late.value:
        faults.take("late-url")
        return
    if faults.take("no-url"):
        return
    name = f"{base_url}files/{quote(video.id, safe='')}"
    outcome.plain_url = outcome.video_url = f"{name}.mp4"
    if video.order.enable_upsample and outcome.status == "completed":
        outcome.video_url = f"{name}{UPSAMPLED}.mp4"


def _change_status(outcome: Outcome, faults: MatchedFaults) -> None:
    if fault := faults.take("unknown-status"):
        outcome.status, outcome.video_url, outcome.plain_url = fault.value, None, None
    if fault := faults.take("status-word"):
        outcome.status = fault.value
    if faults.take("upper-case"):
        outcome.status = outcome.status.upper()
    if outcome.video_url and faults.take("quoted-url"):
        outcome.video_url = f" `{outcome.video_url}` "


def _document(video: Video, outcome: Outcome, settings: Settings) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": _queried_id(video, settings),
        settings.status_field: outcome.status,
        **_nested(settings.url_field, outcome.video_url),
        "status_update_time": timestamp(outcome.since, settings),
        "detail": _detail(video, outcome, settings),
    }
    if video.order.enhance_prompt:
        document["enhanced_prompt"] = enhanced(video.order.prompt)
    return document


def _detail(video: Video, outcome: Outcome, settings: Settings) -> dict[str, Any]:
    """Return the relay's notes on a video, as in a recorded answer."""
    detail: dict[str, Any] = {
        "id": _formatted_id(video.id, settings),
        "req": _request(video.order),
        "status": outcome.status,
        "running": not outcome.finished,
        "created_at": timestamp(video.accepted_at, settings),
        "completed_at": timestamp(outcome.since, settings) if outcome.finished else None,
        "retry_count": MAX_RETRIES if outcome.succeeded else 0,
        "max_retries": MAX_RETRIES,
        "video_url": outcome.plain_url,
    }
    if video.order.enable_upsample:
        upsampled = outcome.video_url if outcome.video_url != outcome.plain_url else None
        state = "SUCCESSFUL" if upsampled else "FAILED" if outcome.finished else "PENDING"
        detail["upsample_video_url"] = upsampled
        detail["upsample_status"] = f"MEDIA_GENERATION_STATUS_{state}"
    return detail | LEFTOVERS if outcome.succeeded else detail


def _request(order: Order) -> dict[str, Any]:
    """Return the request, as relays repeat it. Images in it are cut down to their type, since each poll repeats it."""
    images = [image.partition(",")[0] if image.startswith("data:") else image for image in order.images]
    return {name: getattr(order, name) for name in FIELD_TYPES} | {"images": images}


def _openai_document(video: Video, outcome: Outcome, settings: Settings) -> dict[str, Any]:
    """Return a video in the form of OpenAI, and with the fields that gateways add if the settings say so."""
    order = video.order
    document: dict[str, Any] = {
        "id": _queried_id(video, settings),
        "object": "video",
        "model": order.model,
        "status": outcome.status,
        "progress": int(100 * outcome.share),
        "created_at": int(video.accepted_at),
        "completed_at": int(outcome.since) if outcome.succeeded else None,
        "expires_at": int(outcome.since) + EXPIRES_AFTER if outcome.succeeded else None,
        "seconds": order.seconds,
        "size": order.size,
        "prompt": order.prompt,
        "remixed_from_video_id": None,
        "error": None,
    }
    if settings.id_field == "task_id":
        document["task_id"] = document["id"]  # new-api
    if settings.openai_url_field != "none":
        document |= _nested(settings.openai_url_field, outcome.video_url)
    return document


def _set_reason(document: dict[str, Any], reason: str, form: str) -> None:
    *parents, field = REASON_FORMS[form]
    for parent in parents:
        if not isinstance(document.get(parent), dict):
            document[parent] = {}
        document = document[parent]
    document[field] = reason
    if form == "error-object":
        document["code"] = "generation_failed"


def _nested(path: str, value: Any) -> dict[str, Any]:
    """Return a document with only the value at this path, such as `videos.0.url`."""
    for part in reversed(path.split(".")):
        value = [value] if part == "0" else {part: value}
    nested: dict[str, Any] = value
    return nested


def _wrapped(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    if not settings.wrapped:
        return document
    return {"status": "SUCCESS", "data": {"error": None} | document}


def _queried_id(video: Video, settings: Settings) -> str | int:
    return video.other_id if settings.other_id else _formatted_id(video.id, settings)


def _formatted_id(video_id: str, settings: Settings) -> str | int:
    return int(video_id) if settings.numeric_ids and video_id.isdigit() else video_id


def created(video: Video, settings: Settings) -> dict[str, Any]:
    """Return the answer to a create, in the configured shape."""
    if video.order.api == OPENAI:
        accepted = Outcome("queued", video.accepted_at, finished=False)
        return _openai_document(video, accepted, dataclasses.replace(settings, other_id=False))
    identity = _nested(settings.id_field, _formatted_id(video.id, settings))
    if settings.id_field == "data.task_id":
        identity["data"]["id"] = video.number  # new-api: the number of its database row
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
    """Return an epoch time in the configured unit."""
    return int(moment) if settings.time_unit == "s" else int(moment * 1000)


def enhanced(prompt: str) -> str:
    """Return the prompt as `enhance_prompt` would change it, but without a translation."""
    return f"A cinematic, photorealistic video, soft natural light, slow camera move: {prompt}"
