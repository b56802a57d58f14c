"""
The videos' files: rendered when first asked for, once, off the event loop, and kept while there is room.

A file's ETag is strong: the same bytes have the same one, also after the file was forgotten and rendered again.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_veo.sandbox.answers import Answer
from airflow_provider_veo.sandbox.render import Scene, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_veo.sandbox.faults import Met

ROOM = 128 * 1024 * 1024
"""Bytes of rendered files that are kept."""
_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)


class Files:
    """Rendered files by name."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[Scene, bytes] = collections.OrderedDict()
        self._coming: dict[Scene, asyncio.Future[bytes]] = {}
        # One worker: rendering shares two cores with the server and with whoever is being tested.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="render")

    async def get(self, scene: Scene) -> bytes:
        """Return a scene's MP4, rendering it if nobody has, and waiting if somebody is about to."""
        if scene in self._kept:
            self._kept.move_to_end(scene)
            return self._kept[scene]
        if scene not in self._coming:
            coming = asyncio.get_running_loop().run_in_executor(self._worker, render, scene)
            self._coming[scene] = coming
            coming.add_done_callback(lambda done: self._arrive(scene, done))
        # Shielded: the one who asked first may hang up while others wait for the same file.
        return await asyncio.shield(self._coming[scene])

    def _arrive(self, scene: Scene, done: asyncio.Future[bytes]) -> None:
        self._coming.pop(scene, None)
        if done.cancelled() or done.exception():
            return
        self._kept[scene] = done.result()
        while len(self._kept) > 1 and sum(map(len, self._kept.values())) > ROOM:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        """Drop all rendered files."""
        self._kept.clear()

    def close(self) -> None:
        """Render nothing more."""
        self._worker.shutdown(wait=False, cancel_futures=True)


def file_answer(data: bytes, method: str, headers: Mapping[str, str], met: Met) -> Answer:
    """
    Return the answer to a request for a file, whole or the part that was asked for.

    :param headers: The request's.
    :param met: Faults: `no-range` and `etag-changes` are looked at here.
    """
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    if met.take("etag-changes"):
        etag = f'"{secrets.token_hex(16)}"'
    fields = {"content-type": "video/mp4", "etag": etag, "content-length": str(len(data))}
    if "range" in headers and met.take("no-range"):
        return Answer(200, data, fields)
    fields["accept-ranges"] = "none" if met.peek("no-range") else "bytes"
    wanted = headers.get("range", "") if method == "GET" and headers.get("if-range", etag) == etag else ""
    part = _part(wanted, len(data))
    if part is None:
        return Answer(200, data, fields)
    if not part:
        return Answer(416, b"", fields | {"content-range": f"bytes */{len(data)}", "content-length": "0"})
    where = {"content-range": f"bytes {part.start}-{part.stop - 1}/{len(data)}", "content-length": str(len(part))}
    return Answer(206, data[part.start : part.stop], fields | where)


def _part(wanted: str, size: int) -> range | None:
    """
    Return the bytes that a Range header means: none (an empty range) if it can't be satisfied.

    It is None for the whole file: there is no such header, or it is malformed or lists several parts, which a server
    may ignore (RFC 9110, 14.2).
    """
    match = _RANGE.fullmatch(wanted)
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1 if last else size, size))
