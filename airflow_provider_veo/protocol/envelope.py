"""An HTTP answer of the relay, taken apart without judging it: status, JSON, error envelope, headers.

Any bytes are an answer. Nothing here raises.
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
"""family: these codes mean it under any status, whatever the message says (it has been seen to say "try again")."""

_NO_ERROR = frozenset({"", "0", "200", "success", "ok"})
"""Values of ``code`` in an envelope that wraps a success."""

_OVERLOADED = frozenset({"model_not_found", "upstream_load_saturated", "get_channel_failed", "no_available_channel"})
"""family: no channel is free now. These codes mean it under any status."""
_GATEWAY_STATUSES = (502, 503, 504)
"""What a gateway answers for itself, when it doesn't know what became of the request behind it."""
_MAX_INNER_ENVELOPES = 3
_MAX_INNER_BYTES = 64 * 1024

_REQUEST_ID = re.compile(r"request[ _]id:?\s*([\w.-]+)", re.IGNORECASE)
_REQUEST_ID_HEADERS = ("x-request-id", "x-oneapi-request-id", "request-id")
_LONGEST_RETRY_AFTER = 86_400.0
_KEY_LIKE = re.compile(r"(?i)\bsk-[\w-]{8,}|(?<=bearer )\S+")


@dataclass(frozen=True)
class Answer:
    """What came back, in parts."""

    status: int
    """HTTP status."""
    content: dict[str, Any]
    """The JSON object of the body; empty where the body is none."""
    problem: str | None
    """Why the body is no JSON object; ``None`` where it is."""
    is_error: bool
    """Whether the body is an error envelope."""
    is_from_relay: bool
    """
    Whether the envelope is one that the relay's own application writes, which knows what became of the request: an
    ``error`` object, or a ``code`` that is a word. Gateways in front of it write JSON, too, and repeat their status.
    """
    codes: tuple[str, ...] = field(repr=False)
    """
    ``code`` and ``type`` of the envelope. They tell the truth; the message does not (family).

    Not redacted, since they decide whether money was spent: a proxy's password may be part of a code's name.
    """
    request_id: str | None
    retry_after: float | None
    """Seconds."""
    text: str = field(repr=False)
    """What the body says: the envelope's codes and message, or else the body. Not redacted: see ``excerpt``."""
    secrets: Collection[str] = field(repr=False)

    @property
    def excerpt(self) -> str:
        """The beginning of what the body says, redacted."""
        text = self.text
        if not text and self.content:
            try:
                # A body of JSON is written anew, so that a key in it that was escaped no longer is.
                text = json.dumps(self.content, ensure_ascii=False)
            except RecursionError:  # the encoder's limit is below the decoder's
                text = "JSON that is nested too deeply"
        return excerpt(text, self.secrets)

    @property
    def succeeded(self) -> bool:
        """A 2xx with a JSON object."""
        return 200 <= self.status < 300 and self.problem is None

    @property
    def code(self) -> str | None:
        """The envelope's ``code``, or else its ``type``."""
        return excerpt(self.codes[0], self.secrets) if self.codes else None

    @property
    def is_out_of_money(self) -> bool:
        """One of the codes that mean it under any status."""
        return any(_word(code) in _OUT_OF_MONEY for code in self.codes)

    @property
    def is_overloaded(self) -> bool:
        """One of the codes that mean it under any status."""
        return any(_word(code) in _OVERLOADED for code in self.codes)

    @property
    def effective_status(self) -> int:
        """The HTTP status; for an error envelope under 2xx, the status that its code means, or else 400: refused."""
        if not self.is_error or not 200 <= self.status < 300:
            return self.status
        return next((int(code) for code in self.codes if re.fullmatch(r"[45]\d\d", code)), 400)

    def describe(self) -> str:
        """Say what came back, in one line."""
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
    """Take an answer apart. See :func:`airflow_provider_veo.protocol.responses.parse_create` for the parameters."""
    names = {str(name).lower(): str(value) for name, value in (headers or {}).items()}
    body, undecoded = content_encoding.decode(names.get("content-encoding", ""), body, max_bytes)
    content, problem = ({}, undecoded) if undecoded else _json_object(body, max_bytes)
    message, codes, is_object = _error_of(content)
    if 300 <= status < 400:
        # Where it points to is what a person needs; it may carry the request's own secrets.
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
    """Return the first 500 characters of a text of the relay's, on one line, with nothing in it that may be a key."""
    # A key that begins before the cut must not survive by half: redact first, then cut.
    text = without_keys(text, secrets)
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text if len(text) <= MAX_EXCERPT_CHARACTERS else text[: MAX_EXCERPT_CHARACTERS - 1] + "…"


def without_keys(text: str, secrets: Collection[str]) -> str:
    """Replace the secrets in a text, and whatever looks like a key."""
    return _KEY_LIKE.sub("***", redacted(text, secrets))


def _json_object(body: bytes, max_bytes: int) -> tuple[dict[str, Any], str | None]:
    if len(body) > max_bytes:
        return {}, f"more than {max_bytes} bytes, beginning with"
    if not body.strip():
        return {}, "an empty body"
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}, "a body that is no JSON, or is cut off"
    return (content, None) if isinstance(content, dict) else ({}, "JSON that is no object")


def _word(code: str) -> str:
    """Return a code without the prefix that says which part of the relay it is from (``local:quota_not_enough``)."""
    return code.rpartition(":")[2].strip().lower()


def _is_from_relay(status: int, codes: tuple[str, ...], *, is_object: bool) -> bool:
    words = [code for code in codes if not code.isdecimal()]
    if words or not is_object:
        return bool(words)
    return not (codes and status in _GATEWAY_STATUSES and set(codes) == {str(status)})


def _error_of(content: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...], bool]:
    """
    Find the error envelope (family): its message, its codes, and whether it is an ``error`` object.

    It is ``{"error": {"message", "type", "code"}}`` or ``{"code", "message", "data": null}``.
    Only these two count. ``{"message": "Internal server error"}`` or ``{"error": "Bad Gateway"}`` is what gateways
    say, and they don't know whether the relay behind them accepted the request.
    """
    inner = content.get("error")
    candidates = (
        inner,
        content if "code" in content and "message" in content and not content.get("data") else None,
    )
    for envelope in candidates:
        if isinstance(envelope, dict):
            codes = [scalar(envelope.get(name)) for name in ("code", "type")]
            codes = [code for code in dict.fromkeys(codes) if code.lower() not in _NO_ERROR]
            message = scalar(envelope.get("message"))
            if codes or (envelope is inner and message):
                codes += [code for code in _inner_codes(message) if code not in codes]
                return message, tuple(codes), envelope is inner
    return None, (), False


def _inner_codes(message: str) -> list[str]:
    """Return the codes of an envelope that a message is, or holds: a relay's own relay has answered it."""
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
    """Return a text or a number as text; the empty text for all else."""
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
    Read ``Retry-After``: seconds, or an HTTP date, measured from the answer's own ``Date`` where it has one.

    A day at most is believed: a relay that asks for more is wrong, or means harm.
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
