"""Every form of a connection that people write, and every mistake in one."""

import base64
import json
import os
import subprocess
import sys
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import BaseHook, Connection

from airflow_provider_veo import connection
from airflow_provider_veo.protocol import VeoValidationError

KEY = "sk-canary-0123456789abcdef"


def read(**fields):
    extra = fields.pop("extra", None)
    extra = json.dumps(extra) if isinstance(extra, dict) else extra
    return connection.read(
        Connection(**{"conn_id": "veo_x", "conn_type": "veo", "password": KEY, **fields, "extra": extra})
    )


def mistakes(**fields):
    with pytest.raises(VeoValidationError) as caught:
        read(**fields)
    assert "'veo_x'" in str(caught.value)
    return list(caught.value.mistakes)


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, "https://az.gptplus5.com"),
        ({"host": ""}, "https://az.gptplus5.com"),
        ({"host": "az.gptplus5.com"}, "https://az.gptplus5.com"),
        ({"host": "https://az.gptplus5.com"}, "https://az.gptplus5.com"),
        ({"host": "https://az.gptplus5.com/"}, "https://az.gptplus5.com"),
        ({"host": "https://az.gptplus5.com/v1"}, "https://az.gptplus5.com"),
        ({"host": "az.gptplus5.com/v1/"}, "https://az.gptplus5.com"),
        ({"host": " az.gptplus5.com "}, "https://az.gptplus5.com"),
        ({"host": "HTTPS://AZ.GPTPlus5.com"}, "https://az.gptplus5.com"),
        ({"host": "relay.example.com", "schema": "http"}, "http://relay.example.com"),
        ({"host": "relay.example.com", "schema": "HTTPS", "port": 8443}, "https://relay.example.com:8443"),
        ({"host": "http://127.0.0.1:8765"}, "http://127.0.0.1:8765"),
        ({"host": "http://127.0.0.1", "port": 8765}, "http://127.0.0.1:8765"),
        ({"host": "http://127.0.0.1:8765", "port": 8765, "schema": "http"}, "http://127.0.0.1:8765"),
        ({"host": "localhost:8765"}, "https://localhost:8765"),
        ({"host": "http://[::1]:8765/v1"}, "http://[::1]:8765"),
        ({"host": "gateway.example.com/veo/v1"}, "https://gateway.example.com/veo"),
    ],
)
def test_every_form_of_the_base_url(fields, base_url):
    assert read(**fields).base_url == base_url


@pytest.mark.parametrize(
    ("uri", "base_url"),
    [
        (f"veo://:{KEY}@az.gptplus5.com", "https://az.gptplus5.com"),
        (f"veo://:{KEY}@relay.example.com:8443", "https://relay.example.com:8443"),
        (f"veo://:{KEY}@127.0.0.1:8765/http", "http://127.0.0.1:8765"),
        (f"veo://:{KEY}@/?default_model=veo3-fast", "https://az.gptplus5.com"),
    ],
)
def test_a_connection_from_a_uri(uri, base_url, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_VEO_X", uri)
    settings = connection.read(BaseHook.get_connection("veo_x"))
    assert (settings.base_url, settings.api_key) == (base_url, KEY)


@pytest.mark.parametrize("password", [KEY, f"Bearer {KEY}", f"bearer   {KEY}", f" {KEY}\n"])
def test_every_form_of_the_key(password):
    assert read(password=password).api_key == KEY


@pytest.mark.parametrize("password", [None, "", "  ", "Bearer", "Bearer "])
def test_a_missing_key(password):
    assert mistakes(password=password) == [
        "password: the API key is missing; put the relay's key into the password field"
    ]


@pytest.mark.parametrize("password", ["sk-a b", "sk-a\r\nX-Evil: 1", "sk-钥匙"])
def test_a_key_that_can_be_none_is_refused_without_repeating_it(password):
    (found,) = mistakes(password=password)
    assert found.startswith("password: the API key has an invalid character")
    assert password not in found


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"host": "ftp://example.com"}, "expected http or https, got 'ftp'"),
        ({"host": "https://"}, "no host name"),
        ({"host": "exa mple.com"}, "no host name"),
        ({"host": "https://user:secret@example.com"}, "without user, password"),
        ({"host": "https://example.com?key=secret"}, "without user, password"),
        ({"host": "https://example.com", "schema": "http"}, "schema field says http"),
        ({"host": "https://example.com:1", "port": 2}, "port field says 2"),
        ({"host": "https://example.com:99999"}, "host: "),
        ({"host": "example.com", "schema": "gopher"}, "expected http or https"),
    ],
)
def test_a_base_url_that_is_none(fields, part):
    (found,) = mistakes(**fields)
    assert found.startswith("host: ")
    assert part in found
    assert "secret" not in found


@pytest.mark.parametrize("as_text", [False, True])
def test_every_field_of_the_extra_typed_and_as_a_form_saves_it(as_text):
    extra = {
        "api": "unified",
        "default_model": "veo3-fast",
        "models": {"veo4-fast": {"max_images": 2, "aspect_ratio": True}},
        "prices": {"veo3-fast": 0.4, "veo3": {"per_second": 0.75, "seconds": 8}},
        "on_cleared": "fail",
        "connect_timeout": 3,
        "read_timeout": 2.5,
        "proxy": "http://user:hunter2@proxy.example.com:3128",
        "ca_bundle": "/etc/ca.pem",
        "allow_insecure_http": True,
        "allow_private_media": True,
    }
    given = {name: value if isinstance(value, str) else json.dumps(value) for name, value in extra.items()}
    settings = read(extra=given if as_text else extra)
    assert settings.default_model == "veo3-fast"
    assert settings.catalog["veo4-fast"].max_images == 2
    assert settings.price_of({"model": "veo3-fast"}) == Decimal("0.4")
    assert settings.price_of({"model": "veo3"}) == 6
    assert settings.price_of({"model": "veo2"}) is None
    assert settings.on_cleared == "fail"
    assert (settings.connect_timeout, settings.read_timeout) == (3.0, 2.5)
    assert settings.proxy == extra["proxy"]
    assert settings.ca_bundle == "/etc/ca.pem"
    assert settings.allow_insecure_http is True
    assert settings.allow_private_media is True
    assert settings.secrets == (KEY, "hunter2", base64.b64encode(b"user:hunter2").decode())
    assert KEY not in repr(settings)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("blank", [None, ""])
def test_a_field_left_blank_is_the_default(blank):
    names = ["api", "default_model", "models", "prices", "on_cleared", "connect_timeout", "read_timeout", "proxy"]
    names.append("ca_bundle")
    settings = read(extra=dict.fromkeys([*names, "allow_insecure_http", "allow_private_media"], blank))
    assert settings.on_cleared == "submit"
    assert (settings.connect_timeout, settings.read_timeout) == (10.0, 60.0)
    assert (settings.default_model, settings.proxy, settings.allow_insecure_http) == (None, None, False)


def test_all_mistakes_are_reported_together():
    found = mistakes(
        host="ftp://x",
        password="",
        extra={
            "default_model": 7,
            "models": {"veo4": {"frames": 1}},
            "prices": {"veo3": "cheap", "veo3-fast": 0.4, "veo2": {"per_second": -1}},
            "on_cleared": "ask",
            "connect_timeout": 0,
            "read_timeout": "soon",
            "proxy": "secret-proxy",
            "allow_insecure_http": "perhaps",
        },
    )
    assert [line.partition(":")[0] for line in found] == [
        "host",
        "password",
        "default_model",
        "models",
        "prices",
        "prices",
        "on_cleared",
        "connect_timeout",
        "read_timeout",
        "proxy",
        "allow_insecure_http",
    ]
    assert "secret-proxy" not in str(found)


@pytest.mark.parametrize("value", ["{broken", "[1]", [1], 7])
@pytest.mark.parametrize("name", ["models", "prices"])
def test_what_is_no_object(name, value):
    (found,) = mistakes(extra={name: value})
    assert found.startswith(f"{name}: expected a JSON object")


@pytest.mark.parametrize("name", ["openai", "OpenAI", " openai "])
def test_the_form_of_the_api_is_chosen_by_name(name):
    settings = read(host="gateway.example.com", extra={"api": name, "models": {"studio-veo": {"max_images": 1}}})
    assert settings.api.name == "openai"
    assert settings.api.url(settings.api.query("video_1")) == "https://gateway.example.com/v1/videos/video_1"
    assert settings.catalog["studio-veo"].max_images == 1
    assert settings.catalog["any/name"].max_images == 3
    assert KEY not in repr(settings.api)
    assert read().api.name == "unified"


@pytest.mark.parametrize("name", ["azure", 3, ["openai"]])
def test_an_unknown_form_of_the_api_is_a_mistake(name):
    (found,) = mistakes(extra={"api": name})
    assert found.startswith("api: expected one of unified, openai, got ")


def test_an_unknown_field_is_a_mistake_whose_value_is_not_repeated():
    found = mistakes(extra={"red_timeout": 3, "Proxy": "http://u:hunter2@p:1", "": 1, "ca_bundle": 7})
    assert [line.partition(";")[0] for line in found] == [
        "ca_bundle: expected a string, got 7",
        "red_timeout: unknown field",
        "Proxy: unknown field",
        ": unknown field",
    ]
    assert "did you mean read_timeout?" in found[1]
    assert "did you mean proxy?" in found[2]
    assert "did you mean" not in found[3]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "written",
    [
        f"veo://:{KEY}@az.gptplus5.com/?red_timeout=3",
        json.dumps({"conn_type": "veo", "password": KEY, "extra": {"red_timeout": 3}}),
    ],
)
def test_an_unknown_field_is_a_mistake_in_every_place_of_a_connection(written, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_VEO_X", written)
    with pytest.raises(VeoValidationError, match="red_timeout: unknown field; did you mean read_timeout"):
        connection.read(BaseHook.get_connection("veo_x"))


def test_the_form_has_every_field_that_is_read():
    from airflow_provider_veo.connection.form import CONN_FIELDS

    (found,) = mistakes(extra={"none_of_them": 1})
    assert found.partition("Known fields: ")[2].split(", ") == sorted(CONN_FIELDS)


def test_the_package_can_be_the_first_import(tmp_path):
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "import airflow_provider_veo.connection"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
