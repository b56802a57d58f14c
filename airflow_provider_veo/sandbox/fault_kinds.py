"""
All kinds of faults, as a table: the endpoints they apply to, the value they take, and their effect.

The command line's help prints the table, and every SPEC is checked against it. The effects on an answer are in
`faulty.py`, on its delivery in `delivery.py`, and on a video in `description.py` and `files.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

ENDPOINTS = ("create", "query", "file", "models")
"""The endpoints that faults apply to."""

REASON_FORMS: dict[str, tuple[str, ...]] = {
    "error": ("error",),
    "error-object": ("error", "message"),
    "fail_reason": ("fail_reason",),
    "detail.error": ("detail", "error"),
    "detail.error_message": ("detail", "error_message"),
    "detail.video_generation_error": ("detail", "video_generation_error"),
}
"""The field in which a relay reports why a generation failed (family), by the name of the form."""

LONGEST = 1_000_000_000
"""Maximum seconds of a duration. A date further ahead could not be written as an HTTP date."""
LARGEST = 256 * 1024 * 1024
"""Maximum bytes of an answer that is made larger. It is made in memory."""
WITHOUT_BODY = (204, 205, 304)
"""HTTP statuses whose answers have no body."""

ValueParser = Callable[["str | None"], Any]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    name: str
    metavar: str
    """The syntax of its value, including `=` and brackets. Empty if it takes none."""
    parse: ValueParser
    summary: str
    endpoints: tuple[str, ...] = ENDPOINTS
    """The endpoints it applies to. The first one is the default of a SPEC."""
    per_video: bool = False
    """Whether it affects a video permanently. A selector then counts accepted videos instead of requests."""


def no_value(text: str | None) -> None:
    """Reject a value."""
    if text is not None:
        raise ValueError(f"takes no value, got {text!r}")


def seconds(text: str | None) -> float:
    """Parse a duration."""
    value = _number(text, float, "a number of seconds")
    if not 0 <= value <= LONGEST:
        raise ValueError(f"needs a number of seconds, at least 0 and at most {LONGEST}")
    return float(value)


def count(text: str | None) -> int:
    """Parse a count of at least 1."""
    value = int(_number(text, int, "a whole number"))
    if not 1 <= value <= LARGEST:
        raise ValueError(f"needs a whole number, at least 1 and at most {LARGEST}")
    return value


def whole(text: str | None) -> int:
    """Parse a positive or negative whole number."""
    value = int(_number(text, int, "a whole number"))
    if not -LARGEST <= value <= LARGEST:
        raise ValueError(f"needs a whole number, at least {-LARGEST} and at most {LARGEST}")
    return value


def any_status(text: str | None) -> int:
    """Parse an HTTP status."""
    value = int(_number(text, int, "an HTTP status"))
    if not 200 <= value <= 599:
        raise ValueError("needs an HTTP status from 200 to 599")
    return value


def status(text: str | None) -> int:
    """Parse an HTTP status whose answer has a body."""
    value = any_status(text)
    if value in WITHOUT_BODY:
        raise ValueError(f"needs an HTTP status whose answer has a body, which {value} does not")
    return value


def error_status(text: str | None) -> tuple[int, str | int | None]:
    """Parse `STATUS[:CODE]`."""
    number, code = _pair(text, "code")
    return status(number), (_code(code) if code else None)


def code_status(text: str | None) -> tuple[str | int, int | None]:
    """Parse `CODE[:STATUS]`."""
    code, number = _pair(text, "status")
    if not code:
        raise ValueError("needs a code")
    return _code(code), (status(number) if number else None)


def count_status(text: str | None) -> tuple[int, int]:
    """Parse `N[:STATUS]`. The default status is 404."""
    number, answer = _pair(text, "status")
    return count(number), (status(answer) if answer else 404)


def words(text: str | None) -> str:
    """Parse any non-empty string."""
    if not text:
        raise ValueError("needs a value")
    return text


def header(text: str | None) -> str:
    """Parse the value of an HTTP header."""
    if not re.fullmatch(r"[!-~\xa1-\xff]([\t -~\xa1-\xff]*[!-~\xa1-\xff])?", words(text)):
        raise ValueError("needs the value of an HTTP header: Latin-1, without control characters or spaces around it")
    return str(text)


def address(text: str | None) -> str:
    """Parse an absolute http(s) URL."""
    if not re.fullmatch("[!-~]*", text or ""):
        raise ValueError("needs a URL in ASCII without spaces, with everything else percent-encoded")
    with contextlib.suppress(ValueError):
        parts = urlsplit(text or "")
        if parts.scheme in ("http", "https") and parts.hostname:
            return str(text)
    raise ValueError("needs an http(s) URL")


def reason(text: str | None) -> tuple[str, str]:
    """Parse `REASON[:FORM]`. A reason may contain colons."""
    head, colon, form = (text or "").rpartition(":")
    if colon and form in REASON_FORMS:
        return head, form
    return words(text), "error"


def optional(parse: ValueParser, default: Any) -> ValueParser:
    """Return a parser for an optional value."""
    return lambda text: default if text is None else parse(text)


def _number(text: str | None, convert: Callable[[str], float], what: str) -> float:
    try:
        return convert(text or "")
    except ValueError:
        raise ValueError(f"needs {what}, got {text!r}") from None


def _pair(text: str | None, what: str) -> tuple[str, str]:
    first, colon, second = (text or "").partition(":")
    if colon and not second:
        raise ValueError(f"has an empty {what}")
    return first, second


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
    Kind("nested-envelope", "=CODE[:STATUS]", code_status, "an envelope whose message is JSON with this code; 500"),
    Kind(
        "error-status",
        "[=REASON]",
        optional(words, "upstream account is not available"),
        '{"status": "error"} and REASON under HTTP 200; nothing accepted',
        ("query", "create"),
    ),
    Kind("quota", "[=STATUS]", optional(status, 403), "insufficient quota, with a message that says busy; 403"),
    Kind("rate-limit", "[=SECONDS]", optional(seconds, None), "429, with Retry-After if SECONDS are given"),
    Kind("rate-limit-date", "=SECONDS", seconds, "429, with Retry-After as an HTTP date that far ahead"),
    Kind("redirect", "[=URL]", optional(address, None), "307 to URL, or to the same path under /redirected"),
    Kind("echo-key", "[=STATUS]", optional(status, 400), "an envelope that repeats the key that was sent; 400"),
)
"""Answered in the relay's place. Nothing is accepted."""

_DELIVERED = (
    Kind("drop-before", "", no_value, "closed without an answer; nothing accepted"),
    Kind("drop-after", "", no_value, "accepted, then closed without an answer"),
    Kind("reset", "", no_value, "connection reset (TCP RST); nothing accepted"),
    Kind("reset-after", "", no_value, "accepted, then connection reset"),
    Kind("hang-before", "=SECONDS", seconds, "silent that long, then closed; nothing accepted"),
    Kind("hang-after", "=SECONDS", seconds, "accepted, silent that long, then closed"),
    Kind("slow", "=SECONDS", seconds, "the correct answer, that much later"),
    Kind("drip", "=SECONDS", seconds, "the correct answer, in small pieces over that time"),
    Kind("cut-off", "", no_value, "accepted; Content-Length is correct, but the body ends halfway"),
)
"""Changes to how the answer is delivered."""

_CORRUPTED = (
    Kind("bare-after", "=STATUS", status, "accepted, then a gateway's HTML page"),
    Kind("empty", "[=STATUS]", optional(any_status, 200), "accepted; an answer without a body, 200 or e.g. 204"),
    Kind("no-json", "", no_value, "accepted; 200 with plain text", _JSON),
    Kind("no-id", "", no_value, "accepted; JSON without the id", ("create", "query")),
    Kind(
        "early-url",
        "[=URL]",
        optional(address, "https://files.example/early.mp4"),
        "accepted; pending, but already with a video URL",
        ("create",),
    ),
    Kind("huge", "=BYTES", count, "accepted; JSON padded to that many bytes", _JSON),
    Kind("html-200", "[=TYPE]", optional(header, "text/html"), "200 with an HTML page, as this Content-Type", _FILE),
    Kind(
        "wrong-length",
        "[=BYTES]",
        optional(whole, -1000),
        "Content-Length wrong by N: -N a shorter file, +N cut",
        _FILE,
    ),
)
"""Accepted, but the answer is unusable."""

_CHANGED = (
    Kind("unknown-status", "[=WORD]", optional(words, "video_reticulating"), "an unlisted status word, no URL", _QUERY),
    Kind("status-word", "=WORD", words, "this status word, everything else unchanged", _QUERY),
    Kind("quoted-url", "", no_value, "the URL between backticks and spaces", _QUERY),
    Kind("upper-case", "", no_value, "the status word in capitals", _QUERY),
    Kind("redirect-host", "", no_value, "307 to this file under another name of this machine, without a key", _FILE),
    Kind("no-range", "", no_value, "ignores Range: 200 with the complete file", _FILE),
    Kind("etag-changes", "", no_value, "a new ETag each time, so that If-Range never matches", _FILE),
)
"""One change in a correct answer."""

_BLOCKED = ("Generation blocked by the safety filter.", "error")
_PER_VIDEO = (
    Kind("failed", "[=REASON[:FORM]]", optional(reason, _BLOCKED), "the generation fails; FORM as below", _QUERY, True),
    Kind("upsampling-failed", "", no_value, "video_upsampling_failed, with the plain video's URL", _QUERY, True),
    Kind("leftover-error", "", no_value, "all error fields are set, but the video succeeds", _QUERY, True),
    Kind("late-url", "=N", count, "succeeded without a URL in the first N answers", _QUERY, True),
    Kind("no-url", "", no_value, "succeeded, but never with a URL", _QUERY, True),
    Kind("not-found-first", "=N[:STATUS]", count_status, "task_not_exist to its first N queries; 404", _QUERY, True),
)
"""Effects on a video."""

KINDS = {kind.name: kind for kind in (*_REFUSED, *_DELIVERED, *_CORRUPTED, *_CHANGED, *_PER_VIDEO)}
"""The kinds by name."""
