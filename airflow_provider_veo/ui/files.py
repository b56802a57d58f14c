"""Files of videos, served in pieces as players ask for them, from local and object storage alike."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from fastapi.responses import Response, StreamingResponse

from airflow_provider_veo.storage import media
from airflow_provider_veo.ui.opening import UnreadableError, open_file
from airflow_provider_veo.ui.reads import reads_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_veo.ui.access import Admitted
    from airflow_provider_veo.ui.opening import Opened
    from airflow_provider_veo.ui.reads import Reads

POLICY = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""What browsers put around a video that is opened by itself."""
_PIECE_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


async def serve(admitted: Admitted, asked: str | None) -> Response:
    """
    Return the answer with a file, or with the part of it that is asked for.

    A file that is not a video by its own bytes is not served, whatever a task may have recorded.

    :param admitted: where the file is.
    :param asked: the request's ``Range``.
    :raises BusyError: too many others read from the storage.
    :raises UnreadableError: there is no such file, or none that may be served.
    """
    reads = reads_of(admitted.root)
    file, container = await reads.run(partial(_open_video, admitted))
    response = _answer(reads, file, container.content_type, asked)
    response.headers["Content-Security-Policy"] = POLICY
    return response


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


def _answer(reads: Reads, file: Opened, content_type: str, asked: str | None) -> Response:
    """RFC 9110, 14: one range; where there are several, or what is not a range, the whole file may be sent."""
    headers = {"Accept-Ranges": "bytes"}
    size = file.size
    first, last = 0, size - 1
    if bounds := _RANGE.fullmatch(asked or ""):
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
    """Read on as the client takes what was read: a slow client holds an open file, and no thread."""
    try:
        while first <= last:
            piece = await reads.run_in_turn(partial(file.read, first, min(first + _PIECE_BYTES, last + 1)))
            if not piece:
                raise UnreadableError("the file has become shorter")
            yield piece
            first += len(piece)
    finally:
        file.close()
