"""
Every kind of fault the sandbox knows, as a table: where it may happen, what value it takes, what it does.

The table is what the command line's help prints and what a SPEC is checked against. What a kind does to an answer is
in `faulty.py`, to the way it travels in `delivery.py`, and to a video in `description.py` and `files.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

ENDPOINTS = ("create", "query", "file", "models")
"""The places where faults happen."""

REASON_FORMS: dict[str, tuple[str, ...]] = {
    "error": ("error",),
    "error-object": ("error", "message"),
    "fail_reason": ("fail_reason",),
    "detail.error": ("detail", "error"),
    "detail.error_message": ("detail", "error_message"),
    "detail.video_generation_error": ("detail", "video_generation_error"),
}
"""Where a relay may put the reason of a failed generation (family), by the name of the form."""

ValueParser = Callable[["str | None"], Any]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    name: str
    metavar: str
    """How its value is written, `=` and brackets included; empty if it takes none."""
    parse: ValueParser
    summary: str
    endpoints: tuple[str, ...] = ENDPOINTS
    """Where it may happen; the first one is meant if a SPEC names none."""
    per_video: bool = False
    """Whether it befalls a video for good, and a selector counts accepted videos instead of requests."""


def no_value(text: str | None) -> None:
    """Read the value of a kind that takes none."""
    if text is not None:
        raise ValueError(f"takes no value, but has {text!r}")


def seconds(text: str | None) -> float:
    """Read a time."""
    value = _number(text, float, "a number of seconds")
    if not 0 <= value < math.inf:
        raise ValueError("needs a number of seconds from 0 up")
    return float(value)


def count(text: str | None) -> int:
    """Read a number of things from 1 up."""
    value = int(_number(text, int, "a whole number"))
    if value < 1:
        raise ValueError("needs a whole number from 1 up")
    return value


def whole(text: str | None) -> int:
    """Read a whole number of either sign."""
    return int(_number(text, int, "a whole number"))


def status(text: str | None) -> int:
    """Read an HTTP status."""
    value = int(_number(text, int, "an HTTP status"))
    if not 200 <= value <= 599:
        raise ValueError("needs an HTTP status from 200 to 599")
    return value


def error_status(text: str | None) -> tuple[int, str | int | None]:
    """Read `STATUS[:CODE]`."""
    number, colon, code = (text or "").partition(":")
    if colon and not code:
        raise ValueError("has an empty code")
    return status(number), (_code(code) if code else None)


def code_status(text: str | None) -> tuple[str | int, int | None]:
    """Read `CODE[:STATUS]`."""
    code, colon, number = (text or "").partition(":")
    if not code:
        raise ValueError("needs a code")
    return _code(code), (status(number) if colon else None)


def words(text: str | None) -> str:
    """Read any text that isn't empty."""
    if not text:
        raise ValueError("needs a value")
    return text


def address(text: str | None) -> str:
    """Read an absolute http(s) URL."""
    if urlsplit(text or "").scheme not in ("http", "https"):
        raise ValueError("needs an http(s) URL")
    return str(text)


def reason(text: str | None) -> tuple[str, str]:
    """Read `REASON[:FORM]`; a reason may hold colons."""
    head, colon, form = (text or "").rpartition(":")
    if colon and form in REASON_FORMS:
        return head, form
    return words(text), "error"


def optional(parse: ValueParser, default: Any) -> ValueParser:
    """Return a parser for a value that may be left out."""
    return lambda text: default if text is None else parse(text)


def _number(text: str | None, convert: Callable[[str], float], what: str) -> float:
    try:
        return convert(text or "")
    except ValueError:
        raise ValueError(f"needs {what}, not {text or 'nothing'!r}") from None


def _code(text: str) -> str | int:
    return int(text) if text.isascii() and text.isdigit() else text


_JSON = ("create", "query", "models")
_QUERY = ("query",)
_FILE = ("file",)

_REFUSED = (
    Kind("status", "=STATUS[:CODE]", error_status, "an error envelope under this status"),
    Kind("bare", "=STATUS", status, "a gateway's HTML page, no envelope; nothing accepted"),
    Kind("envelope", "=CODE[:STATUS]", code_status, "an error envelope under HTTP 200, or this status"),
    Kind("flat-envelope", "=CODE[:STATUS]", code_status, "{code, message, data: null} under 400, or this status"),
    Kind("quota", "[=STATUS]", optional(status, 403), "out of money, under a text that says busy; 403"),
    Kind("rate-limit", "[=SECONDS]", optional(seconds, None), "429, with Retry-After if SECONDS are given"),
    Kind("rate-limit-date", "=SECONDS", seconds, "429, with Retry-After as the HTTP date that far away"),
    Kind("redirect", "[=URL]", optional(address, None), "307 to URL, or to the same path under /redirected"),
    Kind("echo-key", "[=STATUS]", optional(status, 400), "an envelope that repeats the key that was sent; 400"),
)
"""Answered in the relay's place: nothing is accepted."""

_ON_THE_WAY = (
    Kind("drop-before", "", no_value, "closed without an answer; nothing accepted"),
    Kind("drop-after", "", no_value, "accepted, then closed without an answer"),
    Kind("reset", "", no_value, "connection reset (TCP RST); nothing accepted"),
    Kind("reset-after", "", no_value, "accepted, then connection reset"),
    Kind("hang-before", "=SECONDS", seconds, "silent that long, then closed; nothing accepted"),
    Kind("hang-after", "=SECONDS", seconds, "accepted, silent that long, then closed"),
    Kind("slow", "=SECONDS", seconds, "the right answer, that much later"),
    Kind("drip", "=SECONDS", seconds, "the right answer, byte by byte over that time"),
    Kind("cut-off", "", no_value, "accepted; Content-Length is right, but the body ends halfway"),
)
"""How the answer travels."""

_SPOILT = (
    Kind("bare-after", "=STATUS", status, "accepted, then a gateway's HTML page"),
    Kind("empty", "[=STATUS]", optional(status, 200), "accepted; an answer without a body, 200 or e.g. 204"),
    Kind("no-json", "", no_value, "accepted; 200 with text", _JSON),
    Kind("no-id", "", no_value, "accepted; JSON without the id", ("create", "query")),
    Kind("huge", "=BYTES", count, "accepted; JSON padded to that many bytes", _JSON),
    Kind(
        "html-200", "[=TYPE]", optional(words, "text/html"), "200 with a page for a video, as this Content-Type", _FILE
    ),
    Kind(
        "wrong-length",
        "[=BYTES]",
        optional(whole, -1000),
        "Content-Length so far off: -N a shorter file, +N cut",
        _FILE,
    ),
)
"""Accepted, and the answer is no use."""

_SAID = (
    Kind("unknown-status", "[=WORD]", optional(words, "video_reticulating"), "a word no one listed, no URL", _QUERY),
    Kind("status-word", "=WORD", words, "this status word, everything else as it is", _QUERY),
    Kind("upper-case", "", no_value, "the status word in capitals", _QUERY),
    Kind("no-range", "", no_value, "Range is ignored: 200 with the whole file", _FILE),
    Kind("etag-changes", "", no_value, "a new ETag each time, so that no If-Range holds", _FILE),
)
"""In a right answer, one thing is different."""

_BLOCKED = ("Generation blocked by the safety filter.", "error")
_BEFALLING = (
    Kind("failed", "[=REASON[:FORM]]", optional(reason, _BLOCKED), "the generation fails; FORM as below", _QUERY, True),
    Kind("upsampling-failed", "", no_value, "video_upsampling_failed, with the plain video's URL", _QUERY, True),
    Kind("leftover-error", "", no_value, "all error fields are filled, though it doesn't fail", _QUERY, True),
    Kind("late-url", "=N", count, "succeeded without a URL, the first N times", _QUERY, True),
    Kind("no-url", "", no_value, "succeeded without a URL, for ever", _QUERY, True),
    Kind("not-found-first", "=N", count, "404 to its first N queries", _QUERY, True),
)
"""What becomes of a video."""

KINDS = {kind.name: kind for kind in (*_REFUSED, *_ON_THE_WAY, *_SPOILT, *_SAID, *_BEFALLING)}
"""Every kind by its name."""
