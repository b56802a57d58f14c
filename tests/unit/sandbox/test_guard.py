"""Web pages in the developer's browser can't use the sandbox. The tests send what a page would, over plain sockets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from airflow_provider_veo.sandbox.cli import main

from .conftest import BODY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_veo.sandbox import Sandbox

PATHS = ["/v1/models", "/files/video.mp4", "/_sandbox/stats", "/_sandbox/config", "/nowhere"]
JSON = ("Content-Type: application/json",)
NOTHING_FAILS = b'{"faults": []}'


def send(
    url: str, *headers: str, method: str = "GET", path: str = "/_sandbox/stats", body: bytes = b""
) -> tuple[int, str]:
    """Send exactly these headers, and return the status and the raw answer."""
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    lines = [f"{method} {path} HTTP/1.1", *headers, "Connection: close", f"Content-Length: {len(body)}", "", ""]
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode() + body)
        with connection.makefile("rb") as answer:
            text = answer.read().decode()
    return int(text.split(" ", 2)[1]), text


def host(sandbox: Sandbox, name: str = "127.0.0.1") -> str:
    return f"Host: {name}:{urlsplit(sandbox.url).port}"


@pytest.mark.parametrize("path", PATHS)
def test_rebound_name_is_refused_everywhere(sandbox: Sandbox, path: str) -> None:
    status, text = send(sandbox.url, host(sandbox, "rebound.example"), path=path)
    assert status == 421
    assert "--allow-host" in text
    assert "rebound.example" in text
    assert sandbox.requests("all") == []


@pytest.mark.parametrize(
    "name",
    [
        "localhost.rebound.example",
        "127.0.0.1.rebound.example",
        "localhost@rebound.example",
        "rebound.example#localhost",
        "0.0.0.0",
        "192.0.2.7",
        "2130706433",
        "[::ffff:192.0.2.7]",
        "[",
        "",
    ],
)
def test_host_that_resembles_loopback_is_refused(sandbox: Sandbox, name: str) -> None:
    assert send(sandbox.url, host(sandbox, name))[0] == 421


@pytest.mark.parametrize("name", ["127.0.0.1", "127.9.9.9", "localhost", "LocalHost", "[::1]"])
def test_loopback_host_is_accepted(sandbox: Sandbox, name: str) -> None:
    assert send(sandbox.url, host(sandbox, name))[0] == 200


@pytest.mark.parametrize("headers", [[], ["Host: 127.0.0.1"], ["Host: 127.0.0.1:1"], ["Host: localhost:999999"]])
def test_host_without_the_port_is_refused(sandbox: Sandbox, headers: list[str]) -> None:
    # An HTTP library may refuse a request without `Host` before the guard does.
    assert send(sandbox.url, *headers)[0] in (400, 421)
    assert sandbox.requests("all") == []


def test_second_host_header_is_refused(sandbox: Sandbox) -> None:
    assert send(sandbox.url, host(sandbox), host(sandbox, "rebound.example"))[0] in (400, 421)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:8080", "https://127.0.0.1", "null", ""])
@pytest.mark.parametrize("path", ["/_sandbox/stats", "/v1/models"])
def test_request_of_another_origin_is_refused(sandbox: Sandbox, origin: str, path: str) -> None:
    status, text = send(sandbox.url, host(sandbox), f"Origin: {origin}", path=path)
    assert status == 403
    assert "access-control-allow-origin" not in text.lower()


def test_page_cannot_spend_with_the_known_key(sandbox: Sandbox) -> None:
    headers = (host(sandbox), "Origin: https://evil.example", "Authorization: Bearer sandbox-key", "Accept: */*")
    body = json.dumps(BODY).encode()
    assert send(sandbox.url, *headers, *JSON, method="POST", path="/v1/video/create", body=body)[0] == 403
    assert sandbox.stats()["accepted"] == 0


def test_own_origin_is_accepted(sandbox: Sandbox) -> None:
    assert send(sandbox.url, host(sandbox), f"Origin: {sandbox.url}", "Sec-Fetch-Site: same-origin")[0] == 200
    assert send(sandbox.url, host(sandbox), "Sec-Fetch-Site: none")[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_control_endpoints_refuse_cross_site_requests(sandbox: Sandbox, site: str) -> None:
    sandbox.set_faults("reset@9")
    header = f"Sec-Fetch-Site: {site}"
    assert send(sandbox.url, host(sandbox), header)[0] == 403
    status, _ = send(
        sandbox.url, host(sandbox), header, *JSON, method="POST", path="/_sandbox/faults", body=NOTHING_FAILS
    )
    assert status == 403
    assert sandbox.stats()["faults"] == ["reset@9"]


@pytest.mark.parametrize("path", ["/v1/video/query?id=x", "/v1/videos/x", "/v1/videos/x/content", "/v1/models"])
def test_cross_site_request_consumes_no_fault(sandbox: Sandbox, path: str) -> None:
    sandbox.set_faults("query:status=503@1", "file:status=503@1", "models:status=503@1")
    assert send(sandbox.url, host(sandbox), "Sec-Fetch-Site: cross-site", path=path)[0] == 403
    assert sandbox.stats()["requests"] == sandbox.stats()["faults_fired"] == {}


def test_airflow_page_can_show_a_video(sandbox: Sandbox) -> None:
    # A <video> element of a page on another port sends no Origin.
    status, _ = send(sandbox.url, host(sandbox), "Sec-Fetch-Site: same-site", path="/files/nothing.mp4")
    assert status == 404


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "text/json"])
@pytest.mark.parametrize("path", ["faults", "config", "reset"])
def test_control_endpoints_accept_only_json(sandbox: Sandbox, path: str, content_type: str | None) -> None:
    sandbox.set_faults("reset@9")
    headers = [host(sandbox), *([f"Content-Type: {content_type}"] if content_type else [])]
    status, text = send(sandbox.url, *headers, method="POST", path=f"/_sandbox/{path}", body=NOTHING_FAILS)
    assert status == 415
    assert "application/json" in text
    assert sandbox.stats()["faults"] == ["reset@9"]


@pytest.mark.parametrize(
    ("body", "status"), [(b"[" * 100_000, 400), (b'{"faults": ["' + b"x" * 2**20 + b'"]}', 413), (b"\xff", 400)]
)
def test_control_document_is_bounded(sandbox: Sandbox, body: bytes, status: int) -> None:
    headers = (host(sandbox), "Content-Type: application/json; charset=utf-8")
    assert send(sandbox.url, *headers, method="POST", path="/_sandbox/faults", body=body)[0] == status
    assert sandbox.stats()["faults"] == []


@contextlib.contextmanager
def started(*options: str) -> Iterator[str]:
    """Run the command, and yield its URL on this machine."""
    command = [sys.executable, "-m", "airflow_provider_veo.sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout
        try:
            announced = re.search(r" on http://\S+:(\d+) ", process.stdout.readline())
            assert announced
            yield f"http://127.0.0.1:{announced[1]}"
        finally:
            process.terminate()


def test_wildcard_address_accepts_any_address_but_not_names() -> None:
    with started("--host", "0.0.0.0", "--allow-remote", "--allow-host", "relay", "--allow-host", "outside:9000") as url:
        port = urlsplit(url).port
        for accepted in f"192.0.2.7:{port}", f"[2001:db8::7]:{port}", f"relay:{port}", "outside:9000":
            assert send(url, f"Host: {accepted}")[0] == 200, accepted
        for refused in f"rebound.example:{port}", f"outside:{port}", "relay:9000", "192.0.2.7:9000":
            assert send(url, f"Host: {refused}")[0] == 421, refused
        assert send(url, f"Host: relay:{port}", "Origin: http://evil.example")[0] == 403


def test_forwarded_port_is_accepted_if_allowed() -> None:
    with started("--allow-host", "localhost:9000") as url:
        assert send(url, "Host: localhost:9000")[0] == 200
        assert send(url, "Host: localhost:9001")[0] == 421


def test_explicitly_bound_name_is_accepted() -> None:
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        if socket.gethostbyname(name).startswith("127."):
            name = socket.gethostbyname(name)
    try:
        socket.create_server((name, 0)).close()
    except OSError:
        pytest.skip("this machine cannot listen on its own name")
    with started("--host", name, "--allow-remote") as url:
        port = urlsplit(url).port
        assert send(f"http://{name}:{port}", f"Host: {name}:{port}")[0] == 200
        assert send(f"http://{name}:{port}", f"Host: rebound.example:{port}")[0] == 421


@pytest.mark.parametrize("wrong", ["", "a b", "http://relay", "relay:", "relay:0", "relay:99999", "[::1", "relay/x"])
def test_invalid_allowed_host_is_a_usage_error(capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([f"--allow-host={wrong}"])
    assert caught.value.code == 2
    assert repr(wrong) in capsys.readouterr().err
