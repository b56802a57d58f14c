"""Test connection, plain http, proxies and certificates."""

from __future__ import annotations

import os

import pytest

from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.protocol import (
    VeoUnavailableError,
    VeoValidationError,
)
from tests.unit.hooks.conftest import BODY

# --- test connection -------------------------------------------------------------------------------------------------


def test_a_right_connection(relay, hook):
    ok, message = hook.test_connection()
    assert ok, message
    assert message.startswith(f"{relay.url} accepts the key")
    assert "veo3-fast" in message
    assert relay.stats()["requests"] == {"models": 1}


def test_a_wrong_key(connect):
    connect(password="sk-wrong-0123456789")
    ok, message = VeoHook().test_connection()
    assert not ok
    assert message.startswith("The relay answers, but does not accept the API key.")
    assert "sk-wrong" not in message


def test_a_host_that_is_down(connect):
    connect(host="http://127.0.0.1:9")
    ok, message = VeoHook().test_connection()
    assert not ok
    assert message.startswith("http://127.0.0.1:9 can't be reached.")
    assert "Check host, port and proxy" in message


@pytest.mark.parametrize("fault", ["models:bare=404", "models:no-json", "models:empty", "models:redirect"])
def test_a_host_that_is_no_relay(relay, hook, fault):
    relay.set_faults(fault)
    ok, message = hook.test_connection()
    assert not ok
    assert "not as a Veo relay does" in message
    assert "Check the host" in message


def test_a_connection_that_is_not_valid(connect):
    connect(password="", host="ftp://x")
    ok, message = VeoHook().test_connection()
    assert not ok
    assert "the API key is missing" in message
    assert "'ftp'" in message


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["http://8.8.8.8", "http://[2001:4860:4860::8888]:8080"])
def test_plain_http_to_a_public_address_is_refused_before_anything_is_sent(connect, host):
    connect(host=host)
    with pytest.raises(VeoValidationError, match="plain http to a public address"):
        VeoHook().create_video(BODY)


@pytest.mark.parametrize(
    "host", ["http://10.1.2.3", "http://192.168.1.2", "http://127.0.0.1", "http://localhost", "http://[::1]"]
)
def test_plain_http_to_a_private_address_is_allowed(connect, host):
    connect(host=host)
    with VeoHook().get_conn():
        pass


def test_plain_http_to_a_public_address_is_allowed_on_request(connect):
    connect(host="http://8.8.8.8", extra={"allow_insecure_http": True})
    with VeoHook().get_conn():
        pass


def test_the_connections_proxy_is_used_whatever_the_environment_says(relay, connect, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    connect(extra={"proxy": f"http://user:hunter2@127.0.0.1:{proxy.server_port}"})
    hook = VeoHook()
    assert hook.create_video(BODY).id
    hook.close()
    assert proxy.asked == [f"{relay.url}/v1/video/create"]


def test_a_proxy_that_is_down_was_sent_nothing_and_its_password_is_not_told(connect, impatient):
    connect(extra={"proxy": "http://user:hunter2@127.0.0.1:9"})
    with pytest.raises(VeoUnavailableError) as caught:
        VeoHook().create_video(BODY)
    assert "hunter2" not in str(caught.value)


def test_the_connections_ca_bundle_is_used_whatever_the_environment_says(
    connect, tls_server, tmp_path, monkeypatch, impatient
):
    server, certificate = tls_server
    connect(host=f"https://localhost:{server.server_port}", extra={"ca_bundle": str(certificate)})
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.devnull)
    assert VeoHook().test_connection()[0]
    connect(host=f"https://localhost:{server.server_port}")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(VeoUnavailableError, match=r"CERTIFICATE_VERIFY_FAILED"):
        VeoHook().create_video(BODY)
