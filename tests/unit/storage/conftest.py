"""A media host, a connection that lets videos come from it, and a place to store them."""

from __future__ import annotations

import contextlib
import http.server
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import tenacity
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.connection import VeoConnection
from airflow_provider_veo.storage import store_video, transfer
from tests.conftest import CANARY
from tests.unit.storage.hosts import Host, Reply, video

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = "signature-4f1d0c9ab77e5532"
"""In the query of every URL. It must turn up in no log and no error."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Try again as often as ever, with less time in between."""
    monkeypatch.setattr(transfer, "_backoff", tenacity.wait_fixed(0.01))


@contextlib.contextmanager
def hosting(address="127.0.0.1"):
    """Run a media host. It ends at once, where the one of the other tests takes half a second."""

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True

    with Server((address, 0), Host) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield _ready(server)
        server.shutdown()
    for _, headers in server.asked:
        assert CANARY not in str(headers)


def _ready(server):
    server.content = video()
    server.asked = []
    server.script = []
    server.always = Reply()
    server.url = f"http://127.0.0.1:{server.server_port}/v/x.mp4?X-Signature={SIGNATURE}&v=1"
    return server


@pytest.fixture
def host():
    with hosting() as server:
        yield server


@pytest.fixture
def tls_host(tls_server):
    """A media host behind a certificate for ``localhost`` that no public authority signed."""
    server, certificate = tls_server
    server.RequestHandlerClass = Host
    return _ready(server), certificate


@pytest.fixture
def settings():
    """A connection to a relay that is elsewhere."""
    return VeoConnection(
        conn_id="veo_default",
        base_url="https://relay.example.com",
        api_key=CANARY,
        connect_timeout=2.0,
        read_timeout=5.0,
        allow_private_media=True,
    )


@pytest.fixture
def target(tmp_path):
    return tmp_path / "videos" / "x.mp4"


class Secretive(logging.Logger):
    """The task's log. Whatever is written to it is kept, and holds no secret."""

    def __init__(self) -> None:
        super().__init__("task", logging.DEBUG)
        self.lines: list[str] = []

    def handle(self, record):
        line = record.getMessage()
        assert CANARY not in line
        assert SIGNATURE not in line
        self.lines.append(line)


@pytest.fixture
def log():
    return Secretive()


@pytest.fixture
def store(host, settings, target, log):
    """Store the host's video at the target, with whatever is named done otherwise."""

    def stored(url=None, destination=None, **options):
        path = destination or ObjectStoragePath(f"file://{target}")
        options = {"settings": settings, "log": log, **options}
        try:
            return store_video(host.url if url is None else url, path, **options)
        except Exception as error:
            for said in (str(error), repr(vars(error)), repr(error.__cause__)):
                assert CANARY not in said
                assert SIGNATURE not in said
            raise

    return stored


def files_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []
