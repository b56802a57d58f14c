"""A proxy that demands a password, and a server whose answers are raw bytes."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading

PASSWORD = "canary-proxy-5e0b7d"
CHALLENGE = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
)


class Raw(socketserver.ThreadingTCPServer):
    """Answers each request by ``answer(connection, head)``, and keeps the heads."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer) -> None:
        self.heads: list[bytes] = []
        self.over = threading.Event()
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                head = b""
                with contextlib.suppress(OSError):
                    while b"\r\n\r\n" not in head and (data := self.request.recv(65536)):
                        head += data
                    if head:
                        server.heads.append(head)
                        answer(server, self.request)
                        # Do not reset a client that is still sending its body.
                        self.request.shutdown(socket.SHUT_WR)
                        self.request.settimeout(2)
                        while self.request.recv(65536):
                            pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]


@contextlib.contextmanager
def serving(answer):
    with Raw(answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()


def refuse(server, connection) -> None:
    connection.sendall(CHALLENGE)


def drip(server, connection) -> None:
    """Send a header that never ends, slower than no read timeout."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while not server.over.wait(0.1):
        connection.sendall(b"x")
