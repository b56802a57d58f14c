"""
Files and folders that the page may read, opened. All of it blocks: see :mod:`airflow_provider_veo.ui.reads`.

A local file is opened once, only if it is a regular file, and without following any link after its path was resolved
and compared with its root. What is checked is what is sent, whoever exchanges files meanwhile.
"""

from __future__ import annotations

import os
import stat
from typing import IO, TYPE_CHECKING

from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.files import remote
from airflow_provider_veo.files.local import is_local
from airflow_provider_veo.ui.access import LOCAL

if TYPE_CHECKING:
    from airflow_provider_veo.ui.access import Admitted

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A FIFO would keep its reader waiting for somebody who writes.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class UnreadableError(Exception):
    """There is nothing that may be read. The reason is for the log: it would tell which files exist."""


class LocalFile:
    """
    A regular file of this machine, open.

    :param file: the file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` up to ``end``; fewer at the end of the file."""
        return os.pread(self._file.fileno(), max(0, min(end, self.size) - begin), begin)

    def close(self) -> None:
        """Close it."""
        self._file.close()


class StoredObject:
    """
    An object of a storage.

    :param path: where it is.
    :param size: in bytes.
    """

    def __init__(self, path: ObjectStoragePath, size: int) -> None:
        self._path = path
        self.size = size

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` up to ``end``; fewer at the end of the object."""
        end = min(end, self.size)
        if begin >= end:
            return b""
        # By their names: what stands second is a version of the object in S3.
        content: bytes = self._path.fs.cat_file(self._path.path, start=begin, end=end)
        return content[: end - begin]

    def close(self) -> None:
        """Nothing is open."""


Opened = LocalFile | StoredObject


def open_file(admitted: Admitted) -> Opened:
    """
    Open a file.

    :raises UnreadableError: it is not a regular file below its root, or its connection is not known.
    :raises OSError: it can't be opened.
    """
    if admitted.location.scheme == LOCAL:
        return LocalFile(_open_local(admitted))
    path = _object_path(admitted)
    size = remote.size_of(path)
    if size is None:
        raise UnreadableError("there is no such object")
    return StoredObject(path, size)


def folder_path(admitted: Admitted) -> ObjectStoragePath:
    """
    Return a folder, for those who know its layout.

    :raises UnreadableError: it is not below its root, or its connection is not known.
    """
    if admitted.location.scheme == LOCAL:
        return ObjectStoragePath(f"file://{_real(admitted)}")
    return _object_path(admitted)


def _object_path(admitted: Admitted) -> ObjectStoragePath:
    location = admitted.location
    if location.conn_id:
        try:
            Connection.get_connection_from_secrets(location.conn_id)
        except Exception as error:  # of any secrets backend
            # The server's own identity would be used in its place.
            raise UnreadableError(f"the connection {location.conn_id!r} is not known") from error
    path = ObjectStoragePath(location.uri)
    if is_local(path) or not path.path.endswith("/".join((location.bucket, *location.parts))):
        raise UnreadableError("the storage would read another path")
    return path


def _real(admitted: Admitted) -> str:
    """
    Return the path that a local one leads to, if that is below its root.

    Of the root, only the part before ``{dag_id}`` may lead elsewhere: DAG authors may write below that.
    """
    root = _root(admitted)
    real = os.path.realpath("/" + "/".join(admitted.location.parts))
    if os.path.commonpath((real, root)) != root:
        raise UnreadableError("it leads out of its root")
    return real


def _root(admitted: Admitted) -> str:
    fixed = admitted.root.fixed
    rest = admitted.root.parts(admitted.dag_id)[len(fixed) :]
    return os.path.join(os.path.realpath("/" + "/".join(fixed)), *rest)


def _open_local(admitted: Admitted) -> IO[bytes]:
    real = _real(admitted)
    *folders, name = real.split(os.sep)[1:]
    folder = os.open("/", _FOLDER)
    try:
        for each in folders:
            inner = os.open(each, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        if not stat.S_ISREG(os.stat(name or ".", dir_fd=folder, follow_symlinks=False).st_mode):
            raise UnreadableError("it is not a regular file")  # to open a device can do something
        opened = os.open(name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise UnreadableError("it is not a regular file")
    return os.fdopen(opened, "rb", buffering=0)
