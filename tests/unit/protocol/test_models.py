"""The catalog is the table of the API's description, and a connection extends it."""

import pytest

from airflow_provider_veo.protocol import VeoValidationError, models

# name: images at most, meaning, honours aspect_ratio. Copied from the API's description by hand.
TABLE = {
    "veo2": (0, "", False),
    "veo2-fast": (0, "", False),
    "veo2-pro": (0, "", False),
    "veo2-fast-frames": (2, "first frame, last frame", False),
    "veo2-fast-components": (3, "elements of the video", False),
    "veo3": (0, "", True),
    "veo3-fast": (0, "", True),
    "veo3-pro": (0, "", True),
    "veo3-pro-frames": (1, "first frame", True),
    "veo3-frames": (2, "first frame, last frame", True),
    "veo3-fast-frames": (2, "first frame, last frame", True),
    "veo3.1-components": (3, "elements of the video", True),
    "veo2-pro-components": (3, "elements of the video", False),
    "veo3.1-fast-components": (3, "elements of the video", True),
    "veo3.1-components-4k": (3, "elements of the video", True),
    "veo3.1": (2, "first frame, last frame", True),
    "veo3.1-fast": (2, "first frame, last frame", True),
    "veo3.1-pro": (2, "first frame, last frame", True),
    "veo3.1-4k": (2, "first frame, last frame", True),
    "veo3.1-pro-4k": (2, "first frame, last frame", True),
}


def test_the_catalog_is_the_table():
    rows = {name: (model.max_images, model.image_meaning, model.aspect_ratio) for name, model in models.CATALOG.items()}
    assert rows == TABLE


def test_every_row_names_its_source():
    assert {model.source for model in models.CATALOG.values()} <= {"seed", "family", "seed, family"}


def test_an_addition_that_says_little_is_taken_strictly():
    model = models.CATALOG.extended({"veo4": {}})["veo4"]
    assert (model.max_images, model.aspect_ratio, model.source) == (0, False, "connection")


def test_an_addition_may_correct_a_known_model():
    model = models.CATALOG.extended({"veo3.1": {"max_images": 1}})["veo3.1"]
    assert (model.max_images, model.aspect_ratio, model.source) == (1, True, "connection")
    assert models.CATALOG["veo3.1"].max_images == 2


def test_an_open_catalog_has_a_model_of_every_name():
    catalog = models.OPEN_CATALOG.extended({"studio-veo": {"max_images": 1}})
    assert (catalog["gemini/veo-3.1"].name, catalog["gemini/veo-3.1"].max_images) == ("gemini/veo-3.1", 3)
    assert catalog["studio-veo"].max_images == 1
    assert catalog["veo3-pro-frames"].max_images == 1
    assert "gemini/veo-3.1" not in list(catalog)
    assert not any(catalog[name].upsampling for name in ("gemini/veo-3.1", "studio-veo", "veo3"))
    for blank in ("", " "):
        assert blank not in catalog


def test_all_mistakes_of_all_additions_are_named():
    with pytest.raises(VeoValidationError) as caught:
        models.CATALOG.extended(
            {
                "a": {"max_images": -1, "aspect_ratio": "yes"},
                "b": [],
                "c": {"frames": 2},
                " ": {},
                "d": {"max_images": True, "image_meaning": 3},
            }
        )
    text = "\n".join(caught.value.mistakes)
    for part in ("a: max_images", "a: aspect_ratio", "b: expected an object", "c: unknown setting 'frames'", "blank"):
        assert part in text
    assert "d: max_images" in text
    assert "d: image_meaning" in text
