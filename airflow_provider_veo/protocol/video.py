"""A video as the relay reports it: :class:`VideoTask`.

Only ``status`` decides the state of a video. The fields for failure reasons may also be set on videos that succeeded,
left over from the relay's own retries (family).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.protocol import coerce, paths, words
from airflow_provider_veo.protocol.envelope import without_keys
from airflow_provider_veo.protocol.errors import VeoValidationError
from airflow_provider_veo.protocol.paths import scalar
from airflow_provider_veo.protocol.text import cleaned, reveals, shortened, storable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from airflow_provider_veo.protocol.envelope import Answer
    from airflow_provider_veo.protocol.words import VideoState

_MILLISECONDS_FROM = 1e11
"""Epoch seconds reach this in the year 5138; epoch milliseconds reached it in 1973."""

MAX_TEXT_CHARACTERS = 20_000
MAX_ID_CHARACTERS = 1_024
"""LiteLLM's ids have several hundred."""
_WORD_CHARACTERS = 200
_URL_CHARACTERS = 8_192
_ABSOLUTE_URL = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_AROUND_URLS = "` \t\r\n"
"""Some relays wrap URLs in backticks, as in Markdown (family)."""


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
    may_be_ready: bool = field(default=False, repr=False, compare=False)
    """It has a URL, and a status that may mean so: taken as succeeded if the next poll returns the same. Not stored."""
    warning: str | None = field(default=None, repr=False, compare=False)
    """What a user should know about how the answer was read, if anything. Not stored."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object; ``updated_at`` as ISO 8601."""
        fields = dict(vars(self))
        fields["updated_at"] = self.updated_at.isoformat() if self.updated_at else None
        del fields["may_be_ready"], fields["warning"]
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> VideoTask:
        """Restore a video from :meth:`to_dict`."""
        updated_at = fields.get("updated_at")
        return cls(**{**fields, "updated_at": datetime.fromisoformat(updated_at) if updated_at else None})


def id_mistake(veo_task_id: str, secrets: Collection[str]) -> str | None:
    """Return why an id of the relay can't be stored or polled, or ``None``."""
    if len(veo_task_id) > MAX_ID_CHARACTERS:
        return f"has {len(veo_task_id):,} characters, more than {MAX_ID_CHARACTERS:,}"
    if reveals(veo_task_id, secrets):
        return "contains the API key"
    if not veo_task_id.isprintable():
        return "contains control characters or lone surrogates"
    return None


def read_video(answer: Answer, *, veo_task_id: str = "") -> VideoTask | None:
    """
    Read the video from an answer. All its texts are bounded, redacted and storable.

    Without ``veo_task_id``, its id is exactly as the relay wrote it: check it with :func:`id_mistake`.

    :param answer: the answer.
    :param veo_task_id: the requested id. Default: the answer's own.
    :return: the video, or ``None`` if the answer has none.
    """
    content, secrets = answer.content, answer.secrets
    video_id = veo_task_id or paths.accepted_id_of(content) or ""
    if not (video_id or answer.word):
        return None
    # The state comes from the unredacted word: a secret may be part of it by chance.
    is_listed = not answer.word or answer.word in words.STATES
    status = cleaned(answer.status_word, secrets, _WORD_CHARACTERS) if answer.word else None
    state, url, warning = _state_and_url(answer)
    if not (is_listed or warning):
        warning = f"the status {status!r} is unknown; assuming that the video is still being generated"
    return VideoTask(
        id=video_id,
        model=_model(content, video_id, secrets),
        state=state,
        status=status,
        video_url=url,
        enhanced_prompt=_first(content, paths.ENHANCED_PROMPT, secrets, MAX_TEXT_CHARACTERS),
        error=_failure_reason(content, secrets) if state == "failed" else None,
        updated_at=next(filter(None, map(_moment, paths.values(content, paths.UPDATED_AT))), None),
        may_be_ready=url is not None and (answer.word == words.UPSAMPLED or not is_listed),
        warning=warning,
    )


def _state_and_url(answer: Answer) -> tuple[VideoState, str | None, str | None]:
    """Return the state of the video, its URL, and a warning."""
    word = answer.word
    state = words.STATES.get(word, "running")
    url, warning = _url_of(answer.content, answer.secrets, is_success=state == "succeeded")
    if word == words.ERROR and paths.generation_failed(answer.content):
        return "failed", url, warning
    if word == words.UPSAMPLING_FAILED and url:
        return "succeeded", url, "upsampling failed; the plain video was generated and is delivered"
    return state, url, warning


def _model(content: Mapping[str, Any], video_id: str, secrets: Collection[str]) -> str | None:
    if model := _first(content, paths.MODEL, secrets, _WORD_CHARACTERS):
        return model
    prefix, colon, _ = video_id.partition(":")
    return cleaned(prefix, secrets, _WORD_CHARACTERS) or None if colon else None


def _first(
    content: Mapping[str, Any], places: tuple[paths.Paths, ...], secrets: Collection[str], characters: int
) -> str | None:
    text = next(filter(None, map(scalar, paths.values(content, places))), "")
    return cleaned(text, secrets, characters) or None


def _failure_reason(content: Mapping[str, Any], secrets: Collection[str]) -> str:
    reason = paths.reason_of(content) or "the relay gave no reason"
    return shortened(without_keys(storable(reason), secrets), MAX_TEXT_CHARACTERS)


def _url_of(content: Mapping[str, Any], secrets: Collection[str], *, is_success: bool) -> tuple[str | None, str | None]:
    """Return the first usable URL, or else why the first one was ignored."""
    left_out = None
    for url in _urls(content, is_success=is_success):
        mistake = _url_mistake(url, secrets)
        if mistake is None:
            return url, None
        left_out = left_out or f"the video's URL was ignored: it {mistake}"
    return None, left_out


def _urls(content: Mapping[str, Any], *, is_success: bool) -> Iterator[str]:
    for record in paths.wrapped(content):
        yield from _absolute(paths.values(record, paths.URL))
    if is_success:
        yield from _absolute(paths.values(content, paths.URL_OF_SUCCESS))


def _absolute(found: Iterator[Any]) -> Iterator[str]:
    for value in found:
        if isinstance(value, str) and _ABSOLUTE_URL.match(url := value.strip(_AROUND_URLS)):
            yield url


def _url_mistake(url: str, secrets: Collection[str]) -> str | None:
    """Return why a URL can't be stored, or ``None``."""
    if len(url) > _URL_CHARACTERS:
        return f"has {len(url):,} characters, more than {_URL_CHARACTERS:,}"
    if reveals(url, secrets):
        return "contains the API key"
    if not url.isprintable():
        return "contains control characters or lone surrogates"
    return None


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
