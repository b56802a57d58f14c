"""Parsing of the relay's HTTP answers into status, JSON, error envelope and headers, without interpreting them.

Any bytes are accepted. Nothing here raises.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from datetime import timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_veo.protocol import content_encoding, paths, words
from airflow_provider_veo.protocol.paths import scalar
from airflow_provider_veo.protocol.text import redacted, storable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

MAX_EXCERPT_CHARACTERS = 500

_MAX_INNER_ENVELOPES = 3
_MAX_INNER_BYTES = 64 * 1024

_REQUEST_ID = re.compile(r"request[ _]id:?\s*([\w.-]+)", re.IGNORECASE)
_REQUEST_ID_HEADERS = ("x-request-id", "x-oneapi-request-id", "request-id")
_LONGEST_RETRY_AFTER = 86_400.0
_KEY_LIKE = re.compile(r"(?i)\bsk-[\w-]{8,}|(?<=bearer )\S+")


class Envelope(NamedTuple):
    """What an answer says about an error."""

    message: str
    codes: tuple[str, ...]
    """``code`` and ``type``, and those of envelopes inside the message."""
    is_object: bool
    """It is an ``error`` object, which only the relay's own application writes."""


@dataclass
class Answer:
    """A parsed HTTP answer. What is needed only for errors is read from it when it is needed."""

    status: int
    content: dict[str, Any]
    """The JSON object of the body; empty if it is not one."""
    problem: str | None
    """Why the body is not a JSON object; ``None`` if it is."""
    status_word: str
    """The status word as the relay wrote it; empty if there is none."""
    word: str
    """The same, normalized."""
    body: bytes = field(repr=False)
    """The body, decompressed; possibly cut off."""
    secrets: Collection[str] = field(repr=False)
    given_headers: Mapping[str, str] | None = field(repr=False)
    now: float | None

    @cached_property
    def headers(self) -> dict[str, str]:
        """The headers, by name in lower case."""
        return _lower_case(self.given_headers)

    @cached_property
    def _envelope(self) -> Envelope | None:
        """The error envelope, or the reason of an answer with the status ``error``."""
        found = _envelope_of(self.content)
        if found is None and self.word == words.ERROR and 200 <= self.status < 300:
            message = paths.reason_of(self.content)
            found = Envelope(message, _codes_outside(self.content), False) if message else None
        return found

    @property
    def is_error(self) -> bool:
        """Whether the body is an error envelope, or an answer with the status ``error`` and a reason."""
        return self._envelope is not None

    @property
    def is_from_relay(self) -> bool:
        """
        Whether the relay's own application wrote the envelope, so that it knows the outcome of the request.

        Then it has an ``error`` object, or a ``code`` that is a word. Gateways in front of it also write JSON, but
        repeat their status as the code.
        """
        if self._envelope is None:
            return False
        codes = self._envelope.codes
        telling = [code for code in codes if not words.says_nothing(code, self.status, codes)]
        if self._envelope.is_object:
            return bool(telling) or not codes or self.status < 500
        return any(not code.isdecimal() for code in telling)

    @property
    def codes(self) -> tuple[str, ...]:
        """
        ``code`` and ``type`` of the envelope, or those outside of one that are listed or numbers.

        They are reliable; the message is not (family). Not redacted, since they decide whether money was spent: a
        proxy's password may happen to be part of a code.
        """
        return _codes_outside(self.content) if self._envelope is None else self._envelope.codes

    @property
    def code(self) -> str | None:
        """The envelope's ``code``, or else its ``type``."""
        return excerpt(self.codes[0], self.secrets) if self.codes else None

    def has_code(self, meaning: Collection[str]) -> bool:
        """Whether a code is one of a set of :mod:`~airflow_provider_veo.protocol.words`."""
        return any(words.code_word(code) in meaning for code in self.codes)

    @property
    def request_id(self) -> str | None:
        """The relay's id of the request, for its support."""
        found = _REQUEST_ID.search(self._envelope.message) if self._envelope else None
        header = next((self.headers[name] for name in _REQUEST_ID_HEADERS if self.headers.get(name)), None)
        request_id = found.group(1) if found else header
        return without_keys(storable(request_id), self.secrets)[:100] if request_id else None

    @property
    def retry_after(self) -> float | None:
        """Seconds that the relay asks to wait before the next request."""
        return _retry_after(self.headers, self.now)

    @property
    def succeeded(self) -> bool:
        """Whether it is a 2xx with a JSON object."""
        return 200 <= self.status < 300 and self.problem is None

    @property
    def effective_status(self) -> int:
        """The HTTP status; for an error envelope under 2xx, the status that its code names, or else 400."""
        if not self.is_error or not 200 <= self.status < 300:
            return self.status
        return next((int(code) for code in self.codes if re.fullmatch(r"[45]\d\d", code)), 400)

    def any_id(self, *, unset: bool = False) -> str | None:
        """Return anything that may be the id of a video, also in JSON inside the message; see :func:`any_id_of`."""
        return paths.any_id_of([self.content, *_inner(self.message)], unset=unset)

    @property
    def message(self) -> str:
        """The message of the envelope; not redacted."""
        return self._envelope.message if self._envelope else ""

    @property
    def excerpt(self) -> str:
        """The beginning of what the answer says, redacted."""
        return excerpt(self._text, self.secrets)

    @property
    def _text(self) -> str:
        if 300 <= self.status < 400:
            # The target is what the user needs to see. It may contain the request's secrets.
            return self.headers.get("location", "")
        if self._envelope is not None:
            return ": ".join(part for part in (" / ".join(self._envelope.codes), self._envelope.message) if part)
        if not self.content:
            return self.body.decode("utf-8", "replace")
        try:
            # Reserialized, so that an escaped key is found and redacted.
            return json.dumps(self.content, ensure_ascii=False)
        except RecursionError:  # the encoder's limit is below the decoder's
            return "JSON that is nested too deeply"

    def describe(self) -> str:
        """Describe the answer in one line."""
        problem = self.problem
        if 300 <= self.status < 400:
            problem = "a redirect, which is never followed, to"
        problem = "" if self.is_error else f"{problem or 'JSON that is neither an error nor a video'}: "
        request_id = self.request_id
        return f"HTTP {self.status}, {problem}“{self.excerpt}”" + (f", request id {request_id}" if request_id else "")


def read(
    status: int,
    headers: Mapping[str, str] | None,
    body: bytes,
    *,
    secrets: Collection[str],
    now: float | None,
    max_bytes: int,
) -> Answer:
    """Parse an answer. See :func:`airflow_provider_veo.protocol.responses.parse_create` for the parameters."""
    undecoded = None
    if body[:1] != b"{":  # nearly all begin with it, and are not compressed
        body, undecoded = content_encoding.decode(_lower_case(headers).get("content-encoding", ""), body, max_bytes)
    content, problem = ({}, undecoded) if undecoded else _json_object(body, max_bytes)
    status_word = paths.status_of(content)
    return Answer(
        status,
        content,
        problem,
        status_word,
        words.normal(status_word),
        body[:max_bytes] if problem else b"",
        secrets,
        headers,
        now,
    )


def _lower_case(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in (headers or {}).items()}


def excerpt(text: str, secrets: Collection[str]) -> str:
    """Return the first 500 characters of the relay's text, on one line, with all possible keys redacted."""
    # Redact before cutting, so that no half of a key survives.
    text = without_keys(text, secrets)
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return text if len(text) <= MAX_EXCERPT_CHARACTERS else text[: MAX_EXCERPT_CHARACTERS - 1] + "…"


def without_keys(text: str, secrets: Collection[str]) -> str:
    """Redact the secrets in a text, and everything that looks like a key."""
    text = redacted(text, secrets)
    folded = text.casefold()
    return _KEY_LIKE.sub("***", text) if "sk-" in folded or "bearer " in folded else text


def _json_object(body: bytes, max_bytes: int) -> tuple[dict[str, Any], str | None]:
    if len(body) > max_bytes:
        return {}, f"more than {max_bytes} bytes, beginning with"
    if not body.strip():
        return {}, "an empty body"
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}, "a body that is not JSON, or is cut off"
    return (content, None) if isinstance(content, dict) else ({}, "JSON that is not an object")


def _envelope_of(content: Mapping[str, Any]) -> Envelope | None:
    """
    Find the error envelope (family).

    Only ``{"error": {"message", "type", "code"}}`` and ``{"code", "message", "data": null}`` count. Gateways write
    ``{"message": "Internal server error"}`` or ``{"error": "Bad Gateway"}``, and they don't know whether the relay
    behind them accepted the request.
    """
    inner = content.get("error")
    if isinstance(inner, dict):
        codes, message = _codes(inner), scalar(inner.get("message"))
        if codes or message:
            return Envelope(message, _with_inner(codes, message), True)
    if "code" in content and "message" in content and not content.get("data") and (codes := _codes(content)):
        message = scalar(content["message"])
        return Envelope(message, _with_inner(codes, message), False)
    return None


def _codes(envelope: Mapping[str, Any], *names: str) -> list[str]:
    codes = dict.fromkeys(scalar(envelope.get(name)) for name in names or ("code", "type"))
    return [code for code in codes if code.lower() not in words.NO_ERROR]


def _codes_outside(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the codes of an answer without an envelope that are listed, and numbers."""
    codes = _codes(content, "code", "type", "error")
    return tuple(code for code in codes if code.isdecimal() or words.code_word(code) in words.LISTED)


def _with_inner(codes: list[str], message: str) -> tuple[str, ...]:
    """Add the codes of an envelope inside a message: the answer of an upstream relay."""
    found = dict.fromkeys(codes)
    for content in _inner(message):
        found |= dict.fromkeys(code for code in _codes(_envelope_in(content)) if not code.isdecimal())
    return tuple(found)


def _inner(message: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects inside a message, and inside theirs."""
    for _ in range(_MAX_INNER_ENVELOPES):
        begin, end = message.find("{"), message.rfind("}")
        if begin < 0:
            return
        content, _problem = _json_object(message[begin : end + 1].encode("utf-8", "replace"), _MAX_INNER_BYTES)
        yield content
        message = scalar(_envelope_in(content).get("message"))


def _envelope_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = content.get("error")
    return nested if isinstance(nested, dict) else content


def _retry_after(headers: Mapping[str, str], now: float | None) -> float | None:
    """
    Read ``Retry-After``: seconds, or an HTTP date relative to the answer's own ``Date`` if it has one.

    The maximum is a day: a relay that asks for more is wrong or malicious.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = _epoch(value)
        since = _epoch(headers.get("date", ""))
        since = now if since is None else since
        if until is None or since is None:
            return None
        seconds = until - since
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None


def _epoch(http_date: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(http_date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
