"""Atomic reads and writes of small files, in any storage."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_veo.files import remote
from airflow_provider_veo.files.local import is_local, replace_file
from airflow_provider_veo.files.sinks import open_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow.providers.common.compat.sdk import ObjectStoragePath

_SECONDS = 60.0
_AT_A_TIME = 8
log = logging.getLogger(__name__)


def write(path: ObjectStoragePath, content: bytes) -> None:
    """Write a file, in one request if possible."""
    if remote.has_uploads(path.fs):
        path.fs.pipe_file(path.path, content)
    else:
        write_stream(path, [content])


def write_stream(
    path: ObjectStoragePath,
    chunks: Iterable[bytes],
    make_sure: Callable[[], None] = lambda: None,
    content_type: str | None = None,
) -> None:
    """
    Write a file in chunks, with bounded memory.

    :param make_sure: called after the last chunk, before the file appears. If it raises, the file does not appear.
    :param content_type: for storages that record one.
    """
    if is_local(path):  # not by a sink, which another process may have locked: each process has a file of its own
        replace_file(Path(path.path), chunks, make_sure)
        return
    sink = open_sink(path, time.monotonic() + _SECONDS, log)
    sink.content_type = content_type
    try:
        for chunk in itertools.chain([b""], chunks):  # an empty file is a file
            sink.write(chunk)
        sink.seal()
        make_sure()
        sink.finish()
    finally:
        sink.discard()


def read(path: ObjectStoragePath) -> bytes | None:
    """Return the content of a file; ``None`` if it certainly does not exist."""
    try:
        return bytes(path.fs.cat_file(path.path))
    except FileNotFoundError:
        return None


def read_all(paths: Sequence[ObjectStoragePath]) -> list[bytes]:
    """
    Return the contents of several files, which are read concurrently.

    :raises FileNotFoundError: one of them does not exist.
    """
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return list(pool.map(lambda path: bytes(path.fs.cat_file(path.path)), paths))


def names(folder: ObjectStoragePath) -> list[str]:
    """Return the names in a folder, without cached listings; none if the folder does not exist."""
    folder.fs.invalidate_cache(folder.path)
    with contextlib.suppress(FileNotFoundError):
        return [os.path.basename(name.rstrip("/")) for name in folder.fs.ls(folder.path, detail=False)]
    return []


def remove(paths: Sequence[ObjectStoragePath]) -> None:
    """Remove files. Those that can't be removed stay."""
    for path in paths:
        with contextlib.suppress(Exception):
            path.fs.rm_file(path.path)
