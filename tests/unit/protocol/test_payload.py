"""What may be sent: every rule of the request, in the words that a person reads."""

import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from airflow_provider_veo.protocol import VeoValidationError, models, payload

IMAGE = "https://example.com/a.png"

SEED_REQUEST = {
    "prompt": "牛飞上天了",
    "model": "veo3.1-components",
    "images": [
        "https://filesystem.site/cdn/20250612/VfgB5ubjInVt8sG6rzMppxnu7gEfde.png",
        "https://filesystem.site/cdn/20250612/998IGmUiM2koBGZM3UnZeImbPBNIUL.png",
        "https://iknow-pic.cdn.bcebos.com/5882b2b7d0a20cf4ced1ab5f64094b36adaf99e9",
    ],
    "enhance_prompt": True,
    "enable_upsample": True,
    "aspect_ratio": "16:9",
}


def mistakes(**arguments):
    with pytest.raises(VeoValidationError) as caught:
        payload.build(**{"prompt": "a cow", "model": "veo3-fast", **arguments})
    return list(caught.value.mistakes)


def mistake(**arguments):
    (only,) = mistakes(**arguments)
    return only


def test_the_seeds_example_comes_out_as_the_seeds_json():
    built = payload.build(
        prompt="牛飞上天了",
        model="veo3.1-components",
        images=SEED_REQUEST["images"],
        enable_upsample=True,
    )
    assert json.loads(json.dumps(built)) == SEED_REQUEST


def test_defaults_are_sent_and_no_images_are_left_out():
    assert payload.build("a cow", "veo3-fast") == {
        "prompt": "a cow",
        "model": "veo3-fast",
        "enhance_prompt": True,
        "enable_upsample": False,
        "aspect_ratio": "16:9",
    }


@pytest.mark.parametrize("nothing", [None, "", "  ", "None", "null", "[]", [], (), "()"])
def test_no_images_in_every_form(nothing):
    assert "images" not in payload.build("a cow", "veo3.1", nothing)


@pytest.mark.parametrize(
    "given_images",
    [
        [IMAGE],
        (IMAGE,),
        pytest.param(iter([IMAGE]), id="an iterator"),
        f'["{IMAGE}"]',
        f"['{IMAGE}']",
        f"('{IMAGE}',)",
        IMAGE,
        f"  {IMAGE}\n",
    ],
    ids=str,
)
def test_images_in_every_form(given_images):
    assert payload.build("a cow", "veo3.1", given_images)["images"] == [IMAGE]


@pytest.mark.parametrize("image", [IMAGE, "http://x", "HTTPS://EXAMPLE.com/a", "data:image/png;base64,iVBORw0KGgo="])
def test_images_that_are_images(image):
    assert payload.build("a cow", "veo3.1", image)["images"] == [image]


@pytest.mark.parametrize("value", [True, "true", "True", "YES", "on", "1", 1, " t "])
def test_words_for_true(value):
    assert payload.build("a cow", "veo3-fast", enable_upsample=value)["enable_upsample"] is True


@pytest.mark.parametrize("value", [False, "false", "False", "no", "OFF", "0", 0, "f"])
def test_words_for_false(value):
    assert payload.build("a cow", "veo3-fast", enhance_prompt=value)["enhance_prompt"] is False


@pytest.mark.parametrize("value", ["maybe", "", None, 2, 1.5, [], "None"])
def test_what_is_no_boolean_is_named(value):
    assert mistake(enhance_prompt=value).startswith("enhance_prompt: expected true or false")


def test_too_many_images_in_the_words_of_the_model():
    images = [f"https://example.com/{n}" for n in range(4)]
    assert mistake(model="veo3.1-components", images=images) == (
        "images: veo3.1-components takes at most 3 images (elements of the video), got 4"
    )
    assert mistake(model="veo3-pro-frames", images=images[:2]) == (
        "images: veo3-pro-frames takes at most 1 image (first frame), got 2"
    )
    assert mistake(model="veo2-fast-frames", images=images[:3]) == (
        "images: veo2-fast-frames takes at most 2 images (first frame, last frame), got 3"
    )


def test_images_for_a_text_only_model_name_the_models_that_take_them():
    found = mistake(model="veo3", images=IMAGE)
    assert found.startswith("images: veo3 takes no images, got 1; models that do: ")
    assert "veo3.1-components" in found


@pytest.mark.parametrize("model", models.CATALOG.values(), ids=lambda model: model.name)
def test_every_model_takes_as_many_images_as_the_catalog_says_and_none(model):
    images = [f"https://example.com/{n}" for n in range(model.max_images)]
    assert len(payload.build("a cow", model.name, images).get("images", [])) == model.max_images
    payload.build("a cow", model.name)
    assert "images" in mistake(model=model.name, images=[*images, "https://example.com/more"])


@pytest.mark.parametrize("model", models.CATALOG.values(), ids=lambda model: model.name)
def test_portrait_only_where_the_model_honours_it(model):
    if model.aspect_ratio:
        assert payload.build("a cow", model.name, aspect_ratio="9:16")["aspect_ratio"] == "9:16"
    else:
        found = mistake(model=model.name, aspect_ratio="9:16")
        assert found.startswith(f"aspect_ratio: {model.name} doesn't honour it: the video would be billed")


@pytest.mark.parametrize("value", ["4:3", "", None, "16x9", 1.78, ["16:9"]])
def test_other_aspect_ratios_are_refused(value):
    assert mistake(aspect_ratio=value).startswith("aspect_ratio: expected 16:9 or 9:16, got ")


@pytest.mark.parametrize("value", ["", "  \n", None, ["a"], {}, True])
def test_a_prompt_must_say_something(value):
    assert mistake(prompt=value).startswith("prompt: expected a non-empty string, got ")


def test_a_number_that_native_rendering_made_of_a_prompt_is_a_prompt():
    assert payload.build(1984, "veo3-fast")["prompt"] == "1984"


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        ("./cow.png", "can't read a local file"),
        ("/data/cow.png", "can't read a local file"),
        ("file:///data/cow.png", "can't read a local file"),
        ("s3://bucket/cow.png", "presigned"),
        ("https:///no-host", "expected an http(s) URL"),
        ("https://example.com/a b.png", "expected an http(s) URL"),
        ("data:text/html;base64,AAAA", "expected an http(s) URL"),
        ("data:image/png;base64,", "expected an http(s) URL"),
        (7, "expected an http(s) URL"),
        (None, "expected an http(s) URL"),
        ("", "expected an http(s) URL"),
    ],
)
def test_what_is_no_image_is_named_with_a_hint(image, hint):
    found = mistake(model="veo3.1", images=[image])
    assert found.startswith("images[0]: expected an http(s) URL")
    assert hint in found


def test_an_image_that_is_there_twice():
    assert mistake(model="veo3.1-components", images=[IMAGE, IMAGE]) == (
        f"images: must be unique, got duplicates: '{IMAGE}'"
    )


@pytest.mark.parametrize("value", [{"a": 1}, 7, "[not a list", {IMAGE}, "[" * 100_000])
def test_what_is_no_list_of_images(value):
    assert any(found.startswith("images") for found in mistakes(model="veo3.1", images=value))


def test_an_unknown_model_gets_near_matches_and_the_way_to_add_it():
    found = mistake(model="veo3fast")
    assert "did you mean veo3-fast" in found
    assert '"models": {"veo3fast": {"max_images": 0, "aspect_ratio": true}}' in found


@pytest.mark.parametrize("value", [None, "", "  ", 0.5, []])
def test_no_model_says_where_to_set_one(value):
    assert "model" in mistake(model=value)


def test_a_model_of_the_connection_is_known():
    catalog = models.CATALOG.extended({"veo4-fast": {"max_images": 2, "aspect_ratio": True}})
    built = payload.build("a cow", "veo4-fast", [IMAGE, IMAGE + "2"], "9:16", catalog=catalog)
    assert built["model"] == "veo4-fast"
    with pytest.raises(VeoValidationError, match="veo4-fast takes at most 2 images, got 3"):
        payload.build("a cow", "veo4-fast", [IMAGE, IMAGE + "2", IMAGE + "3"], catalog=catalog)


def test_all_mistakes_are_reported_together():
    found = mistakes(
        prompt=" ",
        model="veo-9",
        images=["./a.png", 3],
        aspect_ratio="1:1",
        enhance_prompt="perhaps",
        enable_upsample="never",
        extra_body={"prompt": "another"},
    )
    fields = {line.partition(":")[0] for line in found}
    assert fields == {
        "prompt",
        "model",
        "images[0]",
        "images[1]",
        "aspect_ratio",
        "enhance_prompt",
        "enable_upsample",
        "extra_body",
    }


@pytest.mark.parametrize("value", [{"seed": 7}, '{"seed": 7}', "{'seed': 7}"])
def test_extra_body_is_added(value):
    assert payload.build("a cow", "veo3-fast", extra_body=value)["seed"] == 7


@pytest.mark.parametrize("name", ["prompt", "model", "images", "enhance_prompt", "enable_upsample", "aspect_ratio"])
def test_extra_body_overrides_nothing(name):
    assert mistake(extra_body={name: "x"}) == f"extra_body: {name!r} is a separate argument and can't be overridden"


@pytest.mark.parametrize("value", ["[1]", 7, {1: 2}, {"a": object()}, {"a": float("nan")}, "{broken"])
def test_extra_body_that_is_none(value):
    assert mistake(extra_body=value).startswith("extra_body: ")


def test_a_raw_body_is_checked_too():
    with pytest.raises(VeoValidationError, match="fields are missing: enhance_prompt, enable_upsample") as caught:
        payload.check({"model": "veo3", "prompt": "a cow", "aspect_ratio": "16:9"})
    assert len(caught.value.mistakes) == 1


def test_a_prompt_without_latin_letters_and_without_translation_is_sent_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        payload.build("牛飞上天了", "veo3-fast", enhance_prompt=False)
    assert "Veo reads English only" in caplog.text


@pytest.mark.parametrize(("prompt", "enhance"), [("牛飞上天了", True), ("a cow", False), ("牛 flies", False)])
def test_other_prompts_are_sent_without_a_warning(caplog, prompt, enhance):
    with caplog.at_level(logging.WARNING):
        payload.build(prompt, "veo3-fast", enhance_prompt=enhance)
    assert not caplog.records


@pytest.mark.parametrize("model", [None, *models.CATALOG.values()], ids=str)
def test_each_schema_is_a_valid_schema(model):
    Draft202012Validator.check_schema(payload.request_schema(model))


def test_literals_are_checked_by_the_same_schema_and_in_the_same_words():
    found = payload.literal_mistakes(
        {
            "prompt": " ",
            "model": 7,
            "images": ["./a.png", IMAGE, IMAGE],
            "aspect_ratio": "4:3",
            "enhance_prompt": "perhaps",
            "enable_upsample": "True",
            "extra_body": "[1]",
        }
    )
    assert [line.partition(":")[0] for line in found] == [
        "prompt",
        "images[0]",
        "images",
        "aspect_ratio",
        "enhance_prompt",
        "extra_body",
    ]
    assert mistake(aspect_ratio="4:3") in found


def test_literals_that_a_template_or_the_connection_may_still_mend_are_not_refused():
    assert payload.literal_mistakes({"model": None, "images": None, "aspect_ratio": "9:16", "prompt": "x"}) == []
    assert payload.literal_mistakes({"model": "veo9", "images": [IMAGE] * 1}) == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
plausible = {
    "prompt": st.text(max_size=30) | anything,
    "model": st.sampled_from([*models.CATALOG, "veo9"]) | anything,
    "images": st.lists(st.sampled_from([IMAGE, "http://a/b", "data:image/png;base64,AA", "./x"]), max_size=4)
    | anything,
    "aspect_ratio": st.sampled_from(["16:9", "9:16", "1:1"]) | anything,
    "enhance_prompt": st.booleans() | st.sampled_from(["true", "no", "x"]) | anything,
    "enable_upsample": st.booleans() | anything,
    "extra_body": st.none() | anything,
}


@settings(max_examples=400)
@given(st.fixed_dictionaries(plausible))
def test_no_arguments_make_a_body_that_the_schema_refuses(arguments):
    try:
        body = payload.build(**arguments)
    except VeoValidationError as error:
        assert error.mistakes
    else:
        Draft202012Validator(payload.request_schema(models.CATALOG[body["model"]])).validate(body)
        json.dumps(body, allow_nan=False)


@settings(max_examples=300)
@given(st.fixed_dictionaries(plausible))
def test_what_is_refused_in_a_dag_file_would_be_refused_in_the_task(arguments):
    if payload.literal_mistakes(arguments):
        with pytest.raises(VeoValidationError):
            payload.build(**arguments)
