"""Serve posters, and video files in ranges, as players request them, from local and object storage."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import TYPE_CHECKING

from fastapi.responses import Response, StreamingResponse

from airflow_provider_veo.storage import media, poster
from airflow_provider_veo.ui.opening import UnreadableError, open_file
from airflow_provider_veo.ui.reads import reads_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from airflow_provider_veo.ui.access import Admitted, Root
    from airflow_provider_veo.ui.opening import Opened
    from airflow_provider_veo.ui.reads import Reads

POLICY = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""For a video that is opened in a tab of its own."""
POSTER_SECONDS = 300
"""How long a browser shows a poster again without a request. Then it asks whether the poster has changed."""
_PIECE_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


async def serve(admitted: Admitted, requested: str | None) -> Response:
    """
    Return a response with a file, or with the requested part of it.

    A file that is not a video by its own bytes is not served, whatever a task has recorded.

    :param admitted: the path of the file.
    :param requested: the ``Range`` header of the request.
    :raises BusyError: too many reads of the storage are running or waiting.
    :raises UnreadableError: the file does not exist or may not be served.
    """
    reads = reads_of(admitted.root)
    file, container = await reads.run(partial(_open_video, admitted))
    response = _answer(reads, file, container.content_type, requested)
    response.headers["Content-Security-Policy"] = POLICY
    return response


async def serve_poster(root: Root, find: Callable[[], Admitted | None], known: str | None) -> Response:
    """
    Return a response with a poster.

    A file that is not a poster stored by this package is not served, whatever a task has recorded.

    :param root: the root below which it is.
    :param find: finds the path of the poster; it may block.
    :param known: the ``If-None-Match`` header of the request.
    :raises BusyError: too many reads of the storage are running or waiting.
    :raises UnreadableError: the file does not exist or may not be served.
    """
    content = await reads_of(root).run(lambda: _poster(find()))
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"private, max-age={POSTER_SECONDS}"}
    if tag in (known or ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=poster.CONTENT_TYPE)


def _poster(admitted: Admitted | None) -> bytes:
    if admitted is None:
        raise UnreadableError("its video has no name")
    file = open_file(admitted)
    try:
        content = file.read(0, poster.MAX_BYTES + 1)
    finally:
        file.close()
    if len(content) > poster.MAX_BYTES or not poster.is_poster(content):
        raise UnreadableError("it is not a poster")
    return content


def _open_video(admitted: Admitted) -> tuple[Opened, media.Container]:
    file = open_file(admitted)
    try:
        container = media.container_of(file.read(0, media.HEAD_BYTES))
        if container is None:
            raise UnreadableError("it is not a video")
    except BaseException:
        file.close()
        raise
    return file, container


def _answer(reads: Reads, file: Opened, content_type: str, requested: str | None) -> Response:
    """RFC 9110, 14: a single range. Otherwise (several, or an invalid one) the whole file may be sent."""
    headers = {"Accept-Ranges": "bytes"}
    size = file.size
    first, last = 0, size - 1
    if bounds := _RANGE.fullmatch(requested or ""):
        begin, end = bounds.groups()
        if begin:
            first, last = int(begin), min(int(end), last) if end else last
        elif end:
            first = max(0, size - int(end))
        if (begin or end) and not first <= last:
            file.close()
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    is_part = (first, last) != (0, size - 1)
    if is_part:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    return StreamingResponse(_pieces(reads, file, first, last), 206 if is_part else 200, headers, content_type)


async def _pieces(reads: Reads, file: Opened, first: int, last: int) -> AsyncIterator[bytes]:
    """Read the next piece when the client has taken the last: a slow client holds an open file, but no thread."""
    try:
        while first <= last:
            piece = await reads.run_in_turn(partial(file.read, first, min(first + _PIECE_BYTES, last + 1)))
            if not piece:
                raise UnreadableError("the file has become shorter")
            yield piece
            first += len(piece)
    finally:
        file.close()
