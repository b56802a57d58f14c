"""
The two servers of ``bench.storing``, each in a process of its own: ``python -m bench.storing_servers host`` or ``s3``.

Each prints one line of JSON when it is ready, and ends with its standard input.

The host of the videos sends files of any size, ``/{bytes}/video.mp4``, from a few megabytes of memory: a second of the
sandbox's video, and behind it an MP4 part of type ``free``, which players skip, full of noise. The noise repeats after
a length that no reader's chunk divides, so that chunks which are lost or change places change the SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import random
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NOISE = memoryview(random.Random(0).randbytes(8 * 1024 * 1024 + 4099))


@contextlib.contextmanager
def running(kind: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a server, and say what it said."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.storing_servers", kind, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    ) as process:
        try:
            said = next((line for line in process.stdout if line.startswith('{"url"')), None)
            if said is None:
                raise RuntimeError(f"the server {kind} did not start")
            yield json.loads(said)
        finally:
            process.stdin.close()


def main() -> None:
    kind, *arguments = sys.argv[1:]
    {"host": _host, "s3": _s3}[kind](*arguments)


def _host(*sizes: str) -> None:
    beginning = _video()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = int(self.path.split("/")[1])
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Content-Length", str(size))
            self.end_headers()
            for piece in _pieces(beginning, size):
                self.connection.sendall(piece)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digests = {size: _sha256(beginning, int(size)) for size in sizes}
    _wait(url=f"http://127.0.0.1:{server.server_port}", sha256=digests)


def _s3() -> None:
    from moto.server import ThreadedMotoServer

    logging.disable(logging.CRITICAL)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _wait(url="http://{}:{}".format(*server.get_host_and_port()))


def _wait(**what: Any) -> None:
    print(json.dumps(what), flush=True)
    sys.stdin.read()


def _video() -> bytes:
    from airflow_provider_veo.sandbox.render import Scene, render

    return render(Scene("v", "veo3-fast", "A lighthouse", "16:9", upsampled=False, seconds=1))


def _pieces(beginning: bytes, size: int) -> Iterator[bytes | memoryview]:
    yield beginning
    left = size - len(beginning)
    yield left.to_bytes(4, "big") + b"free"
    left -= 8
    while left:
        piece = NOISE[:left]
        yield piece
        left -= len(piece)


def _sha256(beginning: bytes, size: int) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(beginning, size):
        digest.update(piece)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
