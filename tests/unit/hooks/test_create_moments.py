"""The moments in which a create could be billed unseen: a socket that was idle, and what happens just before a send."""

from __future__ import annotations

import asyncio
import http.server
import json
import time

import pytest

from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.hooks.batch import VeoBatchHook
from airflow_provider_veo.protocol import VeoNotSentError
from tests.unit.hooks.conftest import BODY


class Relay(http.server.BaseHTTPRequestHandler):
    """It keeps its sockets, and says from which one a request came."""

    protocol_version = "HTTP/1.1"
    sockets: list

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"id": "veo3:1", "status": "pending"})

    def do_GET(self):
        self.answer({"id": "veo3:1", "status": "processing"})

    def answer(self, content):
        self.server.sockets.append((self.command, self.client_address[1]))
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(serve, connect):
    server = serve(Relay)
    server.sockets = []
    connect(host=f"http://127.0.0.1:{server.server_port}")
    return server


def test_a_create_takes_no_socket_that_was_idle(server):
    hook = VeoHook()
    hook.get_video("veo3:1")
    hook.create_video(BODY)
    hook.get_video("veo3:1")
    time.sleep(1.2)
    hook.create_video(BODY)
    hook.close()
    first, second, third, fourth = (port for _, port in server.sockets)
    assert first == second == third
    assert fourth != third


def test_what_is_found_out_just_before_the_first_byte_is_not_sent(relay):
    async def submit():
        hook = VeoBatchHook(VeoHook(), 4)
        asked = []

        def make_sure():
            asked.append(relay.stats()["requests"].get("create", 0))
            raise VeoNotSentError("killed")

        with pytest.raises(VeoNotSentError, match="killed"):
            await hook.submit(await hook.prepare(BODY), make_sure)
        await hook.close()
        return asked

    assert asyncio.run(submit()) == [0]
    assert relay.stats()["accepted"] == 0


@pytest.mark.parametrize(
    ("fault", "nothing_sent"), [("status=503", True), ("bare=502", False), ("drop-after", False), (None, False)]
)
def test_a_hook_knows_whether_a_create_may_have_been_accepted(relay, hook, impatient, fault, nothing_sent):
    relay.set_faults(*([fault] if fault else []))
    try:
        hook.create_video(BODY)
    except Exception:
        assert fault
    assert hook.nothing_sent is nothing_sent


def test_a_signal_between_two_attempts_finds_that_nothing_was_sent(relay, hook):
    relay.set_faults("status=503")
    seen = []

    def interrupted(state):
        seen.append(hook.nothing_sent)
        raise KeyboardInterrupt

    hook._log_retry = interrupted
    with pytest.raises(KeyboardInterrupt):
        hook.create_video(BODY)
    assert seen == [True]
