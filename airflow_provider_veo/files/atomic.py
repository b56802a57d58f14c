"""Small files that are there whole or not at all, in any storage."""

from __future__ import annotations

import contextlib
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
    """Write a file, in one request where that is possible."""
    if is_local(path):
        replace_file(Path(path.path), content)
    elif remote.has_uploads(path.fs):
        path.fs.pipe_file(path.path, content)
    else:
        write_stream(path, [content])


def write_stream(
    path: ObjectStoragePath, chunks: Iterable[bytes], make_sure: Callable[[], None] = lambda: None
) -> None:
    """
    Write a file piece by piece, with bounded memory.

    :param make_sure: is called when all is written, before the file appears. What it raises keeps it from appearing.
    """
    sink = open_sink(path, time.monotonic() + _SECONDS, log)
    try:
        for chunk in chunks:
            sink.write(chunk)
        sink.seal()
        make_sure()
        sink.finish()
    finally:
        sink.discard()


def read(path: ObjectStoragePath) -> bytes | None:
    """Return what is in a file; ``None`` where there certainly is none."""
    try:
        return bytes(path.fs.cat_file(path.path))
    except FileNotFoundError:
        return None


def read_all(paths: Sequence[ObjectStoragePath]) -> list[bytes]:
    """
    Return what is in several files, asking for some of them at a time.

    :raises FileNotFoundError: one of them isn't there.
    """
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return list(pool.map(lambda path: bytes(path.fs.cat_file(path.path)), paths))


def names(folder: ObjectStoragePath) -> list[str]:
    """Return the names of what is in a folder, as the storage knows it now; none if there is no such folder."""
    folder.fs.invalidate_cache(folder.path)
    with contextlib.suppress(FileNotFoundError):
        return [os.path.basename(name.rstrip("/")) for name in folder.fs.ls(folder.path, detail=False)]
    return []


def remove(paths: Sequence[ObjectStoragePath]) -> None:
    """Remove files that nobody needs any more. What can't be removed stays."""
    for path in paths:
        with contextlib.suppress(Exception):
            path.fs.rm_file(path.path)
