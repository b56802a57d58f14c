"""Clients that offer HTTP/2 in a request of HTTP/1.1, as curl and Java do, are answered in HTTP/1.1."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from .conftest import BODY

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox import Sandbox

OFFER = [
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
]


def read(connection: socket.socket, method: str) -> tuple[int, Any]:
    answer = HTTPResponse(connection, method=method)
    answer.begin()
    return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("bodies", [[json.dumps(BODY).encode()], [b'{"prompt": ', b'"a cow", "model": "veo3-fast"}']])
def test_request_that_offers_http2_keeps_its_body_and_its_connection(sandbox: Sandbox, bodies: list[bytes]) -> None:
    address = urlsplit(sandbox.url)
    common = [f"Host: {address.netloc}", f"Authorization: Bearer {sandbox.api_key}", *OFFER]
    create = ["POST /v1/video/create HTTP/1.1", *common, "Content-Type: application/json"]
    create += [f"Content-Length: {sum(map(len, bodies))}", "", ""]
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall("\r\n".join(create).encode())
        for body in bodies:
            connection.sendall(body)
        status, created = read(connection, "POST")
        assert (status, created["status"]) == (200, "pending")
        query = [f"GET /v1/video/query?id={created['id']} HTTP/1.1", *common, "", ""]
        connection.sendall("\r\n".join(query).encode())
        assert read(connection, "GET")[1]["status"] == "completed"
    assert sandbox.requests()[0]["body"].encode() == b"".join(bodies)
    assert "upgrade" not in sandbox.output().lower()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_can_offer_http2(sandbox: Sandbox) -> None:
    url, key = f"{sandbox.url}/v1/video/create", f"Authorization: Bearer {sandbox.api_key}"
    command = ["curl", "--silent", "--show-error", "--http2", "--noproxy", "*", "--max-time", "10", "--header", key]
    command += ["--header", "Content-Type: application/json", "--data", json.dumps(BODY), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["status"] == "pending"
    assert sandbox.requests()[0]["headers"]["upgrade"] == "h2c"
