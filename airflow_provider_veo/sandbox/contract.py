"""
What a relay accepts: its models and the rules for a request body, taken from the API document alone.

This is deliberately a second, independent implementation. It shares nothing with the project's own payload code. It
accepts what real relays accept from real clients, and is strict about everything else, so that a test fails where a
customer's money would be at risk.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from airflow_provider_veo.sandbox.answers import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNIFIED, OPENAI = "unified", "openai"
"""The two forms of the API, by their names in connections."""
ASPECT_RATIOS = ("16:9", "9:16")
FIELD_TYPES: dict[str, type] = {
    "model": str,
    "prompt": str,
    "enhance_prompt": bool,
    "enable_upsample": bool,  # a string in the API document's table, a boolean in both of its examples
    "aspect_ratio": str,
}
"""The required fields of a create request (API document)."""
DEFAULTS: dict[str, Any] = {"enhance_prompt": False, "enable_upsample": False, "aspect_ratio": "16:9"}
"""Fields that relays don't insist on, and what they take instead (family)."""
_BOOLEANS = {"true": True, "false": False}


@dataclasses.dataclass(frozen=True)
class Model:
    """What one model supports."""

    max_images: int = 0
    portrait: bool = False
    """Whether it supports 9:16."""


MODELS: Mapping[str, Model] = {
    # API document
    "veo2": Model(),
    "veo2-fast": Model(),
    "veo2-pro": Model(),
    "veo2-fast-frames": Model(max_images=2),
    "veo2-fast-components": Model(max_images=3),
    "veo3": Model(portrait=True),
    "veo3-fast": Model(portrait=True),
    "veo3-pro": Model(portrait=True),
    "veo3-pro-frames": Model(max_images=1, portrait=True),
    "veo3.1-components": Model(max_images=3, portrait=True),
    # API document, which states no limit; family
    "veo3-frames": Model(max_images=2, portrait=True),
    "veo3-fast-frames": Model(max_images=2, portrait=True),
    # family
    "veo2-pro-components": Model(max_images=3),
    "veo3.1": Model(max_images=2, portrait=True),
    "veo3.1-fast": Model(max_images=2, portrait=True),
    "veo3.1-pro": Model(max_images=2, portrait=True),
    "veo3.1-4k": Model(max_images=2, portrait=True),
    "veo3.1-pro-4k": Model(max_images=2, portrait=True),
    "veo3.1-fast-components": Model(max_images=3, portrait=True),
    "veo3.1-components-4k": Model(max_images=3, portrait=True),
    # family, in the form of OpenAI
    "veo_3_1": Model(max_images=2, portrait=True),
    "veo_3_1-fast": Model(max_images=2, portrait=True),
    "veo_3_1-4K": Model(max_images=2, portrait=True),
    "veo_3_1-fast-4K": Model(max_images=2, portrait=True),
    "veo_3_1-components": Model(max_images=3, portrait=True),
}
"""All models. Relays choose a channel by the model, in whichever form it was sent."""


@dataclasses.dataclass(frozen=True)
class Order:
    """A valid create request, in either form."""

    model: str
    prompt: str
    images: tuple[str, ...]
    enhance_prompt: bool
    enable_upsample: bool
    aspect_ratio: str
    api: str = UNIFIED
    """The form it was sent in. The fields below are those of `openai`."""
    seconds: str = ""
    size: str = ""


def catalog(extra_models: Iterable[str] = ()) -> dict[str, Model]:
    """
    Return the models by name.

    :param extra_models: Additional models, each `NAME[,images=N][,9:16]`.
    :raises ValueError: One of them is invalid.
    """
    models = dict(MODELS)
    for text in extra_models:
        match = re.fullmatch(r"([\w.-]+)(?:,images=(\d+))?(,9:16)?", text)
        if not match:
            raise ValueError(f"extra_models: expected NAME[,images=N][,9:16], got {text!r}")
        models[match[1]] = Model(max_images=int(match[2] or 0), portrait=bool(match[3]))
    return models


def read_order(body: bytes, models: Mapping[str, Model], strict: bool = False) -> Order:
    """
    Parse and validate a create request.

    :param body: The raw request body.
    :param strict: Insist on the fields and types of the API document, as most relays don't.
    :raises Refusal: It is invalid. A 400 lists every mistake.
    """
    document = read_json(body)
    if not strict:
        document = _completed(document)
    name = str(document.get("model", ""))
    require_channel(document.get("model"), models)
    mistakes = [*_field_mistakes(document)]
    if not mistakes:
        count = len(document.get("images", ()))
        mistakes = [*model_mistakes(name, models[name], count, document["aspect_ratio"])]
    if mistakes:
        raise Refusal(400, "; ".join(mistakes))
    images = tuple(document.get("images", ()))
    return Order(images=images, **{field: document[field] for field in FIELD_TYPES})


def require_channel(name: Any, models: Mapping[str, Model]) -> None:
    """
    Require a model, if it is a name, to be known. Relays choose a channel by it before they validate the rest.

    :raises Refusal: It is unknown.
    """
    if isinstance(name, str) and name and name not in models:
        raise Refusal(503, f"分组 default 下模型 {name} 无可用渠道", "model_not_found")


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """Return what relays make of a body, before they validate it: null is missing, and "true" is true (family)."""
    given = {name: value for name, value in document.items() if value is not None}
    if given.get("images") == []:
        del given["images"]
    for name, kind in FIELD_TYPES.items():
        if kind is bool and isinstance(given.get(name), str):
            given[name] = _BOOLEANS.get(given[name].lower(), given[name])
    return DEFAULTS | given


def read_json(body: bytes) -> dict[str, Any]:
    """
    Return a body that is a JSON object.

    :raises Refusal: It is something else.
    """

    def not_json(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    try:
        document = json.loads(body.decode("utf-8"), parse_constant=not_json)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise Refusal(400, "the body is not a JSON object")
    return document


def _field_mistakes(document: dict[str, Any]) -> Iterable[str]:
    for field, kind in FIELD_TYPES.items():
        if field not in document:
            yield f"{field} is required"
        elif not isinstance(document[field], kind):
            yield f"{field} must be a {'boolean' if kind is bool else 'string'}"
    if isinstance(document.get("model"), str) and not document["model"]:
        yield "model is empty"
    yield from prompt_mistakes(document.get("prompt"))
    ratio = document.get("aspect_ratio")
    if isinstance(ratio, str) and ratio not in ASPECT_RATIOS:
        yield f"aspect_ratio must be one of {', '.join(ASPECT_RATIOS)}"
    if "images" in document:
        yield from _image_mistakes(document["images"])


def _image_mistakes(images: Any) -> Iterable[str]:
    if not isinstance(images, list) or not images:
        yield "images must be a non-empty list if present"
        return
    for number, image in enumerate(images):
        if not is_image(image):
            yield f"images[{number}] is neither an http(s) URL nor a data:image URI"


def prompt_mistakes(prompt: Any) -> Iterable[str]:
    """Yield what is wrong with a prompt, if it is a string."""
    if isinstance(prompt, str) and not prompt.strip():
        yield "prompt is empty"
    if isinstance(prompt, str) and not _is_unicode(prompt):
        yield "prompt contains half a surrogate pair"


def model_mistakes(name: str, model: Model, images: int, aspect_ratio: str) -> Iterable[str]:
    """Yield what a model does not support: the number of images, or the aspect ratio."""
    if images > model.max_images:
        yield f"{name} takes at most {model.max_images} images, not {images}"
    if aspect_ratio == "9:16" and not model.portrait:
        yield f"{name} does not support aspect_ratio 9:16"


def is_image(value: Any) -> bool:
    """Return whether this is an http(s) URL or a base64 data:image URI."""
    if not isinstance(value, str) or value != value.strip():
        return False
    if value.startswith("data:"):
        head, _, data = value.partition(",")
        return bool(re.fullmatch(r"data:image/[\w.+-]+;base64", head)) and _is_base64(data)
    try:
        address = urlsplit(value)
        return address.scheme in ("http", "https") and bool(address.hostname) and " " not in value
    except ValueError:
        return False


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_base64(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return False
