"""A video as the relay reports it: :class:`VideoTask`, and the status words.

Only ``status`` decides the state of a video. The fields for failure reasons may also be set on videos that succeeded,
left over from the relay's own retries (family).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_veo.protocol import coerce
from airflow_provider_veo.protocol.envelope import scalar, without_keys
from airflow_provider_veo.protocol.errors import VeoValidationError
from airflow_provider_veo.protocol.text import cleaned, reveals, shortened, storable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

VideoState = Literal["running", "succeeded", "failed"]

STATES: Mapping[str, VideoState] = {
    **dict.fromkeys(
        (
            "pending",
            "queued",
            "not_start",
            "submitted",
            "processing",
            "in_progress",
            "running",
            "generating",
            "image_uploading",
            "image_processing",
            "image_downloading",
            "video_generating",
            "video_generation_completed",
            "video_upsampling",
        ),
        "running",
    ),
    **dict.fromkeys(("completed", "success", "succeeded", "video_upsampling_completed"), "succeeded"),
    **dict.fromkeys(
        ("failed", "failure", "error", "cancelled", "video_generation_failed", "video_upsampling_failed"),
        "failed",
    ),
}
"""State by status word (family), in lower case."""

_UPSAMPLING_FAILED = "video_upsampling_failed"
_MILLISECONDS_FROM = 1e11
"""Epoch seconds reach this in the year 5138; epoch milliseconds reached it in 1973."""

MAX_TEXT_CHARACTERS = 20_000
MAX_ID_CHARACTERS = 1_024
"""LiteLLM's ids have several hundred."""
_WORD_CHARACTERS = 200
_URL_CHARACTERS = 8_192


@dataclass(frozen=True)
class VideoTask:
    """A submitted video, as the relay reports it."""

    id: str
    """The id that ``create`` returned: the only one that can be polled."""
    model: str | None = None
    """The model, if the relay names it or the id begins with it."""
    state: VideoState = "running"
    """What the status means."""
    status: str | None = None
    """The relay's own word, if it reported one."""
    video_url: str | None = None
    """URL of the file, valid for hours to days."""
    enhanced_prompt: str | None = None
    """The prompt as the relay rewrote it."""
    error: str | None = None
    """Why it failed. ``None`` unless ``state`` is ``failed``."""
    updated_at: datetime | None = None
    """When the status last changed, in UTC."""
    left_out: str | None = field(default=None, repr=False, compare=False)
    """What was ignored in the answer, and why. For logs only: not in :meth:`to_dict`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object; ``updated_at`` as ISO 8601."""
        fields = dict(vars(self))
        fields["updated_at"] = self.updated_at.isoformat() if self.updated_at else None
        del fields["left_out"]
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> VideoTask:
        """Restore a video from :meth:`to_dict`."""
        updated_at = fields.get("updated_at")
        return cls(**{**fields, "updated_at": datetime.fromisoformat(updated_at) if updated_at else None})

    @property
    def warning(self) -> str | None:
        """A warning for the user about this status, if any."""
        word = _normal(self.status or "")
        if self.left_out:
            return self.left_out
        if word == _UPSAMPLING_FAILED and self.state == "succeeded":
            return "upsampling failed; the plain video was generated and is delivered"
        if self.status and word not in STATES:
            return f"the status {self.status!r} is unknown; assuming that the video is still being generated"
        return None


def id_mistake(veo_task_id: str, secrets: Collection[str]) -> str | None:
    """Return why an id of the relay can't be stored or polled, or ``None``."""
    if len(veo_task_id) > MAX_ID_CHARACTERS:
        return f"has {len(veo_task_id):,} characters, more than {MAX_ID_CHARACTERS:,}"
    if reveals(veo_task_id, secrets):
        return "contains the API key"
    if any(not character.isprintable() for character in veo_task_id):
        return "contains control characters or lone surrogates"
    return None


def read_video(content: Mapping[str, Any], *, veo_task_id: str = "", secrets: Collection[str] = ()) -> VideoTask | None:
    """
    Read the video from an answer. All its texts are bounded, redacted and storable.

    Without ``veo_task_id``, its id is exactly as the relay wrote it: check it with :func:`id_mistake`.

    :param content: the JSON object of the answer.
    :param veo_task_id: the requested id. Default: the answer's own.
    :param secrets: strings that no text may contain.
    :return: the video, or ``None`` if the answer has none.
    """
    record = _unwrapped(content)
    own_id = _id(record)
    given = _string(record.get("status"))
    word = _normal(given)
    # The state comes from the unredacted word: a secret may be part of it by chance.
    status = cleaned(given, secrets, _WORD_CHARACTERS) if word else None
    if own_id is None and status is None:
        return None
    # A billed, plain video may exist though its upsampling failed.
    detail = _mapping(record.get("detail"))
    url, left_out = _url_of(record, detail if word == _UPSAMPLING_FAILED else {}, secrets=secrets)
    state = STATES.get(word, "running")
    if word == _UPSAMPLING_FAILED and url:
        state = "succeeded"
    video_id = veo_task_id or own_id or ""
    return VideoTask(
        id=video_id,
        model=_model(record, video_id, secrets),
        state=state,
        status=status,
        video_url=url,
        enhanced_prompt=_enhanced_prompt(record, detail, secrets),
        error=_failure_reason(record, secrets) if state == "failed" else None,
        updated_at=_moment(record.get("status_update_time")) or _moment(record.get("created")),
        left_out=left_out,
    )


def _model(record: Mapping[str, Any], video_id: str, secrets: Collection[str]) -> str | None:
    prefix, colon, _ = video_id.partition(":")
    model = scalar(record.get("model")) or (prefix if colon else "")
    return cleaned(model, secrets, _WORD_CHARACTERS) or None


def _enhanced_prompt(record: Mapping[str, Any], detail: Mapping[str, Any], secrets: Collection[str]) -> str | None:
    prompt = scalar(record.get("enhanced_prompt")) or scalar(detail.get("enhanced_prompt"))
    return cleaned(prompt, secrets, MAX_TEXT_CHARACTERS) or None


def _failure_reason(record: Mapping[str, Any], secrets: Collection[str]) -> str:
    reason = next(_reasons(record), "the relay gave no reason")
    return shortened(without_keys(storable(reason), secrets), MAX_TEXT_CHARACTERS)


def _normal(status: str) -> str:
    return status.strip().lower().replace("-", "_").replace(" ", "_")


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _unwrapped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Some relays wrap the answer: ``{"status": "SUCCESS", "data": {"id", "status", …}}`` (family)."""
    inner = _mapping(content.get("data"))
    is_wrapper = _id(content) is None and not any(_urls(content)) and (_id(inner) or "status" in inner)
    return inner if is_wrapper else content


def _id(record: Mapping[str, Any]) -> str | None:
    """``id``, or ``task_id`` at some relays: a string, kept exactly, or a number at some (family)."""
    for name in ("id", "task_id"):
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return scalar(value)
    return None


def _urls(record: Mapping[str, Any]) -> Iterator[str]:
    for name in ("video_url", "url", "output_url"):
        value = record.get(name)
        if isinstance(value, str) and value.strip().lower().startswith(("http://", "https://")):
            yield value.strip()


def _url_of(*records: Mapping[str, Any], secrets: Collection[str]) -> tuple[str | None, str | None]:
    """Return the first usable URL, or else why the first one was ignored."""
    left_out = None
    for record in records:
        for url in _urls(record):
            mistake = _url_mistake(url, secrets)
            if mistake is None:
                return url, None
            left_out = left_out or f"the video's URL was ignored: it {mistake}"
    return None, left_out


def _url_mistake(url: str, secrets: Collection[str]) -> str | None:
    """Return why a URL can't be stored, or ``None``."""
    if len(url) > _URL_CHARACTERS:
        return f"has {len(url):,} characters, more than {_URL_CHARACTERS:,}"
    if reveals(url, secrets):
        return "contains the API key"
    if not url.isprintable():
        return "contains control characters or lone surrogates"
    return None


def _reasons(record: Mapping[str, Any]) -> Iterator[str]:
    detail = _mapping(record.get("detail"))
    places = (
        record.get("error"),
        record.get("fail_reason"),
        *(detail.get(name) for name in ("error", "error_message", "video_generation_error")),
    )
    for place in places:
        inner = _mapping(place)
        texts = [text for text in (scalar(inner.get("message")), scalar(inner.get("code"))) if text] or [scalar(place)]
        if texts[0]:
            yield texts[0] if len(texts) == 1 else f"{texts[0]} ({texts[1]})"


def _moment(value: Any) -> datetime | None:
    """Epoch milliseconds (seed) or seconds (one relay of the family), distinguished by size."""
    try:
        number = float(scalar(value))
        seconds = number / 1000 if abs(number) >= _MILLISECONDS_FROM else number
        return datetime.fromtimestamp(seconds, tz=timezone.utc) if math.isfinite(number) else None
    except (ValueError, OverflowError, OSError):
        return None


def veo_task_id_of(given: Any) -> str:
    """
    Return the id from what an upstream task pushed: the id, a ``veo_video`` dict, or either as a string.

    :raises VeoValidationError: it has no id.
    """
    meant = coerce.mapping(given)
    found = meant.get("id") if isinstance(meant, dict) else meant
    if coerce.is_nothing(found) or not isinstance(found, (str, int)):
        raise VeoValidationError(
            "The video id is not valid. Nothing was sent.",
            [f"veo_task_id: expected the id that create returned, or its veo_video, got {given!r:.200}"],
        )
    return str(found)
