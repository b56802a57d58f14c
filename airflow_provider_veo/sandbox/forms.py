"""Reads `multipart/form-data`: text fields, and what was uploaded with them. The content of uploads is not kept."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from airflow_provider_veo.sandbox.answers import Refusal

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import Message

MULTIPART = "multipart/form-data"
MOST_PARTS = 50
"""Maximum number of fields, and of files."""


@dataclasses.dataclass(frozen=True)
class Upload:
    """One uploaded file."""

    field: str
    name: str
    content_type: str
    size: int


@dataclasses.dataclass(frozen=True)
class Form:
    """The content of a form. If a field is given several times, the last one counts."""

    fields: dict[str, str]
    uploads: tuple[Upload, ...]


def content_type(headers: Headers) -> str:
    """Return the type of a request's body, in lower case and without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def read(request: Request, body: bytes) -> Form:
    """
    Return the content of a form.

    :param body: The request's body, which was already read from it.
    :raises Refusal: It is not a form, or has too many parts.
    """

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    again = Request(request.scope, receive)
    try:
        async with again.form(max_files=MOST_PARTS, max_fields=MOST_PARTS) as form:
            items = form.multi_items()
    except HTTPException as error:
        raise Refusal(400, f"the body is not a form: {error.detail}") from None
    except ValueError as error:  # earlier versions of starlette pass on what its parser raises
        raise Refusal(400, f"the body is not a form: {type(error).__name__}") from None
    fields = {name: value for name, value in items if isinstance(value, str)}
    uploads = [
        Upload(name, value.filename or "", value.content_type or "", value.size or 0)
        for name, value in items
        if isinstance(value, UploadFile)
    ]
    return Form(fields, tuple(uploads))
