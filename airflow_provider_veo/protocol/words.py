"""
The words of relays' answers, as data: what a status means, and what the codes and texts of errors mean.

Status words are in lower case, see :func:`normal`; codes are as :func:`code_word` returns them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

VideoState = Literal["running", "succeeded", "failed"]

UPSAMPLED = "video_upsampling_completed"
"""Relays pass through it and end in ``completed``, but some may stay there (family)."""
UPSAMPLING_FAILED = "video_upsampling_failed"
"""The video itself was generated and billed, if the answer has its URL."""
ERROR = "error"
"""The *answer* is an error: it says nothing about the video, unless ``detail`` has a generation error (vendor)."""

_RUNNING = """
    pending queued not_start submitted processing in_progress running generating image_uploading image_processing
    image_downloading video_generating video_generation_completed video_upsampling unknown
"""
_SUCCEEDED = "completed complete success succeeded succeed done finished"
_FAILED = "failed failure fail cancelled canceled expired rejected video_generation_failed"

STATES: Mapping[str, VideoState] = {
    **dict.fromkeys(_RUNNING.split(), "running"),
    **dict.fromkeys(_SUCCEEDED.split(), "succeeded"),
    **dict.fromkeys(_FAILED.split(), "failed"),
    UPSAMPLED: "running",
    UPSAMPLING_FAILED: "failed",
    ERROR: "running",
}
"""State by status word (family). A word that is not listed means ``running``."""

BLOCKED = (
    *("unsafe prompt", "rejected by google", "content policy", "content policies", "public error unsafe"),
    *("raimediafiltered", "safety", "prominent people", "violate", "violating", "违规", "敏感"),
)
"""Parts of the reason of a video that the safety filter blocked (family), in lower case, ``_`` and ``-`` as spaces."""

NO_ERROR = frozenset({"", "0", "200", "success", "ok", "none", "null"})
"""Values of ``code``, ``type`` and ``message`` that report no error. LiteLLM writes ``"None"`` for a missing one."""

OUT_OF_MONEY = frozenset(
    {
        "insufficient_user_quota",
        "insufficient_quota",
        "pre_consume_token_quota_failed",
        "quota_not_enough",
        "quota_exceeded",
        "insufficient_balance",
    }
)
"""family: these codes mean "out of quota" under any status and message (some messages say "try again")."""

OVERLOADED = frozenset({"model_not_found", "upstream_load_saturated", "get_channel_failed", "no_available_channel"})
"""family: no channel is free now, under any status."""

BAD_KEY = frozenset({"invalid_api_key", "no_db_connection"})
"""openai: the key is wrong, under any status. LiteLLM without a database writes the latter of a key it doesn't know."""

OUTCOME_LOST = frozenset(
    {
        "read_response_body_failed",
        "unmarshal_response_body_failed",
        "copy_response_body_failed",
        "bad_response_body",
        "insert_task_failed",
    }
)
"""
new-api: its own relay answered, and it lost the answer or could not record it. Under any status.

``do_request_failed`` is not among them: it refunds the request, whose connection usually failed.
"""

_SAYS_NOTHING = frozenset({"internal_server_error", "fail_to_fetch_task"})
"""
Codes that come with an answer of the relay behind a gateway, or with a lost one, beside the status of that.

LiteLLM: ``{"message": "litellm.InternalServerError: …", "type": "internal_server_error", "code": "500"}``.
"""

NOT_FOUND = frozenset({"task_not_exist", "task_not_found", "video_not_found"})
"""family: codes that mean that the relay doesn't know the video, or not yet, under any status."""
NOT_FOUND_TEXTS = (
    *("task not exist", "task not found", "task does not exist", "task doesn't exist", "unknown task", "no such task"),
    *("video not found", "video does not exist", "任务不存在", "任务未找到", "找不到任务"),
)
"""The same in the text of an answer with the status ``error``. They name what was not found: it may be a channel."""

NOT_FETCHED = frozenset({"fail_to_fetch_task"})
"""family: the relay could not poll its own relay, under any status. The video isn't affected."""

LISTED = OUT_OF_MONEY | OVERLOADED | NOT_FOUND | NOT_FETCHED
"""The codes that tell the truth outside of an envelope, too."""

GATEWAY_STATUSES: Mapping[int, str] = {502: "badgateway", 503: "serviceunavailable", 504: "gatewaytimeout"}
"""Statuses that a gateway returns itself, when the outcome of the request behind it is unknown, and their phrases."""


def normal(status: str) -> str:
    """Return a status word in lower case, with underscores between its parts."""
    return status.strip().lower().replace("-", "_").replace(" ", "_")


def code_word(code: str) -> str:
    """Return a code without the prefix that names its origin in the relay (``local:quota_not_enough``)."""
    return code.rpartition(":")[2].strip().lower()


def says_nothing(code: str, status: int, codes: tuple[str, ...]) -> bool:
    """
    Whether a code says no more than the HTTP status: ``504``, ``GATEWAY_TIMEOUT``, ``FUNCTION_INVOCATION_TIMEOUT``.

    :param code: one of the codes.
    :param status: the HTTP status.
    :param codes: all of them.
    """
    phrase = GATEWAY_STATUSES.get(status)
    letters = re.sub(r"[^a-z]", "", code.lower())
    is_passed_on = phrase is not None or str(status) in codes
    return (
        code == str(status)
        or (phrase is not None and phrase in letters)
        or "timeout" in letters
        or (is_passed_on and code_word(code) in _SAYS_NOTHING)
    )


def is_blocked(reason: str) -> bool:
    """Whether the safety filter blocked a video that failed for this reason."""
    return _mentions(reason, BLOCKED)


def is_not_found(text: str) -> bool:
    """Whether the text of an error says that the relay doesn't know the video."""
    return _mentions(text, NOT_FOUND_TEXTS) or text.strip(" .!").lower() in ("not found", "not_found")


def _mentions(text: str, phrases: tuple[str, ...]) -> bool:
    plain = " ".join(text.lower().replace("_", " ").replace("-", " ").split())
    return any(phrase in plain for phrase in phrases)
