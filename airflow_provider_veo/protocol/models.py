"""The model catalog: how many images a model takes, what they mean, and whether it honours the aspect ratio.

``seed`` is the API document that this provider was written for; ``family`` is what the documentation of other relays
with the same format agrees on. Relays add models every few weeks: a connection's ``models`` extends the catalog, or
overrides rows of it, without a release of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_veo.protocol.errors import VeoValidationError

FIRST_FRAME = "first frame"
FIRST_AND_LAST_FRAME = "first frame, last frame"
ELEMENTS = "elements of the video"


@dataclass(frozen=True)
class VeoModel:
    """
    One model and its limits.

    :param name: the name in requests.
    :param source: where the row comes from: ``seed``, ``family`` or ``connection``.
    :param max_images: maximum number of images; 0 for a text-only model.
    :param image_meaning: what the model uses the images for.
    :param aspect_ratio: whether it honours ``aspect_ratio``. One that doesn't always makes 16:9.
    :param upsampling: whether it can be asked for the upsampled file.
    """

    name: str
    source: str
    max_images: int = 0
    image_meaning: str = ""
    aspect_ratio: bool = False
    upsampling: bool = True


class Catalog(Mapping[str, VeoModel]):
    """
    Models by name.

    :param models: the known ones.
    :param others: what is assumed of every other name. ``None`` if there are no other models.
    """

    def __init__(self, models: Iterable[VeoModel], others: VeoModel | None = None) -> None:
        self._models = {model.name: model for model in models}
        self._others = others

    def __getitem__(self, name: str) -> VeoModel:
        """Return a model. An open catalog has one of every name that is not blank."""
        if name in self._models or self._others is None or not name.strip():
            return self._models[name]
        return replace(self._others, name=name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the known models."""
        return iter(self._models)

    def __len__(self) -> int:
        """Return the number of known models."""
        return len(self._models)

    def extended(self, additions: Mapping[str, Any]) -> Catalog:
        """
        Return the catalog with a connection's ``models`` added.

        Settings that an addition omits come from the known model of that name, or else are the strictest: no images, no
        aspect ratio. A wrong default is then an error message, not a billed video that looks wrong.

        :param additions: e.g. ``{"veo4-fast": {"max_images": 2, "aspect_ratio": true}}``.
        :raises VeoValidationError: naming every mistake in ``additions``.
        """
        models = dict(self._models)
        mistakes: list[str] = []
        for name, settings in additions.items():
            found = _mistakes(name, settings)
            mistakes += found
            if not found:
                base = models.get(name, VeoModel(name, "connection", upsampling=self._upsampling))
                models[name] = replace(base, source="connection", **settings)
        if mistakes:
            raise VeoValidationError("The additional models are not valid.", mistakes)
        return Catalog(models.values(), self._others)

    @property
    def _upsampling(self) -> bool:
        return self._others is None or self._others.upsampling


_ROWS = (
    VeoModel("veo2", "seed"),
    VeoModel("veo2-fast", "seed"),
    VeoModel("veo2-pro", "seed"),
    VeoModel("veo2-fast-frames", "seed", 2, FIRST_AND_LAST_FRAME),
    VeoModel("veo2-fast-components", "seed", 3, ELEMENTS),
    VeoModel("veo3", "seed", aspect_ratio=True),
    VeoModel("veo3-fast", "seed", aspect_ratio=True),
    VeoModel("veo3-pro", "seed", aspect_ratio=True),
    VeoModel("veo3-pro-frames", "seed", 1, FIRST_FRAME, aspect_ratio=True),
    # The seed lists these two without saying how many images; an example of the family sends 2.
    VeoModel("veo3-frames", "seed, family", 2, FIRST_AND_LAST_FRAME, aspect_ratio=True),
    VeoModel("veo3-fast-frames", "seed, family", 2, FIRST_AND_LAST_FRAME, aspect_ratio=True),
    # Not in the seed's list, but in its image rule and its example.
    VeoModel("veo3.1-components", "seed", 3, ELEMENTS, aspect_ratio=True),
    VeoModel("veo3.1-fast-components", "family", 3, ELEMENTS, aspect_ratio=True),
    VeoModel("veo3.1-components-4k", "family", 3, ELEMENTS, aspect_ratio=True),
    VeoModel("veo2-pro-components", "family", 3, ELEMENTS),
    *(
        VeoModel(name, "family", 2, FIRST_AND_LAST_FRAME, aspect_ratio=True)
        for name in ("veo3.1", "veo3.1-fast", "veo3.1-pro", "veo3.1-4k", "veo3.1-pro-4k")
    ),
)

CATALOG = Catalog(_ROWS)
"""The built-in models of the unified format."""

_ANY = VeoModel("", "gateway", 3, aspect_ratio=True, upsampling=False)
OPEN_CATALOG = Catalog(
    [
        *(replace(row, upsampling=False) for row in _ROWS),
        replace(_ANY, name="veo_3_1-components", source="family", image_meaning=ELEMENTS),
    ],
    others=_ANY,
)
"""
openai: the models of a gateway have the names that its administrator gave them, so any name is a model. Three images
are the most that any model of Veo takes.
"""

_SETTINGS: Mapping[str, tuple[type, str]] = {
    "max_images": (int, "a whole number, 0 or more"),
    "image_meaning": (str, "a string, such as 'first frame'"),
    "aspect_ratio": (bool, "true or false"),
}


def _mistakes(name: str, settings: object) -> list[str]:
    where = f"models: {name}"
    if not name.strip():
        return ["models: a model's name must not be blank"]
    if not isinstance(settings, Mapping):
        return [f'{where}: expected an object such as {{"max_images": 1, "aspect_ratio": true}}, got {settings!r}']
    found = [
        f"{where}: unknown setting {key!r}, expected one of {', '.join(_SETTINGS)}"
        for key in settings
        if key not in _SETTINGS
    ]
    for key, (kind, expected) in _SETTINGS.items():
        if key not in settings:
            continue
        value = settings[key]
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            found.append(f"{where}: {key} must be {expected}, got {value!r}")
    return found
