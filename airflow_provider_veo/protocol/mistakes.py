"""Messages for violations of the request's schema: which field, what was given, what is allowed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.protocol.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_veo.protocol.models import VeoModel


@dataclass(frozen=True)
class Broken:
    """A value that violates a keyword of the schema."""

    path: tuple[str | int, ...]
    keyword: str
    value: Any
    allowed: Any = None


def explain(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    """
    Describe a violation in one line.

    :param broken: the violation.
    :param model: the requested model, if it is known.
    :param catalog: the models to choose from.
    """
    field = str(broken.path[0]) if broken.path else ""
    item = "[]" if len(broken.path) > 1 else ""
    sentence = _SENTENCES.get((field + item, broken.keyword)) or _SENTENCES.get((field + item, "")) or _other
    where = field + "".join(f"[{part}]" for part in broken.path[1:])
    return (f"{where}: " if where else "") + sentence(broken, model, catalog)


def _given(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


def _names(models: Mapping[str, VeoModel], *, having: Callable[[VeoModel], bool]) -> str:
    return ", ".join(sorted(name for name, model in models.items() if having(model))) or "none"


def _unknown_model(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    name = broken.value
    if not isinstance(name, str) or not name:
        return (
            f"expected a model, got {_given(name)}; set the task's model, or default_model in the connection. "
            f"Known models: {', '.join(sorted(catalog))}"
        )
    known = f"Known models: {', '.join(sorted(catalog))}"
    hint = " ".join(filter(None, (did_you_mean(name, catalog, most=3), known)))
    addition = json.dumps({name[:60]: {"max_images": 0, "aspect_ratio": True}})
    return (
        f"{_given(name)} is not a known model; {hint}. "
        f"If the relay has it, add it to the connection's extra: "
        f'"models": {addition}'
    )


def _too_many_images(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    assert model is not None  # noqa: S101  the limit comes from a model
    if not model.max_images:
        takers = _names(catalog, having=lambda other: other.max_images > 0)
        return f"{model.name} takes no images, got {len(broken.value)}; models that do: {takers}"
    meaning = f" ({model.image_meaning})" if model.image_meaning else ""
    plural = "image" if model.max_images == 1 else "images"
    return f"{model.name} takes at most {model.max_images} {plural}{meaning}, got {len(broken.value)}"


def _not_an_image(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    value = broken.value
    hint = ""
    if isinstance(value, str) and not value.lower().startswith(("http:", "https:", "data:")):
        hint = (
            "; this is a file in object storage: give a presigned http(s) URL of it"
            if "://" in value and not value.lower().startswith("file:")
            else "; the relay can't read a local file: upload it and give its URL, or send it as a data:image/ URI"
        )
    return f"expected an http(s) URL or a data:image/…;base64,… URI, got {_given(value)}{hint}"


def _not_images(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    return (
        "expected a list of images, a string that holds a JSON or Python list, or a single URL, "
        f"got {_given(broken.value)}"
    )


def _image_twice(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    twice = [value for index, value in enumerate(broken.value) if value in broken.value[:index]]
    return f"must be unique, got duplicates: {', '.join(map(_given, twice))}"


def _wrong_aspect_ratio(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    if broken.value == "9:16" and model is not None:
        able = _names(catalog, having=lambda other: other.aspect_ratio)
        return (
            f"{model.name} doesn't honour it: the video would be billed but come out 16:9, got '9:16'; "
            f"models that do: {able}"
        )
    return f"expected {' or '.join(broken.allowed)}, got {_given(broken.value)}"


def _not_a_boolean(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    return f"expected true or false (yes or no, on or off, 1 or 0), got {_given(broken.value)}"


def _no_upsampling(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    return "this relay's API has no upsampling: set it to false"


def _no_prompt(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    return f"expected a non-empty string, got {_given(broken.value)}"


def _missing(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    return f"fields are missing: {', '.join(name for name in broken.allowed if name not in broken.value)}"


def _other(broken: Broken, model: VeoModel | None, catalog: Mapping[str, VeoModel]) -> str:
    return f"breaks the rule {broken.keyword} {_given(broken.allowed)}, got {_given(broken.value)}"


_SENTENCES: dict[tuple[str, str], Callable[[Broken, VeoModel | None, Mapping[str, VeoModel]], str]] = {
    ("", "required"): _missing,
    ("model", ""): _unknown_model,
    ("prompt", ""): _no_prompt,
    ("images", "maxItems"): _too_many_images,
    ("images", "uniqueItems"): _image_twice,
    ("images", "type"): _not_images,
    ("images[]", ""): _not_an_image,
    ("aspect_ratio", ""): _wrong_aspect_ratio,
    ("enhance_prompt", ""): _not_a_boolean,
    ("enable_upsample", ""): _not_a_boolean,
    ("enable_upsample", "const"): _no_upsampling,
}
"""Message by field and keyword. An empty keyword stands for all others of the field."""
