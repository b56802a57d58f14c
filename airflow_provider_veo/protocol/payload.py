"""Builds and validates the body of a create request.

The rules are in ``schemas/create_request.json``; the limits of each model are added from the catalog. jsonschema
applies them to every request. :func:`literal_mistakes` applies the same file to the literals of a DAG file, without
loading jsonschema.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.protocol import coerce
from airflow_provider_veo.protocol.errors import VeoValidationError
from airflow_provider_veo.protocol.mistakes import Broken, explain
from airflow_provider_veo.protocol.models import CATALOG, VeoModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jsonschema.protocols import Validator

log = logging.getLogger(__name__)

_NOTHING_SENT = "The request for a video is not valid. Nothing was sent or billed."
_LATIN_LETTER = re.compile(r"[A-Za-zÀ-ɏ]")
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
MAX_REWORDED_CHARACTERS = 20_000
"""Of a prompt that a function returns. It is recorded, possibly in Airflow's database."""


@dataclass(frozen=True)
class VideoRequest:
    """
    The fields of a create request, from an operator or a row of a batch, with all templates rendered.

    Rendered strings are converted: ``"True"`` to a boolean, ``"['https://…']"`` to a list.

    :param prompt: what the video shows. Veo reads English; ``enhance_prompt`` translates (seed).
    :param model: name of a model in the catalog.
    :param images: http(s) URLs or ``data:image/…;base64,`` URIs: a sequence, a string holding a JSON or Python list,
        or a single one. ``None``, ``""``, ``"None"`` and ``[]`` mean no images. Their maximum number and meaning
        depend on the model.
    :param aspect_ratio: ``"16:9"`` or ``"9:16"``; the latter only for models that honour it.
    :param enhance_prompt: let the relay rewrite the prompt, and translate it to English.
    :param enable_upsample: request the upsampled file. A JSON boolean, as in the seed's examples.
    :param extra_body: additional fields of the relay. They can't override the fields above.
    """

    prompt: Any
    model: Any = None
    images: Any = None
    aspect_ratio: Any = "16:9"
    enhance_prompt: Any = True
    enable_upsample: Any = False
    extra_body: Any = None

    @classmethod
    def of(cls, operator: Any) -> VideoRequest:
        """Read the fields from an operator's attributes of the same names."""
        return cls(**{name: getattr(operator, name) for name in REQUEST_FIELDS})

    def body(self, catalog: Mapping[str, VeoModel] = CATALOG) -> dict[str, Any]:
        """
        Return the validated body of the create request.

        :param catalog: the models to choose from.
        :raises VeoValidationError: naming every mistake at once.
        """
        meant = {name: _COERCIONS[name](getattr(self, name)) for name in _SENT}
        if meant["images"] is None:
            del meant["images"]
        extra, mistakes = coerce.extra_body(self.extra_body)
        overriding = [name for name in extra if name in _SENT]
        mistakes += [f"extra_body: {name!r} is a separate argument and can't be overridden" for name in overriding]
        body = {**{name: value for name, value in extra.items() if name not in overriding}, **meant}
        check(body, catalog=catalog, mistakes=mistakes)
        return body


REQUEST_FIELDS = tuple(each.name for each in fields(VideoRequest))
"""The fields of a request: also the arguments of ``VeoCreateVideoOperator`` and the columns of a manifest."""
_SENT = ("prompt", "model", "images", "enhance_prompt", "enable_upsample", "aspect_ratio")


def build(*given: Any, catalog: Mapping[str, VeoModel] = CATALOG, **named: Any) -> dict[str, Any]:
    """Return the validated body of a :class:`VideoRequest` with these fields."""
    return VideoRequest(*given, **named).body(catalog)


def check(body: Mapping[str, Any], *, catalog: Mapping[str, VeoModel] = CATALOG, mistakes: Sequence[str] = ()) -> None:
    """
    Check a body against the schema of its model.

    :param body: the body of a create request.
    :param catalog: the models to choose from.
    :param mistakes: mistakes found before, to be reported together with the rest.
    :raises VeoValidationError: naming every mistake at once.
    """
    if hostile := _unreadable_images(body.get("images")):
        raise VeoValidationError(_NOTHING_SENT, [*mistakes, hostile])
    name = body.get("model")
    model = catalog.get(name) if isinstance(name, str) else None
    broken = [
        Broken(tuple(error.absolute_path), str(error.validator), error.instance, error.validator_value)
        for error in _validator(model).iter_errors(body)
    ]
    if model is None:
        broken = [Broken(("model",), "catalog", name), *(each for each in broken if each.path != ("model",))]
    found = [*mistakes, *dict.fromkeys(explain(each, model, catalog) for each in broken)]
    if found:
        raise VeoValidationError(_NOTHING_SENT, found)
    _warn_of_a_prompt_that_is_not_english(body)


def no_text_mistakes(prompt: str) -> list[str]:
    """Return the mistake in a prompt that is not text which can be stored anywhere."""
    return ["prompt: expected text without NUL characters and lone surrogates"] if _NO_TEXT.search(prompt) else []


def reworded(body: Mapping[str, Any], prompt: Any, *, catalog: Mapping[str, VeoModel] = CATALOG) -> dict[str, Any]:
    """
    Return a body with another prompt, which a function of the user has returned.

    :param body: the body with the prompt that was blocked.
    :param prompt: anything.
    :param catalog: the models to choose from.
    :raises VeoValidationError: it is not a valid prompt, or the same one.
    """
    mistakes = []
    if isinstance(prompt, str):
        mistakes += no_text_mistakes(prompt)
        if len(prompt) > MAX_REWORDED_CHARACTERS:
            mistakes.append(f"prompt: expected at most {MAX_REWORDED_CHARACTERS:,} characters, got {len(prompt):,}")
        if prompt == body["prompt"]:
            mistakes.append("prompt: expected another prompt, got the one that was blocked")
    changed = {**body, "prompt": prompt}
    check(changed, catalog=catalog, mistakes=mistakes)
    return changed


def _unreadable_images(images: Any) -> str | None:
    """Reject images that would make the validator slow: it compares all objects with each other."""
    if not isinstance(images, (list, tuple)):
        return None
    if len(images) > _MAX_IMAGES:
        return f"images: expected at most {_MAX_IMAGES}, got {len(images):,}"
    if any(isinstance(image, (dict, list, tuple)) for image in images):
        return "images: expected URLs or data URIs, got objects or lists"
    return None


def request_schema(model: VeoModel | None) -> dict[str, Any]:
    """
    Return the JSON Schema (Draft 2020-12) of a create request.

    :param model: add the limits of this model; ``None`` for the rules that all models share.
    """
    properties = {key: dict(value) for key, value in _base_schema()["properties"].items()}
    schema = {**_base_schema(), "properties": properties}
    if model is None:
        return schema
    properties["model"]["const"] = model.name
    properties["images"]["maxItems"] = model.max_images
    if not model.upsampling:
        properties["enable_upsample"]["const"] = False
    if not model.aspect_ratio:
        properties["aspect_ratio"]["enum"] = ["16:9"]
    return schema


def literal_mistakes(literals: Mapping[str, Any]) -> list[str]:
    """
    Return the mistakes in arguments that are wrong whatever the connection and the templates say.

    It applies the schema's keywords that concern a single field, so that a DAG file can be checked while it is parsed
    without loading jsonschema.

    :param literals: arguments of :func:`build` that hold no template.
    """
    properties = _base_schema()["properties"]
    found = []
    for field, value in literals.items():
        meant = _COERCIONS[field](value)
        if field == "extra_body":
            found += meant[1]
        elif meant is not None or field not in _MAY_BE_LEFT_OUT:
            found += [explain(broken, None, CATALOG) for broken in _broken(properties[field], meant, (field,))]
    return found


_MAX_IMAGES = 100
_COERCIONS: Mapping[str, Callable[[Any], Any]] = {
    "prompt": coerce.text,
    "model": coerce.text,
    "images": coerce.images,
    "enhance_prompt": coerce.boolean,
    "enable_upsample": coerce.boolean,
    "aspect_ratio": coerce.text,
    "extra_body": coerce.extra_body,
}

_MAY_BE_LEFT_OUT = ("images", "model")  # a model may come from the connection

_TYPES = {"string": str, "boolean": bool, "array": list}


def _broken(schema: Mapping[str, Any], value: Any, path: tuple[str | int, ...]) -> Iterator[Broken]:
    if "type" in schema and not isinstance(value, _TYPES[schema["type"]]):
        yield Broken(path, "type", value, schema["type"])
    elif "enum" in schema and value not in schema["enum"]:
        yield Broken(path, "enum", value, schema["enum"])
    elif "pattern" in schema and not re.search(schema["pattern"], value):
        yield Broken(path, "pattern", value, schema["pattern"])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _broken(schema["items"], item, (*path, index))
        if len(set(map(str, value))) < len(value):
            yield Broken(path, "uniqueItems", value, True)


@cache
def _base_schema() -> Mapping[str, Any]:
    file = Path(__file__).parent / "schemas" / "create_request.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


@lru_cache(maxsize=256)
def _validator(model: VeoModel | None) -> Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(request_schema(model))


def _warn_of_a_prompt_that_is_not_english(body: Mapping[str, Any]) -> None:
    prompt = body["prompt"]
    if not body["enhance_prompt"] and not _LATIN_LETTER.search(prompt):
        log.warning(
            "Veo reads English only, but the prompt %.60r has no Latin letter. With enhance_prompt=False it is not "
            "translated, and the video will likely not match it.",
            prompt,
        )
