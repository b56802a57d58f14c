"""
Open the files and folders that the page may read. All calls block: see :mod:`airflow_provider_veo.ui.reads`.

A local file is opened once, only if it is a regular file, and without following links after its path was resolved and
compared with its root. So the checked file is the one that is sent, even if files are replaced in the meantime.
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
# Opening a FIFO would block until something writes to it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class UnreadableError(Exception):
    """The file may not be read. The reason is only logged: it would reveal which files exist."""


class LocalFile:
    """
    An open local file.

    :param file: a regular file.
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
    An object in a storage.

    :param path: of the object.
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
        # By keyword: on S3, the second positional argument is the version of the object.
        content: bytes = self._path.fs.cat_file(self._path.path, start=begin, end=end)
        return content[: end - begin]

    def close(self) -> None:
        """Do nothing: nothing is open."""


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
    Return the path of a folder.

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
            # Without it, the server's own identity would be used.
            raise UnreadableError(f"the connection {location.conn_id!r} is not known") from error
    path = ObjectStoragePath(location.uri)
    if is_local(path) or not path.path.endswith("/".join((location.bucket, *location.parts))):
        raise UnreadableError("the storage would read another path")
    return path


def _real(admitted: Admitted) -> str:
    """
    Return the resolved local path, if it is below its root.

    Only the part of the root before ``{dag_id}`` may contain links: DAG authors may write below that.
    """
    root = _root(admitted)
    real = os.path.realpath("/" + "/".join(admitted.location.parts))
    if os.path.commonpath((real, root)) != root:
        raise UnreadableError("it is outside its root")
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
            raise UnreadableError("it is not a regular file")  # opening a device can have side effects
        opened = os.open(name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise UnreadableError("it is not a regular file")
    return os.fdopen(opened, "rb", buffering=0)
