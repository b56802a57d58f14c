"""Files of videos, served in pieces as players ask for them, from local or object storage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fastapi import HTTPException
from fastapi.responses import FileResponse, Response, StreamingResponse

from airflow_provider_veo.local_files import is_local
from airflow_provider_veo.storage import media, remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

POLICY = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""What browsers put around a video that is opened by itself."""
_PIECE_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


def serve(path: ObjectStoragePath, asked: str | None) -> Response:
    """
    Return the answer with a file, or the part of it that is asked for.

    A file that is no video by its own bytes is not served, whatever a task may have recorded.

    :param path: where the file is.
    :param asked: the request's ``Range``.
    :raises HTTPException: there is no such file, or it is none that may be served, or the storage can't be read.
    """
    try:
        size = remote.size_of(path)
        container = None if size is None else media.container_of(_bytes(path, 0, media.HEAD_BYTES))
    except Exception as error:  # of any storage library
        raise HTTPException(502, f"The file can't be read where it is stored: {type(error).__name__}") from error
    if size is None:
        raise HTTPException(404, "There is no such file any more, or none that this server can reach.")
    if container is None:
        raise HTTPException(403, "What is recorded as this video's file is no video.")
    if is_local(path):
        response: Response = FileResponse(path.path, media_type=container.content_type)
    else:
        response = _part(path, size, container.content_type, asked)
    response.headers["Content-Security-Policy"] = POLICY
    return response


def _part(path: ObjectStoragePath, size: int, content_type: str, asked: str | None) -> Response:
    """RFC 9110, 14: one range; where there are several, or what is no range, the whole file may be sent."""
    headers = {"Accept-Ranges": "bytes"}
    first, last = 0, size - 1
    if bounds := _RANGE.fullmatch(asked or ""):
        begin, end = bounds.groups()
        if begin:
            first, last = int(begin), min(int(end), last) if end else last
        elif end:
            first = max(0, size - int(end))
        if (begin or end) and not first <= last:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    is_part = (first, last) != (0, size - 1)
    if is_part:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    return StreamingResponse(_pieces(path, first, last), 206 if is_part else 200, headers, content_type)


def _pieces(path: ObjectStoragePath, first: int, last: int) -> Iterator[bytes]:
    while first <= last:
        end = min(first + _PIECE_BYTES, last + 1)
        yield _bytes(path, first, end)
        first = end


def _bytes(path: ObjectStoragePath, begin: int, end: int) -> bytes:
    # By their names: what stands second is a version of the object in S3.
    content: bytes = path.fs.cat_file(path.path, start=begin, end=end)
    return content
