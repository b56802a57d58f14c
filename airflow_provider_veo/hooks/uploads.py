"""
The body of a request to the relay, with the images that it uploads.

Some forms of the API take an image only as a file. It is fetched here, with the same checks of its address as a video's
file. The relay's key is never sent along. All this happens before the request is sent: nothing here costs money.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tenacity
from urllib3.filepost import encode_multipart_formdata

from airflow_provider_veo.net.session import TRANSPORT_ERRORS
from airflow_provider_veo.protocol import VeoImageError, VeoValidationError
from airflow_provider_veo.protocol.text import shortened
from airflow_provider_veo.storage.web import Answer, UrlRefusedError, Web, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_veo.connection import VeoConnection
    from airflow_provider_veo.net.deadline import Deadline
    from airflow_provider_veo.protocol.api import ApiRequest

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""Maximum of all images of a request together."""
FETCH_SECONDS = 60.0
"""Maximum seconds to fetch an image, redirects included, for each try."""
_TRIES = 3
_NOTHING_SENT = "The images of the request can't be used. Nothing was sent or billed."
_NOT_ENCODED = "The request can't be encoded. Nothing was sent or billed."
_KINDS: Mapping[bytes, str] = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"RIFF": "webp",
    b"BM": "bmp",
}
"""Kinds of images by their first bytes. The host's headers are not trusted for this."""


class _Refused(Exception):
    """An image can't be used, and never could."""


@dataclass(frozen=True)
class Prepared:
    """
    A create that can be sent.

    :param request: to the relay's API.
    :param content: its body.
    :param content_type: the body's.
    """

    request: ApiRequest
    content: bytes = field(repr=False)
    content_type: str = "application/json"


def prepare(request: ApiRequest, settings: VeoConnection) -> Prepared:
    """
    Encode the body of a create. Blocks while images are fetched. Costs nothing.

    :param request: with a body.
    :param settings: the connection.
    :raises VeoValidationError: an image can't be used, or a field can't be encoded. All mistakes are named.
    :raises VeoImageError: an image can't be fetched now.
    """
    if not request.files:
        return Prepared(request, _as_json(request.fields))
    parts = _as_parts(request.fields or {})
    files = _load([image for _, image in request.files], settings)
    parts += [(name, file) for (name, _), file in zip(request.files, files, strict=True)]
    return Prepared(request, *encode_multipart_formdata(parts))


def _as_json(fields: Mapping[str, Any] | None) -> bytes:
    try:
        return json.dumps(fields, allow_nan=False).encode("ascii")
    except ValueError as error:
        raise VeoValidationError(_NOT_ENCODED, [str(error)]) from None


def _as_parts(fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    parts, mistakes = [], []
    for name, value in fields.items():
        try:
            text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
            parts.append((name.encode().decode(), text.encode()))
        except ValueError as error:  # also of a lone surrogate, which JSON can express and UTF-8 can't
            mistakes.append(f"{shortened(ascii(name), 100)}: {error}")
    if mistakes:
        raise VeoValidationError(_NOT_ENCODED, mistakes)
    return parts


def _load(images: list[str], settings: VeoConnection) -> list[tuple[str, bytes, str]]:
    files: list[tuple[str, bytes, str]] = []
    mistakes = []
    for number, image in enumerate(images):
        room = MAX_IMAGE_BYTES - sum(len(content) for _, content, _ in files)
        try:
            content = _decoded(image, room) if image[:5].lower() == "data:" else _fetched(image, settings, room)
            kind = _kind_of(content)
        except _Refused as error:
            mistakes.append(f"images[{number}]: {error}")
        else:
            files.append((f"image-{number + 1}.{kind}", content, f"image/{kind}"))
    if mistakes:
        raise VeoValidationError(_NOTHING_SENT, mistakes)
    return files


def _kind_of(content: bytes) -> str:
    for beginning, kind in _KINDS.items():
        if content.startswith(beginning) and (kind != "webp" or content[8:12] == b"WEBP"):
            return kind
    raise _Refused(f"it is none of {', '.join(_KINDS.values())}; its first bytes are {content[:16]!r}")


def _decoded(image: str, room: int) -> bytes:
    encoded = image.partition(",")[2]
    if len(encoded) * 3 // 4 > room + 2:
        raise _too_large()
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Refused(f"its Base64 is not valid: {error}") from None


def _too_large() -> _Refused:
    return _Refused(f"the images have more than {MAX_IMAGE_BYTES:,} bytes together")


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(VeoImageError),
    stop=tenacity.stop_after_attempt(_TRIES),
    wait=tenacity.wait_exponential_jitter(max=5),
    reraise=True,
)
def _fetched(url: str, settings: VeoConnection, room: int) -> bytes:
    web = Web(settings, with_key=False)
    ends = time.monotonic() + FETCH_SECONDS
    try:
        with (
            contextlib.closing(web),
            web.get(url, {"Accept-Encoding": "identity"}, FETCH_SECONDS) as answer,
            answer.ended_after(max(0.0, ends - time.monotonic())) as deadline,
        ):
            return _content(url, answer, deadline, room)
    except UrlRefusedError as error:
        raise _Refused(f"{shown(url)} is refused: {error}. {error.hint}") from None
    except TRANSPORT_ERRORS as error:
        raise _not_fetched(url, web.describe(error)) from None


def _content(url: str, answer: Answer, deadline: Deadline, room: int) -> bytes:
    if answer.fails_for_now:
        raise _not_fetched(url, f"its host answered HTTP {answer.status}")
    if answer.status != 200:
        raise _Refused(f"{shown(url)} can't be fetched: its host answered HTTP {answer.status}")
    announced = answer.headers.get("Content-Length", "")
    body = bytearray()
    while len(body) <= room and (chunk := answer.read()):
        body += chunk
    if deadline.is_over.is_set():  # it closes the connection, which looks like the end of a body without a length
        raise _not_fetched(url, f"it was not complete within {FETCH_SECONDS:g} s")
    if len(body) > room:
        raise _too_large()
    if announced.isascii() and announced.isdecimal() and len(body) != int(announced[:18]):
        raise _not_fetched(url, f"{len(body):,} of {shortened(announced, 20)} bytes arrived")
    return bytes(body)


def _not_fetched(url: str, what: str) -> VeoImageError:
    return VeoImageError(
        f"Tried to fetch the image {shown(url)}, to upload it to the relay: {what}.\n"
        "Nothing was sent or billed. It is safe to retry. If this persists, check the image's host."
    )
