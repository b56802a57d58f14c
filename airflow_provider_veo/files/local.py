"""Writing local files: under a temporary name, renamed when complete."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from airflow.providers.common.compat.sdk import ObjectStoragePath


def is_local(path: ObjectStoragePath) -> bool:
    """Whether this is a path of the local file system."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(path.fs, LocalFileSystem)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that renames in it survive a power failure."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def replace_file(path: Path, chunks: Iterable[bytes], make_sure: Callable[[], None] = lambda: None) -> None:
    """
    Write a file atomically, also across a power failure.

    :param make_sure: called after the last chunk, before the file appears. If it raises, the file does not appear.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with open(unfinished, "xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        make_sure()
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)
