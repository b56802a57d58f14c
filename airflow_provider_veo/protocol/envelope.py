"""Parsing of the relay's HTTP answers into status, JSON, error envelope and headers, without interpreting them.

Any bytes are accepted. Nothing here raises.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from datetime import timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.protocol import content_encoding
from airflow_provider_veo.protocol.text import redacted, storable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_EXCERPT_CHARACTERS = 500

_OUT_OF_MONEY = frozenset(
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

_NO_ERROR = frozenset({"", "0", "200", "success", "ok"})
"""Values of ``code`` in an envelope that wraps a success."""

_OVERLOADED = frozenset({"model_not_found", "upstream_load_saturated", "get_channel_failed", "no_available_channel"})
"""family: no channel is free now, under any status."""
_GATEWAY_STATUSES = (502, 503, 504)
"""Statuses that a gateway returns itself, when the outcome of the request behind it is unknown."""
_MAX_INNER_ENVELOPES = 3
_MAX_INNER_BYTES = 64 * 1024

_REQUEST_ID = re.compile(r"request[ _]id:?\s*([\w.-]+)", re.IGNORECASE)
_REQUEST_ID_HEADERS = ("x-request-id", "x-oneapi-request-id", "request-id")
_LONGEST_RETRY_AFTER = 86_400.0
_KEY_LIKE = re.compile(r"(?i)\bsk-[\w-]{8,}|(?<=bearer )\S+")


@dataclass(frozen=True)
class Answer:
    """A parsed HTTP answer."""

    status: int
    content: dict[str, Any]
    """The JSON object of the body; empty if it is not one."""
    problem: str | None
    """Why the body is not a JSON object; ``None`` if it is."""
    is_error: bool
    """The body is an error envelope."""
    is_from_relay: bool
    """
    The relay's own application wrote the envelope, so it knows the outcome of the request: it has an ``error`` object,
    or a ``code`` that is a word. Gateways in front of it also write JSON, but repeat their status as the code.
    """
    codes: tuple[str, ...] = field(repr=False)
    """
    ``code`` and ``type`` of the envelope. They are reliable; the message is not (family).

    Not redacted, since they decide whether money was spent: a proxy's password may happen to be part of a code.
    """
    request_id: str | None
    retry_after: float | None
    """Seconds."""
    text: str = field(repr=False)
    """The envelope's codes and message, or else the body. Not redacted: see ``excerpt``."""
    secrets: Collection[str] = field(repr=False)

    @property
    def excerpt(self) -> str:
        """The beginning of the text, redacted."""
        text = self.text
        if not text and self.content:
            try:
                # Reserialized, so that an escaped key is found and redacted.
                text = json.dumps(self.content, ensure_ascii=False)
            except RecursionError:  # the encoder's limit is below the decoder's
                text = "JSON that is nested too deeply"
        return excerpt(text, self.secrets)

    @property
    def succeeded(self) -> bool:
        """Whether it is a 2xx with a JSON object."""
        return 200 <= self.status < 300 and self.problem is None

    @property
    def code(self) -> str | None:
        """The envelope's ``code``, or else its ``type``."""
        return excerpt(self.codes[0], self.secrets) if self.codes else None

    @property
    def is_out_of_money(self) -> bool:
        """Whether a code means that the account is out of money or quota."""
        return any(_word(code) in _OUT_OF_MONEY for code in self.codes)

    @property
    def is_overloaded(self) -> bool:
        """Whether a code means that no channel is free."""
        return any(_word(code) in _OVERLOADED for code in self.codes)

    @property
    def effective_status(self) -> int:
        """The HTTP status; for an error envelope under 2xx, the status that its code names, or else 400."""
        if not self.is_error or not 200 <= self.status < 300:
            return self.status
        return next((int(code) for code in self.codes if re.fullmatch(r"[45]\d\d", code)), 400)

    def describe(self) -> str:
        """Describe the answer in one line."""
        problem = "" if self.is_error else f"{self.problem or 'JSON that is neither an error nor a video'}: "
        text = f"HTTP {self.status}, {problem}“{self.excerpt}”"
        return f"{text}, request id {self.request_id}" if self.request_id else text


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
    names = {str(name).lower(): str(value) for name, value in (headers or {}).items()}
    body, undecoded = content_encoding.decode(names.get("content-encoding", ""), body, max_bytes)
    content, problem = ({}, undecoded) if undecoded else _json_object(body, max_bytes)
    message, codes, is_object = _error_of(content)
    if 300 <= status < 400:
        # The target is what the user needs to see. It may contain the request's secrets.
        text, problem = names.get("location", ""), "a redirect, which is never followed, to"
    elif message is not None:
        text = ": ".join(part for part in (" / ".join(codes), message) if part)
    else:
        text = "" if content else body[:max_bytes].decode("utf-8", "replace")
    return Answer(
        status=status,
        content=content,
        problem=problem,
        is_error=message is not None,
        is_from_relay=message is not None and _is_from_relay(status, codes, is_object=is_object),
        codes=codes,
        request_id=_request_id(names, message, secrets),
        retry_after=_retry_after(names, now),
        text=text,
        secrets=secrets,
    )


def excerpt(text: str, secrets: Collection[str]) -> str:
    """Return the first 500 characters of the relay's text, on one line, with all possible keys redacted."""
    # Redact before cutting, so that no half of a key survives.
    text = without_keys(text, secrets)
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text if len(text) <= MAX_EXCERPT_CHARACTERS else text[: MAX_EXCERPT_CHARACTERS - 1] + "…"


def without_keys(text: str, secrets: Collection[str]) -> str:
    """Redact the secrets in a text, and everything that looks like a key."""
    return _KEY_LIKE.sub("***", redacted(text, secrets))


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


def _word(code: str) -> str:
    """Return a code without the prefix that names its origin in the relay (``local:quota_not_enough``)."""
    return code.rpartition(":")[2].strip().lower()


def _is_from_relay(status: int, codes: tuple[str, ...], *, is_object: bool) -> bool:
    words = [code for code in codes if not code.isdecimal()]
    if words or not is_object:
        return bool(words)
    return not (codes and status in _GATEWAY_STATUSES and set(codes) == {str(status)})


def _error_of(content: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...], bool]:
    """
    Find the error envelope (family): its message, its codes, and whether it is an ``error`` object.

    Only ``{"error": {"message", "type", "code"}}`` and ``{"code", "message", "data": null}`` count. Gateways write
    ``{"message": "Internal server error"}`` or ``{"error": "Bad Gateway"}``, and they don't know whether the relay
    behind them accepted the request.
    """
    envelope: Mapping[str, Any]
    inner = content.get("error")
    if isinstance(inner, dict) and (_own_codes(inner) or scalar(inner.get("message"))):
        envelope = inner
    elif "code" in content and "message" in content and not content.get("data") and _own_codes(content):
        envelope = content
    else:
        return None, (), False
    message, codes = scalar(envelope.get("message")), _own_codes(envelope)
    codes += [code for code in _inner_codes(message) if code not in codes]
    return message, tuple(codes), envelope is inner


def _own_codes(envelope: Mapping[str, Any]) -> list[str]:
    codes = dict.fromkeys(scalar(envelope.get(name)) for name in ("code", "type"))
    return [code for code in codes if code.lower() not in _NO_ERROR]


def _inner_codes(message: str) -> list[str]:
    """Return the codes of an envelope inside a message: the answer of an upstream relay."""
    codes: list[str] = []
    for _ in range(_MAX_INNER_ENVELOPES):
        begin, end = message.find("{"), message.rfind("}")
        content, _problem = _json_object(message[begin : end + 1].encode("utf-8", "replace"), _MAX_INNER_BYTES)
        nested = content.get("error")
        inner = nested if isinstance(nested, dict) else content
        codes += [code for name in ("code", "type") if (code := scalar(inner.get(name))) and not code.isdecimal()]
        message = scalar(inner.get("message"))
    return codes


def scalar(value: Any) -> str:
    """Return a string or a number as a string, and the empty string for everything else."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _request_id(headers: Mapping[str, str], message: str | None, secrets: Collection[str]) -> str | None:
    found = _REQUEST_ID.search(message or "")
    header = next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)
    request_id = found.group(1) if found else header
    return without_keys(storable(request_id), secrets)[:100] if request_id else None


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
