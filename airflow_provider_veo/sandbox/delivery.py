"""
How an answer is delivered: complete, late, slowly, in part, or not at all.

Closing or resetting a connection mid-answer needs its transport, which `server.py` puts into each request's state.
The code then waits until the server has seen the disconnect, so that the server doesn't report an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from typing import TYPE_CHECKING

from starlette.responses import Response

from airflow_provider_veo.sandbox.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from airflow_provider_veo.sandbox.faults import Fault

CHUNK = 64 * 1024
"""Bytes sent at once, which limits what is buffered for a slow reader."""
DRIPS_A_SECOND = 100
"""Maximum pieces per second. A longer body is sent in larger pieces."""
NOTHING = Answer(0)
"""The placeholder for a request that never reached the relay."""


class Connection:
    """One request's connection, including the transport that ASGI hides."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._transport: asyncio.Transport = scope["state"]["transport"]

    async def start(self, answer: Answer) -> None:
        """Send the status line and the headers."""
        headers = {"content-length": str(len(answer.body))} | answer.headers
        if answer.status == 204:
            del headers["content-length"]
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": raw})

    async def write(self, data: bytes, more: bool) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def silence(self, seconds: float) -> None:
        """Wait that long, or until the client disconnects."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._gone(), seconds)

    async def close(self) -> None:
        """Close the connection after the data sent so far (FIN)."""
        self._transport.close()
        await self._gone()

    async def reset(self) -> None:
        """Reset the connection (RST)."""
        connected = self._transport.get_extra_info("socket")
        # A duplicate, since an event loop may not allow access to its own socket. Both share the option.
        with socket.socket(fileno=socket.dup(connected.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        await self._gone()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def send_complete(connection: Connection, answer: Answer) -> None:
    """Send an answer unchanged."""
    await connection.start(answer)
    # `wrong-length` may announce more than the body holds. The client would wait for the rest.
    short = len(answer.body) < int(answer.headers.get("content-length", 0))
    sent = 0
    while sent < len(answer.body) - CHUNK:
        await connection.write(answer.body[sent : sent + CHUNK], more=True)
        sent += CHUNK
    await connection.write(answer.body[sent:], more=short)
    if short:
        await connection.close()


async def _close(connection: Connection, answer: Answer, fault: Fault) -> None:
    await connection.close()


async def _reset(connection: Connection, answer: Answer, fault: Fault) -> None:
    await connection.reset()


async def _hang(connection: Connection, answer: Answer, fault: Fault) -> None:
    await connection.silence(fault.value)
    await connection.close()


async def _slow(connection: Connection, answer: Answer, fault: Fault) -> None:
    await connection.silence(fault.value)
    await send_complete(connection, answer)


async def _drip(connection: Connection, answer: Answer, fault: Fault) -> None:
    await connection.start(answer)
    size = max(1, math.ceil(len(answer.body) / max(1, fault.value * DRIPS_A_SECOND)))
    pieces = range(0, len(answer.body), size)
    for start in pieces:
        await connection.write(answer.body[start : start + size], more=True)
        await connection.silence(fault.value / len(pieces))
    await connection.write(b"", more=False)


async def _cut_off(connection: Connection, answer: Answer, fault: Fault) -> None:
    await connection.start(answer)
    await connection.write(answer.body[: len(answer.body) // 2], more=True)
    await connection.close()


MANNERS: dict[str, Callable[[Connection, Answer, Fault], Awaitable[None]]] = {
    "drop-before": _close,
    "drop-after": _close,
    "reset": _reset,
    "reset-after": _reset,
    "hang-before": _hang,
    "hang-after": _hang,
    "slow": _slow,
    "drip": _drip,
    "cut-off": _cut_off,
}
"""How to deliver an answer, by fault kind."""
UNARRIVED = ("drop-before", "reset", "hang-before")
"""The kinds under which the relay never processes the request."""
UNANSWERED = (*UNARRIVED, "drop-after", "reset-after", "hang-after")
"""The kinds under which the client sees no answer."""


class Delivery(Response):
    """
    The ASGI response that delivers an answer.

    :param fault: How to deliver it. Delivered normally if omitted.
    """

    def __init__(self, answer: Answer, fault: Fault | None = None) -> None:
        super().__init__(status_code=answer.status)
        self.answer = answer
        self.fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Deliver the answer."""
        connection = Connection(scope, receive, send)
        if self.fault is None:
            await send_complete(connection, self.answer)
        else:
            await MANNERS[self.fault.kind.name](connection, self.answer, self.fault)

    @property
    def seen_status(self) -> str:
        """The status that the client sees, or `none`."""
        unanswered = self.fault is not None and self.fault.kind.name in UNANSWERED
        return "none" if unanswered else str(self.answer.status)
