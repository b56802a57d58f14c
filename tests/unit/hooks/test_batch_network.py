"""A batch's way to its relay: plain http, proxies and certificates."""

from __future__ import annotations

import http.server
import os
import socket
import time

import pytest

from airflow_provider_veo.protocol import VeoAmbiguousSubmitError, VeoUnavailableError, VeoValidationError
from tests.unit.hooks.test_batch import IMPATIENT, submit
from tests.unit.hooks.test_create import creates


@pytest.mark.parametrize("host", ["http://8.8.8.8", "http://[2001:4860:4860::8888]:8080"])
def test_plain_http_to_the_public_is_refused_before_anything_is_sent(connect, host):
    connect(host=host)
    with pytest.raises(VeoValidationError, match="plain http to a public address"):
        submit()


@pytest.mark.parametrize("where", ["connection", "environment", "environment, without a scheme", "all_proxy"])
def test_a_proxy_is_used(relay, connect, proxy, monkeypatch, where):
    address = f"http://127.0.0.1:{proxy.server_port}"
    if where == "connection":
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        connect(extra={"proxy": address.replace("//", "//user:hunter2@")})
    else:
        value = address.removeprefix("http://") if "scheme" in where else address
        monkeypatch.setenv("all_proxy" if where == "all_proxy" else "http_proxy", value)
    assert submit().id
    assert proxy.asked == [f"{relay.url}/v1/video/create"]
    assert creates(relay) == 1


def test_a_proxy_for_all_that_is_none_for_http_is_passed_by(relay, monkeypatch):
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    assert submit().id


def test_no_proxy_is_used_where_the_environment_says_so(relay, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert submit().id


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_down_was_sent_nothing_and_its_password_is_not_told(relay, connect, scheme):
    connect(host=relay.url.replace("http", scheme), extra={"proxy": "http://user:hunter2@127.0.0.1:9"})
    with pytest.raises(VeoUnavailableError) as caught:
        submit()
    assert "hunter2" not in str(caught.value)
    assert creates(relay) == 0


def test_a_proxy_that_refuses_to_connect_was_sent_no_request(connect, serve):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self):
            self.send_error(407)

        def log_message(self, *arguments):
            pass

    port = serve(Refusing).server_port
    connect(host="https://localhost:1", extra={"proxy": f"http://user:hunter2@127.0.0.1:{port}"})
    with pytest.raises(VeoUnavailableError, match="407") as caught:
        submit()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("where", ["connection", "environment"])
def test_a_proxy_that_is_none_for_http_is_told_nothing(relay, connect, proxy, monkeypatch, where):
    address = f"socks5://user:hunter2@127.0.0.1:{proxy.server_port}"
    connect(extra={"proxy": address} if where == "connection" else {})
    if where == "environment":
        monkeypatch.setenv("http_proxy", address)
    with pytest.raises(VeoValidationError, match=f"{where}.* names one for socks5") as caught:
        submit()
    assert "hunter2" not in str(caught.value)
    assert proxy.asked == []
    assert creates(relay) == 0


def test_the_connections_ca_bundle_is_used(connect, tls_server):
    server, certificate = tls_server
    host = f"https://localhost:{server.server_port}"
    connect(host=host, extra={"ca_bundle": str(certificate)})
    with pytest.raises(VeoAmbiguousSubmitError, match="501"):  # not a relay, but it answers
        submit()
    connect(host=host)
    with pytest.raises(VeoUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        submit()
    connect(host=host.replace("localhost", "127.0.0.1"), extra={"ca_bundle": str(certificate)})
    with pytest.raises(VeoUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        submit()


def test_a_tls_handshake_that_fails_was_sent_nothing(relay, connect):
    connect(host=relay.url.replace("http://", "https://"))
    with pytest.raises(VeoUnavailableError, match="SSL"):
        submit()
    assert creates(relay) == 0


def test_a_tls_handshake_that_hangs_was_sent_nothing(connect):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        connect(host=f"https://127.0.0.1:{server.getsockname()[1]}", extra=IMPATIENT)
        started = time.monotonic()
        with pytest.raises(VeoUnavailableError):
            submit()
    assert time.monotonic() - started < 25


def test_a_ca_bundle_that_is_not_there_is_found_out_before_anything_is_sent(relay, connect):
    connect(extra={"ca_bundle": os.devnull + "/none"})
    with pytest.raises(OSError, match="Not a directory"):
        submit()
    assert creates(relay) == 0
