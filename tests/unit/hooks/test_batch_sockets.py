"""The sockets of a batch: idle ones, bounded ones, and answers that stop halfway."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import json
import socket
import struct
import threading
import time

import pytest

from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoError,
    VeoQuotaError,
    VeoRateLimitError,
    VeoRequestRejectedError,
    VeoWrongHostError,
    payload,
)
from tests.unit.hooks.conftest import BODY, create_video
from tests.unit.hooks.test_batch import IMPATIENT, submit, with_hook

ACCEPTED = b'{"id": "veo3:1-x", "status": "pending"}'


class Handler(http.server.BaseHTTPRequestHandler):
    """A relay that accepts everything, and counts sockets and requests at its ``server``."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.sockets += 1
        self.server.open += 1
        self.server.most = max(self.server.most, self.server.open)

    def finish(self):
        self.server.open -= 1
        with contextlib.suppress(OSError):
            super().finish()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts += 1
        self.reply()

    def reply(self, status=200, body=ACCEPTED):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    sockets = open = most = posts = 0

    def handle_error(self, *_):
        pass


@pytest.fixture
def listen(connect):
    """Serve a handler, and make the connection lead to it."""
    with contextlib.ExitStack() as stack:

        def start(handler, **extra):
            server = stack.enter_context(Server(("127.0.0.1", 0), handler))
            server.released = threading.Event()
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(server.shutdown)
            stack.callback(server.released.set)
            connect(host=f"http://127.0.0.1:{server.server_port}", extra=extra)
            return server

        yield start


# --- sockets ---------------------------------------------------------------------------------------------------------


def test_requests_share_a_socket(listen):
    async def scenario(hook):
        for _ in range(5):
            await create_video(hook, BODY)

    server = listen(Handler)
    with_hook(scenario)
    assert (server.sockets, server.posts) == (1, 5)


class ClosesIdleSockets(Handler):
    """It closes a socket two seconds after a request; what arrives on one just then is lost."""

    timeout = 2

    def do_POST(self):
        now = time.monotonic()
        if now - getattr(self, "answered_at", now) > 1.4:
            self.server.posts += 1
            self.close_connection = True
            return
        super().do_POST()
        self.answered_at = time.monotonic()


@pytest.mark.parametrize("idle", [1.5, 2.0])
def test_a_socket_that_the_server_may_be_closing_is_not_used(listen, idle):
    async def scenario(hook):
        await asyncio.gather(*(create_video(hook, BODY) for _ in range(4)))
        await asyncio.sleep(idle)
        await asyncio.gather(*(create_video(hook, BODY) for _ in range(4)))

    server = listen(ClosesIdleSockets)
    with_hook(scenario)
    assert server.posts == 8


class ClosesAfterEachAnswer(Handler):
    def reply(self):
        super().reply()
        self.close_connection = True  # without a word


def test_a_server_that_closes_after_each_answer_loses_nothing(listen):
    async def scenario(hook):
        for _ in range(10):
            await create_video(hook, BODY)
            await asyncio.sleep(0.05)

    server = listen(ClosesAfterEachAnswer)
    with_hook(scenario)
    assert server.posts == 10


class Slow(Handler):
    def reply(self):
        time.sleep(0.3)
        super().reply()


def test_many_requests_share_few_sockets(listen):
    async def scenario(hook):
        await asyncio.gather(*(create_video(hook, BODY) for _ in range(24)))

    server = listen(Slow)
    with_hook(scenario, connections=4)
    assert server.posts == 24
    assert server.most <= 4
    assert server.sockets <= 8


def test_waiting_for_a_socket_takes_nothing_from_an_answers_time(listen):
    async def scenario(hook):
        await asyncio.gather(*(create_video(hook, BODY) for _ in range(8)))

    server = listen(Slow, **IMPATIENT)  # 2.4 s in all, where one request may take 1.6 s
    with_hook(scenario, connections=1)
    assert server.posts == 8


def test_requests_that_fail_give_their_sockets_back(relay, connect):
    connect(extra=IMPATIENT)

    async def scenario(hook):
        for fault in ("drop-before", "reset", "cut-off", "hang-before=9", "redirect", "huge=2000000"):
            relay.set_faults(fault)
            results = await asyncio.gather(*(create_video(hook, BODY) for _ in range(3)), return_exceptions=True)
            assert all(isinstance(result, VeoError) for result in results)
        relay.set_faults()
        await asyncio.gather(*(create_video(hook, BODY) for _ in range(4)))

    with_hook(scenario, connections=2)


# --- answers that stop halfway ---------------------------------------------------------------------------------------


BY_STATUS = {
    200: VeoAmbiguousSubmitError,
    302: VeoWrongHostError,
    400: VeoRequestRejectedError,
    401: VeoAuthenticationError,
    402: VeoQuotaError,
    408: VeoAmbiguousSubmitError,
    429: VeoRateLimitError,
    502: VeoAmbiguousSubmitError,
}


class Stopping(Handler):
    """It answers with the status that the prompt says, and stops halfway as the server's ``end`` says."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posts += 1
        self.send_response(int(body["prompt"].split()[-1]))
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"id": "veo3:1-x", ')
        self.wfile.flush()
        if self.server.end == "hang":
            self.server.released.wait(60)
        if self.server.end == "reset":
            time.sleep(0.5)  # the client has read what there is
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True


@pytest.mark.parametrize("end", ["close", "reset", "hang"])
def test_an_answer_that_stops_halfway_means_what_its_status_says(listen, end):
    server = listen(Stopping, **IMPATIENT)
    server.end = end
    bodies = [payload.build(f"status {status}", "veo3-fast") for status in BY_STATUS]

    async def scenario(hook):
        return await asyncio.gather(*(create_video(hook, body) for body in bodies), return_exceptions=True)

    assert [type(error) for error in with_hook(scenario)] == list(BY_STATUS.values())
    assert server.posts == len(BY_STATUS)
    sync = VeoHook()
    for body, status in zip(bodies, BY_STATUS, strict=True):
        if end != "hang" or status in (200, 401, 429):  # one after the other: it takes its time
            with pytest.raises(BY_STATUS[status]):
                sync.create_video(body)
    sync.close()


class EndlessRedirect(Handler):
    def reply(self):
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x" * 65536)


def test_a_redirect_with_an_endless_body_is_not_read_to_its_end(listen):
    server = listen(EndlessRedirect)
    with pytest.raises(VeoWrongHostError, match="never followed"):
        submit()
    assert server.posts == 1


LARGE = payload.build(
    "a cow", "veo3.1-components", images=["data:image/png;base64," + base64.b64encode(bytes(3_000_000)).decode()]
)


def test_a_large_body_arrives_whole(listen):
    received = []

    class Counting(Handler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply()

    listen(Counting)
    assert submit(LARGE).id == "veo3:1-x"
    assert json.loads(received[0]) == LARGE


@pytest.mark.parametrize(
    ("status", "kind"), [(413, VeoRequestRejectedError), (502, VeoAmbiguousSubmitError)], ids=["413", "502"]
)
def test_an_answer_before_the_body_has_arrived_ends_the_request(listen, status, kind):
    class Hasty(Handler):
        def do_POST(self):
            self.server.posts += 1
            self.reply(status, b"no")
            self.server.released.wait(60)  # it never reads the body
            self.close_connection = True

    server = listen(Hasty)
    started = time.monotonic()
    with pytest.raises(kind):
        submit(LARGE)
    assert time.monotonic() - started < 50
    assert server.posts == 1


def test_a_body_that_nobody_reads_is_given_up_for_good(listen):
    """A relay that reads on later must not get the rest: it would accept what was given up, and perhaps sent again."""
    received = []

    class Deaf(Handler):
        def handle(self):
            self.server.released.wait(60)
            with contextlib.suppress(OSError):
                while data := self.connection.recv(65536):
                    received.append(data)

        def finish(self):
            super().finish()
            received.append(None)

    async def scenario(hook):
        started = time.monotonic()
        with pytest.raises(VeoAmbiguousSubmitError):
            await create_video(hook, LARGE)
        assert time.monotonic() - started < 50
        server.released.set()
        while not received or received[-1] is not None:
            await asyncio.sleep(0.02)

    server = listen(Deaf, **IMPATIENT)
    with_hook(scenario)
    assert sum(map(len, received[:-1])) < len(json.dumps(LARGE))


def test_a_server_that_speaks_no_http(listen):
    class Other(Handler):
        def reply(self):
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            self.close_connection = True

    server = listen(Other)
    with pytest.raises(VeoAmbiguousSubmitError):
        submit()
    assert server.posts == 1
