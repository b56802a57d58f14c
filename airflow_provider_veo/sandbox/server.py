"""
The server process: its socket, its signals, its parent, and access to the transport that faults need.

It ends at once and without errors, even with requests in progress.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_veo.sandbox.app import build
from airflow_provider_veo.sandbox.guard import Guard

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from airflow_provider_veo.sandbox.relay import Relay

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open. Longer than poll intervals: if the server closed a connection just as a
client sends, the request would look lost, and that should happen only as a fault."""
GRACE = 3
"""Seconds to finish open requests at the end."""
BACKLOG = 2048


class Protocol(H11Protocol):
    """
    uvicorn's HTTP protocol, with the transport in each request's state, so that faults can close it.

    It is the one of h11: httptools is faster, but loses the body of a request that offers an upgrade to HTTP/2, as
    `curl --http2` and Java's client do.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Store the transport in `app_state`, which uvicorn copies into the scope of each request."""
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)

    def shutdown(self) -> None:
        """Drop the connection when the server stops, even if a fault keeps it hanging."""
        self.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """
    Return a socket that accepts connections.

    :param port: 0 is a free port.
    :raises OSError: The port is in use, or the host is not this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def serve(
    relay: Relay,
    listener: socket.socket,
    host: str,
    allowed_hosts: Iterable[str] = (),
    verbose: bool = False,
    parent: int | None = None,
) -> None:
    """
    Serve until a signal arrives or the parent is gone.

    :param host: The host that the listener listens on.
    :param allowed_hosts: Additional values of the `Host` header, each `HOST[:PORT]`.
    :param verbose: Print a line for each request.
    :param parent: Process id of the parent. The server ends with it, or when standard input is closed.
    """
    _log_to_stdout(verbose)
    _allow_many_connections()
    config = uvicorn.Config(
        Guard(build(relay), host, listener.getsockname()[1], allowed_hosts),
        http=Protocol,
        ws="none",  # an upgrade is an ordinary request, which the guard checks
        log_config=None,
        access_log=verbose,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        backlog=BACKLOG,
    )
    server = uvicorn.Server(config)
    _end_on_signals(server)
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent, server), daemon=True).start()
    print(greeting(listener, relay.settings.api_key), flush=True)
    server.run(sockets=[listener])


def greeting(listener: socket.socket, api_key: str) -> str:
    """Return the message printed at the start. Nothing else prints the key."""
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    connection = json.dumps({"conn_type": "veo", "host": url, "password": api_key})
    return (
        f"Veo sandbox relay on {url}  (Ctrl+C stops it)\n"
        f"  statistics      {url}/_sandbox/stats\n"
        f"  for Airflow     copy this line:\n"
        f"export AIRFLOW_CONN_VEO_DEFAULT={shlex.quote(connection)}"
    )


def _log_to_stdout(verbose: bool) -> None:
    # A closed pipe (`| head`) or a terminal without Chinese must not make a request fail.
    logging.raiseExceptions = False
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("airflow_provider_veo.sandbox", *(["uvicorn.access"] if verbose else [])):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
    # It warns of every upgrade that a client offers.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _allow_many_connections() -> None:
    if sys.platform == "win32":  # which has no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems report a hard limit that they don't grant.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end_on_signals(server: uvicorn.Server) -> None:
    # uvicorn raises the signal again when it has stopped. With this handler, that is not an error exit.
    def end(number: int, frame: Any) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _end_with(parent: int, server: uvicorn.Server) -> None:
    """
    Stop the server when its parent is gone.

    The pipe closes at once, unless another child of the parent holds its other end. Then the parent's id changes.
    """
    closed = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        closed.set()

    threading.Thread(target=read, daemon=True).start()
    while not closed.wait(1) and os.getppid() == parent:
        pass
    server.should_exit = True
    time.sleep(GRACE + 2)
    os._exit(1)  # the server did not stop in time
