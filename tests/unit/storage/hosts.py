"""A media host over real HTTP whose answers are scripted, and which remembers every request."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import Any


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def video(size: int = 100_000, *, brand: bytes = b"isom", seed: bytes = b"") -> bytes:
    """An MP4 that is whole and that no player plays, of just this size."""
    head = box(b"ftyp", brand + b"\0\0\2\0isomiso2") + box(b"moov", box(b"mvhd", bytes(100)))
    rest = size - len(head) - 8
    noise = b"".join(hashlib.sha256(seed + n.to_bytes(4, "big")).digest() for n in range(rest // 32 + 1))
    return head + box(b"mdat", noise[:rest])


@dataclass
class Reply:
    """How one request is answered. Everything that is not named is as it should be."""

    status: int | None = None
    body: bytes | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    """Those whose value is ``None`` are left out."""
    cut: int | None = None
    """Number of bytes of the body after which the connection ends."""
    ranges: bool = True
    chunked: bool = False
    reset: bool = False


class Host(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content`` under every path, by the replies in ``server.script`` first."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, dict(self.headers)))
        reply = server.script.pop(0) if server.script else server.always
        self.close_connection = True
        if callable(reply):
            reply = reply(self)
        whole = server.content if reply.body is None else reply.body
        etag = reply.headers.get("ETag", f'"{hashlib.sha256(whole).hexdigest()[:20]}"')
        headers = {"Content-Type": "video/mp4", "ETag": etag}
        status, body = 200, whole
        part = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        validator = self.headers.get("If-Range")
        if part and reply.ranges and validator in (None, etag, reply.headers.get("Last-Modified")):
            start = int(part[1])
            status, body = 206, whole[start:]
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
            if not body:
                status, headers["Content-Range"] = 416, f"bytes */{len(whole)}"
        headers |= {"Transfer-Encoding": "chunked"} if reply.chunked else {"Content-Length": str(len(body))}
        self.send_response_only(reply.status or status)
        for name, value in (headers | reply.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        sent = body if reply.cut is None else body[: reply.cut]
        if reply.chunked:
            for at in range(0, len(sent), 1000):
                piece = sent[at : at + 1000]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if reply.cut is None:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(sent)
        if reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def finish(self) -> None:
        with contextlib.suppress(OSError):  # the client has hung up
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *arguments: Any) -> None:
        pass


def redirect(to: str, status: int = 302) -> Reply:
    return Reply(status=status, body=b"elsewhere", headers={"Location": to})
