"""
An object storage in the memory of a process of its own, to which the tasks' processes talk.

fsspec's ``memory://`` ends with its process, and its files end with it. Here Airflow gets another file
system for that scheme, in the way a provider package adds one: an entry point, and a module with ``schemes`` and
``get_fs`` (this one).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from functools import cached_property
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING

from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADDRESS = "VEO_CHAOS_MEMORY"
"""The variable of the environment that says where the memory is, as JSON: host and port."""
ROOT = "memory://journal"
_AUTHKEY = b"chaos"
_METHODS = ("cat_file", "pipe_file", "rm_file", "makedirs", "find", "info", "ls", "exists", "mv")

schemes = ("memory",)


class _Manager(BaseManager):
    pass


_Manager.register("files", MemoryFileSystem, exposed=_METHODS)


class SharedMemoryFileSystem(AbstractFileSystem):
    """fsspec's memory file system, in another process."""

    protocol = "memory"
    cachable = False

    @cached_property
    def _files(self) -> MemoryFileSystem:
        manager = _Manager(tuple(json.loads(os.environ[ADDRESS])), _AUTHKEY)
        manager.connect()
        return manager.files()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path)

    def cat_file(self, path, start=None, end=None, **_):
        return self._files.cat_file(path, start, end)

    def pipe_file(self, path, value, mode="overwrite", **_):
        self._files.pipe_file(path, value, mode)

    def _open(self, path, mode="rb", **_):
        return io.BytesIO(self.cat_file(path)) if "r" in mode else _NewFile(self, path)

    def mv(self, path1, path2, **_):
        self._files.mv(path1, path2)

    def rm_file(self, path):
        self._files.rm_file(path)

    def makedirs(self, path, exist_ok=False):
        self._files.makedirs(path, exist_ok)

    def ls(self, path, detail=True, **_):
        return self._files.ls(path, detail)

    def info(self, path, **_):
        return self._files.info(path)


class _NewFile(io.BytesIO):
    """A file that exists once it is closed."""

    def __init__(self, fs: SharedMemoryFileSystem, path: str) -> None:
        super().__init__()
        self._fs = fs
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._fs.pipe_file(self._path, self.getvalue())
        super().close()


def get_fs(conn_id: str | None, storage_options: dict | None = None) -> SharedMemoryFileSystem:
    """Return the file system, as Airflow expects it from providers."""
    return SharedMemoryFileSystem()


def get_provider_info() -> dict:
    """Return Airflow's settings."""
    return {
        "package-name": "veo-chaos-memory",
        "name": "Memory",
        "description": "A memory that processes share.",
        "filesystems": [__name__],
    }


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """
    Run the memory's process, and return what Airflow's environment needs to know of it.

    :param folder: an empty one, for the package that tells Airflow of it.
    """
    package = folder / "veo_chaos_memory-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: veo-chaos-memory\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        f"[apache_airflow_provider]\nprovider_info={__name__}:get_provider_info\n"
    )
    with _Manager(("127.0.0.1", 0), _AUTHKEY, ctx=get_context("spawn")) as manager:
        yield {ADDRESS: json.dumps(manager.address), "PYTHONPATH": str(folder)}


def records(variables: dict[str, str]) -> dict[str, bytes]:
    """Return all that is kept, by path."""
    manager = _Manager(tuple(json.loads(variables[ADDRESS])), _AUTHKEY)
    manager.connect()
    files = manager.files()
    return {path: files.cat_file(path) for path in files.find("/")}
