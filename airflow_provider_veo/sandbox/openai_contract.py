"""
What a relay accepts in the form of the OpenAI Videos API: JSON, or a form with images.

Like `contract.py`, it shares nothing with the project's own payload code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.sandbox import forms
from airflow_provider_veo.sandbox.answers import Refusal
from airflow_provider_veo.sandbox.contract import (
    OPENAI,
    Order,
    model_mistakes,
    prompt_mistakes,
    read_json,
    require_channel,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import Request

    from airflow_provider_veo.sandbox.contract import Model
    from airflow_provider_veo.sandbox.forms import Upload

SIZES = {
    "1280x720": "16:9",
    "1920x1080": "16:9",
    "720x1280": "9:16",
    "1080x1920": "9:16",
}
"""The sizes, and the aspect ratio of each."""
DEFAULTS = {"seconds": "8", "size": "1280x720"}
LONGEST = 60
"""Maximum of `seconds`."""
REFERENCE = "input_reference"
REFERENCES = (REFERENCE, f"{REFERENCE}[]")
"""Names of the uploads. Clients that send several write the second."""


async def read_order(request: Request, body: bytes, models: Mapping[str, Model]) -> Order:
    """
    Parse and validate a create request.

    :param body: The request's body.
    :raises Refusal: It is invalid. A 400 lists every mistake.
    """
    kind = forms.content_type(request.headers)
    uploads: tuple[Upload, ...] = ()
    given: dict[str, Any]
    if kind == "application/json":
        given = read_json(body)
    elif kind == forms.MULTIPART:
        form = await forms.read(request, body)
        given, uploads = dict(form.fields), form.uploads
    else:
        raise Refusal(415, f"Content-Type must be application/json or {forms.MULTIPART}")
    fields = DEFAULTS | {name: value for name, value in given.items() if value is not None}
    images = tuple(upload for upload in uploads if upload.field in REFERENCES)
    require_channel(fields.get("model"), models)
    mistakes = [*_field_mistakes(fields), *_image_mistakes(fields, images)]
    if not mistakes:
        ratio = SIZES[fields["size"]]
        mistakes = [*model_mistakes(fields["model"], models[fields["model"]], len(images), ratio)]
    if mistakes:
        raise Refusal(400, "; ".join(mistakes))
    return Order(
        api=OPENAI,
        model=fields["model"],
        prompt=fields["prompt"],
        images=tuple(image.name for image in images),
        enhance_prompt=False,
        enable_upsample=False,
        aspect_ratio=SIZES[fields["size"]],
        seconds=_length(fields["seconds"]),
        size=fields["size"],
    )


def _field_mistakes(fields: dict[str, Any]) -> Iterable[str]:
    for name in ("model", "prompt"):
        if name not in fields:
            yield f"{name} is required"
        elif not isinstance(fields[name], str):
            yield f"{name} must be a string"
    if fields.get("model") == "":
        yield "model is empty"
    yield from prompt_mistakes(fields.get("prompt"))
    if not isinstance(fields["size"], str) or fields["size"] not in SIZES:
        yield f"size must be one of {', '.join(SIZES)}"
    if not re.fullmatch("[1-9][0-9]?", _length(fields["seconds"])) or int(_length(fields["seconds"])) > LONGEST:
        yield f"seconds must be a whole number from 1 to {LONGEST}, as a string"


def _length(seconds: Any) -> str:
    """Return a duration as OpenAI's clients send it, a string. Others send a number."""
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        return f"{seconds:.12g}"
    return seconds if isinstance(seconds, str) else ""


def _image_mistakes(fields: dict[str, Any], images: tuple[Upload, ...]) -> Iterable[str]:
    # Also `input_reference[image_url]`, as forms write objects. It would be billed without the image.
    if any(name.partition("[")[0] == REFERENCE for name in fields):
        yield f"{REFERENCE} must be an uploaded file"
    for number, image in enumerate(images):
        if not image.content_type.lower().startswith("image/"):
            yield f"{REFERENCE} {number}: unsupported mimetype {image.content_type!r}"
        if not image.size:
            yield f"{REFERENCE} {number}: the file is empty"
