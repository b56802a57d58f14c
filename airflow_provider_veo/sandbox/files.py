"""
The video files: rendered once on the first request, outside the event loop, and cached while there is room.

ETags are strong and derived from the content: a file that is rendered again has the same ETag.
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

    from airflow_provider_veo.sandbox.faults import MatchedFaults

ROOM = 128 * 1024 * 1024
"""Maximum bytes of cached files."""
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


class Files:
    """Rendered files by scene."""

    def __init__(self) -> None:
        self._cached: collections.OrderedDict[Scene, bytes] = collections.OrderedDict()
        self._rendering: dict[Scene, asyncio.Future[bytes]] = {}
        # One worker, to leave the other cores to the server and the code under test.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="render")

    async def get(self, scene: Scene) -> bytes:
        """Return a scene's MP4. Render it unless it is cached or being rendered."""
        if scene in self._cached:
            self._cached.move_to_end(scene)
            return self._cached[scene]
        if scene not in self._rendering:
            rendering = asyncio.get_running_loop().run_in_executor(self._worker, render, scene)
            self._rendering[scene] = rendering
            rendering.add_done_callback(lambda done: self._rendered(scene, done))
        # Shielded: the first client may disconnect while others wait for the same file.
        return await asyncio.shield(self._rendering[scene])

    def _rendered(self, scene: Scene, done: asyncio.Future[bytes]) -> None:
        self._rendering.pop(scene, None)
        if done.cancelled() or done.exception():
            return
        self._cached[scene] = done.result()
        while len(self._cached) > 1 and sum(map(len, self._cached.values())) > ROOM:
            self._cached.popitem(last=False)

    def forget(self) -> None:
        """Drop all rendered files."""
        self._cached.clear()

    def close(self) -> None:
        """Stop rendering."""
        self._worker.shutdown(wait=False, cancel_futures=True)


def file_answer(data: bytes, method: str, headers: Mapping[str, str], faults: MatchedFaults) -> Answer:
    """
    Return the answer to a request for a file or a range of it.

    :param headers: The request's headers.
    :param faults: The faults that affect the request. Handles `no-range` and `etag-changes`.
    """
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    if faults.take("etag-changes"):
        etag = f'"{secrets.token_hex(16)}"'
    fields = {"content-type": "video/mp4", "etag": etag, "content-length": str(len(data))}
    if "range" in headers and faults.take("no-range"):
        return Answer(200, data, fields)
    fields["accept-ranges"] = "none" if faults.peek("no-range") else "bytes"
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
    Return the bytes that a Range header requests, or an empty range if it can't be satisfied.

    Return None for the complete file: if the header is missing, malformed, or lists several ranges, which a server may
    ignore (RFC 9110, 14.2).
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
