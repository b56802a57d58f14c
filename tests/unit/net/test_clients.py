"""Attacks on both HTTP clients: through the hooks, downloads and a trigger, over real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import logging
import subprocess
import sys
import time
import zlib

import pytest
import tenacity
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.hooks import VeoAsyncHook, VeoHook, sync
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoDownloadError,
    VeoError,
    VeoUnavailableError,
    responses,
)
from airflow_provider_veo.storage import store_video, transfer
from airflow_provider_veo.triggers import VeoVideoTrigger
from tests.unit.hooks.conftest import BODY
from tests.unit.hooks.test_batch import submit
from tests.unit.net.servers import PASSWORD, drip, refuse, serving

ACCEPTED = b'{"id": "veo3:1-x", "status": "pending"}'


@pytest.fixture
def impatient(monkeypatch):
    """Retry as often as ever, with less time in between."""
    monkeypatch.setattr(sync, "_backoff", tenacity.wait_fixed(0.02))
    monkeypatch.setattr(transfer, "_backoff", tenacity.wait_fixed(0.02))


def create(_):
    hook = VeoHook()
    try:
        return hook.create_video(BODY)
    finally:
        hook.close()


def create_in_batch(_):
    return submit()


def query(_):
    hook = VeoHook()
    try:
        return hook._get_once("veo3:1-x")
    finally:
        hook.close()


def query_async(_):
    return asyncio.run(VeoAsyncHook().get_video("veo3:1-x"))


def download(tmp_path):
    settings = dataclasses.replace(VeoHook().settings, allow_private_media=True)
    path = ObjectStoragePath(f"file://{tmp_path}/x.mp4")
    return store_video(f"{settings.base_url}/x.mp4", path, settings=settings, log=logging.getLogger("task"))


CREATES = [create, create_in_batch]
QUERIES = [query, query_async]


def everything_said(error):
    """What an error says, its causes included."""
    said = ""
    while error is not None:
        said += f"{error} {vars(error)}"
        error = error.__cause__
    return said


# --- a proxy's password ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("where", ["connection", "environment"])
@pytest.mark.parametrize("send", [*CREATES, *QUERIES, download])
def test_password_of_refusing_proxy_is_in_no_error_and_no_log(
    connect, impatient, monkeypatch, caplog, capfd, tmp_path, send, where, scheme
):
    caplog.set_level(logging.DEBUG)
    with serving(refuse) as proxy:
        address = f"http://me:{PASSWORD}%2F@127.0.0.1:{proxy.port}"
        connect(host=f"{scheme}://127.0.0.1:1", extra={"proxy": address} if where == "connection" else {})
        if where == "environment":
            monkeypatch.setenv(f"{scheme}_proxy", address)
        kind = VeoDownloadError if send is download else VeoUnavailableError
        with pytest.raises(kind, match="407") as caught:
            send(tmp_path)
        assert proxy.heads
        assert all(b"Proxy-Authorization: Basic " in head for head in proxy.heads)
    output = capfd.readouterr()
    said = everything_said(caught.value) + caplog.text + output.out + output.err
    assert PASSWORD not in said
    assert "me:" not in said


def test_password_of_refusing_proxy_is_in_no_trigger_event(connect, monkeypatch):
    with serving(refuse) as proxy:
        connect(host="https://127.0.0.1:1")
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}")
        trigger = VeoVideoTrigger(veo_task_id="veo3:1-x", poll_interval=0.1, timeout=0.5, started=time.time())

        async def run():
            return [event.payload async for event in trigger.run()]

        (payload,) = asyncio.run(run())
    assert "407" in json.dumps(payload)
    assert PASSWORD not in json.dumps(payload)


def test_credentials_reach_no_relay_behind_a_tunnel_or_without_a_proxy(relay, connect, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:9")
    create(None)
    create_in_batch(None)
    assert "proxy-authorization" not in json.dumps(relay.requests("all")).lower()


def test_407_without_a_proxy_stays_unknown(connect):
    with serving(refuse) as server:
        connect(host=f"http://127.0.0.1:{server.port}")
        for send in CREATES:
            with pytest.raises(VeoAmbiguousSubmitError):
                send(None)


@pytest.mark.parametrize("url", [f"http://me:{PASSWORD}\u2100@h:0", f"http://me:{PASSWORD}@[::1", {"http": PASSWORD}])
def test_invalid_proxy_is_reported_without_its_password(connect, url):
    connect(extra={"proxy": url})
    with pytest.raises(VeoError, match="proxy: expected a URL such as") as caught:
        create(None)
    assert PASSWORD not in everything_said(caught.value)


# --- deadlines -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("proxied", ["no", "plain", "tunnel"])
def test_dripped_header_ends_with_the_deadline(connect, impatient, proxied):
    with serving(drip) as server:
        address = f"http://127.0.0.1:{server.port}"
        # Five attempts at most where nothing was sent; each ends after 0.5 + 2 * 0.5 seconds.
        limits = {"connect_timeout": 0.5, "read_timeout": 0.5}
        host = {"no": address, "plain": "http://127.0.0.1:1", "tunnel": "https://127.0.0.1:1"}[proxied]
        connect(host=host, extra=limits if proxied == "no" else {**limits, "proxy": address})
        for send in (create, create_in_batch, query):
            started = time.monotonic()
            unknown = send is not query and proxied != "tunnel"
            with pytest.raises(VeoAmbiguousSubmitError if unknown else VeoUnavailableError):
                send(None)
            assert time.monotonic() - started < 20


def test_deadline_covers_a_pooled_connection(connect):
    answers = iter([True])

    def once(server, connection):
        if next(answers, False):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ACCEPTED), ACCEPTED))
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
        drip(server, connection)

    with serving(once) as server:
        connect(host=f"http://127.0.0.1:{server.port}", extra={"connect_timeout": 0.5, "read_timeout": 0.5})
        hook = VeoHook()
        assert hook._get_once("veo3:1-x").id
        with pytest.raises(VeoUnavailableError, match="timed out"):
            hook._get_once("veo3:1-x")
        hook.close()
        assert len(server.heads) == 1


# --- encodings -------------------------------------------------------------------------------------------------------


def encoded(encoding, body):
    def answer(server, connection):
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    return answer


def raw_deflate(data):
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("send", [*CREATES, *QUERIES])
@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("DEFLATE", zlib.compress), ("deflate", raw_deflate)]
)
def test_unrequested_compression_is_decoded(connect, send, encoding, compress):
    with serving(encoded(encoding, compress(ACCEPTED))) as server:
        connect(host=f"http://127.0.0.1:{server.port}")
        assert send(None).id == "veo3:1-x"
        assert b"accept-encoding: identity" in server.heads[0].lower()


@pytest.mark.parametrize("send", CREATES)
@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip"])
def test_unreadable_encoding_leaves_a_create_unknown(connect, send, encoding):
    with serving(encoded(encoding, b"not compressed at all")) as server:
        connect(host=f"http://127.0.0.1:{server.port}")
        with pytest.raises(VeoAmbiguousSubmitError, match="Content-Encoding"):
            send(None)


def bomb(mebibytes):
    compressor = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    zeros = bytes(1024 * 1024)
    return b"".join(compressor.compress(zeros) for _ in range(mebibytes)) + compressor.flush()


@pytest.mark.slow
@pytest.mark.parametrize("send", [create, create_in_batch])
def test_decompression_bomb_takes_no_memory(connect, send):
    """512 MiB in half a megabyte. The client runs in a process of its own, which reports its peak growth."""
    script = f"""
import json, resource, sys
from tests.unit.net.test_clients import *
VeoHook().settings
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {send.__name__}(None)
except VeoAmbiguousSubmitError as error:
    assert "more than {responses.MAX_BODY_BYTES} bytes" in str(error), error
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    with serving(encoded("gzip", bomb(512))) as server:
        connect(host=f"http://127.0.0.1:{server.port}")
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 60 * 1024  # KiB


# --- the checked address is the connected address --------------------------------------------------------------------


REBINDING = """
import socket, sys
real = socket.getaddrinfo
seen = []
def look_up(host, *arguments, **options):
    if host != "relay.example.com":
        return real(host, *arguments, **options)
    seen.append(host)
    address = "127.0.0.1" if len(seen) <= int(sys.argv[1]) else "8.8.8.8"
    port = arguments[0] if arguments else options.get("port")
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port or 0)))]
socket.getaddrinfo = look_up
connect = socket.socket.connect
def connecting(self, address):
    if address[0] == "8.8.8.8":
        print("CONNECTED", flush=True)
        raise ConnectionRefusedError
    return connect(self, address)
socket.socket.connect = connecting
import asyncio
import asyncio.selector_events as events
sock_connect = events.BaseSelectorEventLoop.sock_connect
async def connecting_async(self, sock, address):
    if address[0] == "8.8.8.8":
        print("CONNECTED", flush=True)
        raise ConnectionRefusedError
    return await sock_connect(self, sock, address)
events.BaseSelectorEventLoop.sock_connect = connecting_async
from tests.unit.net.test_clients import *
from airflow_provider_veo.hooks import sync
import tenacity
sync._backoff = tenacity.wait_fixed(0.01)
"""


@pytest.mark.slow
@pytest.mark.parametrize("private_lookups", [1, 2])
@pytest.mark.parametrize("send", [create, create_in_batch, query, query_async])
def test_name_that_turns_public_after_the_check_gets_no_key(connect, send, private_lookups):
    """Private when looked up first, public from then on, or from the next request on."""
    script = f"""{REBINDING}
for _ in range(3):
    try:
        {send.__name__}(None)
        print("ANSWERED")
    except VeoError as error:
        print(type(error).__name__, "plain http to a public address" in str(error))
"""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ACCEPTED), ACCEPTED)
    with serving(lambda _, connection: connection.sendall(answer)) as server:
        connect(host=f"http://relay.example.com:{server.port}")
        command = [sys.executable, "-c", script, str(private_lookups)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "CONNECTED" not in done.stdout
    assert "VeoValidationError True" in done.stdout
