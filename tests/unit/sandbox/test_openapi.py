"""The OpenAPI description is valid, is published everywhere alike, and describes what the sandbox answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from airflow_provider_veo.sandbox import openapi
from airflow_provider_veo.sandbox.cli import main

from .test_contract import PICTURE
from .test_openai import ORDER, PNG, create, path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_veo.sandbox import Sandbox

    from .conftest import Client

COPY = Path(__file__).parents[3] / "docs" / "openapi.json"
DOCUMENT = openapi.document()


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """Return a validator of a schema of the description, with its references."""
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def assert_described(answer: Any, operation: dict[str, Any]) -> None:
    """Compare an answer with what an operation's description says of its status and its type."""
    described = operation["responses"][str(answer.status_code)]
    if "$ref" in described:
        described = DOCUMENT["components"]["responses"][described["$ref"].rpartition("/")[2]]
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if answer.content:
        assert kind in described["content"], answer.text
    if kind == "application/json":
        validator(described["content"][kind]["schema"]).validate(answer.json())


def media_types() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every description of a content that has examples, with its place."""

    def walk(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(value, dict):
            if "examples" in value and "schema" in value:
                yield place, value
            for name, each in value.items():
                yield from walk(each, f"{place} {name}")

    yield from walk(DOCUMENT["paths"], "")
    yield from walk(DOCUMENT["components"]["responses"], "")


def test_description_is_valid_openapi() -> None:
    validators = pytest.importorskip("openapi_spec_validator", reason="it does not take the lowest jsonschema")
    validators.validate(DOCUMENT, cls=validators.OpenAPIV31SpecValidator)


def test_description_is_published_everywhere_alike(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert COPY.read_text() == openapi.text(), "run: airflow-veo-sandbox --openapi > docs/openapi.json"
    served = client.send("GET", "/openapi.json", headers={"Authorization": None})
    assert served.headers["content-type"].startswith("application/json")
    assert served.json() == DOCUMENT == json.loads(openapi.text())
    assert client.sandbox.stats()["requests"] == {}
    assert main(["--openapi"]) == 0
    assert capsys.readouterr().out == openapi.text()


def test_every_example_is_what_its_schema_describes() -> None:
    count = 0
    for place, media_type in media_types():
        for name, example in media_type["examples"].items():
            count += 1
            errors = [error.message for error in validator(media_type["schema"]).iter_errors(example["value"])]
            assert not errors, f"{place} {name}: {errors}"
    assert count > 40


def test_every_endpoint_of_the_relay_is_described() -> None:
    routes = set(DOCUMENT["paths"])
    assert routes == {
        *("/v1/video/create", "/v1/video/query", "/v1/models", "/files/{name}"),
        *("/v1/videos", "/v1/videos/{video_id}", "/v1/videos/{video_id}/content"),
    }
    for operations in DOCUMENT["paths"].values():
        for operation in operations.values():
            assert {"307", "401", "421", "429", "500", "502", "503"} <= operation["responses"].keys()


def test_answers_of_the_unified_form_are_described(client: Client, sandbox: Sandbox) -> None:
    post, get = DOCUMENT["paths"]["/v1/video/create"]["post"], DOCUMENT["paths"]["/v1/video/query"]["get"]
    full = {"model": "veo3.1", "images": [PICTURE], "enable_upsample": True, "enhance_prompt": True}
    for shape in ("status", "chat"):
        sandbox.configure(response_shape=shape)
        assert_described(client.create(), post)
    for answer in (client.create(prompt=""), client.create(model="x"), client.create(headers={"Authorization": ""})):
        assert_described(answer, post)
    assert_described(client.create(headers={"Content-Type": "text/plain"}), post)
    assert_described(client.query("x"), get)
    for seconds in (1000, 0):
        sandbox.configure(generation_seconds=seconds)
        assert_described(client.query(client.accepted(**full)), get)
        assert_described(client.query(client.accepted()), get)
    for fault in ("failed", "upsampling-failed", "query:bare=502", "query:status=500", "query:quota", "query:redirect"):
        sandbox.set_faults(fault)
        assert_described(client.query(client.accepted()), get)
    sandbox.set_faults()
    sandbox.configure(strict=True)
    assert_described(client.create(headers={"Accept": "text/html"}), post)
    assert_described(client.query("x"), get)


def test_answers_of_the_openai_form_are_described(client: Client, sandbox: Sandbox) -> None:
    post = DOCUMENT["paths"]["/v1/videos"]["post"]
    get = DOCUMENT["paths"]["/v1/videos/{video_id}"]["get"]
    file = DOCUMENT["paths"]["/v1/videos/{video_id}/content"]["get"]
    for files in (None, {"input_reference": PNG}):
        assert_described(create(client, files=files), post)
        assert_described(create(client, files=files, prompt=""), post)
        assert_described(create(client, files=files, model="x"), post)
    for seconds in (1000, 0):
        sandbox.configure(generation_seconds=seconds)
        where = path(create(client).json()["id"])
        assert_described(client.send("GET", where), get)
        for wanted in ("", "bytes=0-9", "bytes=9999999-"):
            assert_described(client.send("GET", f"{where}/content", headers={"Range": wanted}), file)
    sandbox.set_faults("failed")
    assert_described(client.send("GET", path(create(client).json()["id"])), get)
    assert_described(client.send("GET", f"{path('x')}/content"), file)


def test_description_says_how_many_images_a_model_takes() -> None:
    schema = validator(DOCUMENT["components"]["schemas"]["CreateRequest"])
    form = validator(DOCUMENT["components"]["schemas"]["OpenaiCreateForm"])
    for count in range(5):
        images = [PICTURE] * count
        assert schema.is_valid({"model": "veo3.1", "prompt": "x", "images": images}) == (count <= 2)
        assert schema.is_valid({"model": "veo3", "prompt": "x", "images": images}) == (count <= 0)
        assert form.is_valid({**ORDER, "model": "veo_3_1-components", "input_reference": images}) == (count <= 3)
    assert not schema.is_valid({"model": "veo2", "prompt": "x", "aspect_ratio": "9:16"})
    assert not form.is_valid({**ORDER, "model": "veo2"})
