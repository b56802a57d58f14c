"""
The relay's answers, independent of how they are delivered: status, headers, body and the error envelope.

An :class:`Answer` is complete and correct. Faults delay, truncate or corrupt it later.
"""

from __future__ import annotations

import dataclasses
import html
import http
import json
import secrets
import string
import time
from typing import Any

_LETTERS = string.ascii_letters + string.digits

DEFAULT_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    402: "insufficient_balance",
    403: "access_denied",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    422: "invalid_parameter",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "model_not_found",
}
"""The `code` of an error envelope by HTTP status, unless another code is given."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One complete HTTP answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the status is a success, so that a fault can corrupt the content."""
        return 200 <= self.status < 300


class Refusal(Exception):
    """
    The relay refuses a request. It is answered with the error envelope.

    :param status: HTTP status.
    :param code: The envelope's `code`. Derived from the status if omitted.
    """

    def __init__(
        self, status: int, message: str, code: str | int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.answer = envelope(status, message, code, headers)


def json_answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Return a JSON answer. Chinese is not escaped: relays do both, and this form is shorter."""
    # A request can contain half a surrogate pair, which JSON can write and UTF-8 can't.
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Answer(status, body, {"content-type": "application/json; charset=utf-8"} | (headers or {}))


def envelope(
    status: int,
    message: str,
    code: str | int | None = None,
    headers: dict[str, str] | None = None,
    plain: bool = False,
) -> Answer:
    """
    Return an error in the family's envelope.

    :param status: HTTP status. `code` is derived from it unless given.
    :param plain: Leave the message as it is, without a request id.
    """
    error = {
        "message": message if plain else f"{message} (request id: {request_id()})",
        "type": "new_api_error",
        "param": "",
        "code": DEFAULT_CODES.get(status, "upstream_error") if code is None else code,
    }
    return json_answer({"error": error}, status, headers)


def flat_envelope(status: int, message: str, code: str | int) -> Answer:
    """Return an error in the family's other form, which has no `error` object."""
    return json_answer({"code": code, "message": f"{message} (request id: {request_id()})", "data": None}, status)


def page(status: int) -> Answer:
    """Return the HTML error page of a gateway in front of the relay."""
    phrase = html.escape(reason(status))
    body = (
        f"<html>\r\n<head><title>{status} {phrase}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {phrase}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Answer(status, body.encode(), {"content-type": "text/html"})


def reason(status: int) -> str:
    """Return the standard phrase of an HTTP status, or `Unknown`."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def request_id() -> str:
    """Return a new request id in the family's form: a timestamp, then letters."""
    return time.strftime("%Y%m%d%H%M%S", time.gmtime()) + random_letters(18)


def random_letters(length: int) -> str:
    """Return random letters and digits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
