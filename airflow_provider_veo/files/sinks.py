"""Where a file's bytes are written until it is complete, for each kind of storage.

Nothing appears under the file's name before ``finish``, and nothing is left after ``discard``. If a process is killed
before either, what it leaves is not under that name, and the next process removes or overwrites it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast
from uuid import uuid4

from airflow_provider_veo.files import remote
from airflow_provider_veo.files.local import is_local, sync_folder

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.files.digests import Digests
    from airflow_provider_veo.log import Log

PART_BYTES = 5 * 1024 * 1024
"""Size of one part of an upload, held in memory. S3 requires at least 5 MiB, and at most 10,000 parts."""
_LOCK_SECONDS = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class BusyError(Exception):
    """Another process is storing the same file."""


class Sink(ABC):
    """Takes a file's bytes in order."""

    content_type: str | None = None
    """Set before the first byte is written."""
    sealed_is_readable: ClassVar[bool] = False
    """Whether the file can be read before it has its name."""

    def expect(self, total: int | None, digests: Digests) -> None:
        """Take the host's size and checksums of the file, before its first byte."""
        return

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Write the next bytes."""

    @abstractmethod
    def restart(self) -> None:
        """Drop all bytes: the next ones are the first."""

    @abstractmethod
    def seal(self) -> None:
        """End the file: no more bytes follow. It has no name yet."""

    @abstractmethod
    def finish(self) -> None:
        """Give the file its name, atomically."""

    @abstractmethod
    def discard(self) -> None:
        """Leave nothing behind, whatever happened before. After ``finish``, do nothing."""

    def open_sealed(self) -> IO[bytes]:
        """Open the file before it has its name."""
        raise NotImplementedError


def open_sink(path: ObjectStoragePath, deadline: float, log: Log) -> Sink:
    """
    Return the sink for a file.

    :param deadline: on the monotonic clock: how long to wait for another process that is storing the same file.
    :raises BusyError: it has not finished by then.
    """
    if is_local(path):
        return LocalFile(Path(path.path), deadline)
    return Upload(path, log) if remote.has_uploads(path.fs) else RenamedFile(path)


class LocalFile(Sink):
    """
    A local file: written under a temporary name in the same folder, synced, renamed.

    The temporary name is derived from the file's, so that the next process overwrites what a killed one left; a lock on
    it, which ends with its process, keeps two processes apart. On a file system without locks the temporary name is
    unique instead, and what a killed process leaves stays.
    """

    sealed_is_readable = True

    def __init__(self, path: Path, deadline: float) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] | None = self._open(deadline)

    def _open(self, deadline: float) -> IO[bytes]:
        while True:
            # Not truncated: without the lock, another process may be writing it.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = open(os.open(self._part, flags, 0o666), "r+b", buffering=0)  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._has_its_name(file):
                    file.truncate(0)
                    return file
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.close()
                    raise BusyError from None
                time.sleep(_LOCK_SECONDS)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    file.close()
                    raise
                file.close()
                self._part = self._path.with_name(f".{self._path.name}.{uuid4().hex}.part")
                return open(self._part, "x+b", buffering=0)
            file.close()

    def _has_its_name(self, file: IO[bytes]) -> bool:
        """
        Whether the locked file still has its name: the previous lock holder may have renamed or removed it.

        A file with another name besides is somebody's file, and is not written to.
        """
        opened = os.fstat(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            if opened.st_nlink > 1:
                os.unlink(self._part)
                return False
            return os.path.samestat(opened, os.stat(self._part))
        return False

    @property
    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise ValueError("the file is closed")
        return self._file

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        view = memoryview(data)
        while view:
            view = view[self._opened.write(view) :]

    def restart(self) -> None:
        """Drop all bytes."""
        self._opened.seek(0)
        self._opened.truncate(0)

    def seal(self) -> None:
        """Sync the file to disk."""
        os.fsync(self._opened.fileno())

    def open_sealed(self) -> IO[bytes]:
        """Open the file before it has its name."""
        return open(self._part, "rb")

    def finish(self) -> None:
        """Rename the file."""
        os.replace(self._part, self._path)
        self._opened.close()
        self._file = None
        sync_folder(self._path.parent)

    def discard(self) -> None:
        """Remove the file, while the lock is held."""
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                self._part.unlink(missing_ok=True)


class Upload(Sink):
    """
    An object in a storage with uploads: it appears when its upload is completed.

    A broken download continues in the same upload. The upload of a killed process never appears under the name; on S3,
    where it would be kept and billed, it is aborted once the file is stored.
    """

    def __init__(self, path: ObjectStoragePath, log: Log) -> None:
        self._path = path
        self._log = log
        self._file: Any = None
        # Uploads that begin later belong to newer processes.
        self._others = remote.unfinished_uploads(path, log)

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        if self._file is None:
            options = remote.content_type_option(self._path.fs, self.content_type)
            self._file = self._path.fs.open(self._path.path, "wb", block_size=PART_BYTES, autocommit=False, **options)
        self._file.write(data)

    def restart(self) -> None:
        """Drop all bytes."""
        self.discard()

    def seal(self) -> None:
        """Do nothing: the last part is sent when the upload ends."""

    def finish(self) -> None:
        """Complete the upload."""
        self._file.close()
        self._file.commit()
        self._file = None
        remote.forget_listings(self._path)
        remote.abort_uploads(self._path, self._others, self._log)

    def discard(self) -> None:
        """Abort the upload."""
        if self._file is not None:
            file, self._file = self._file, None
            # fsspec closes a file on garbage collection, which some storages take for the end of the upload.
            file.closed = True
            with contextlib.suppress(Exception):
                file.discard()


class RenamedFile(Sink):
    """
    A file in any other storage: written under a unique temporary name, then renamed.

    What a killed process leaves stays: ``.{name}.{random}.part``.
    """

    sealed_is_readable = True

    def __init__(self, path: ObjectStoragePath) -> None:
        self._path = path
        self._fs = path.fs
        folder, _, name = path.path.rpartition("/")
        self._folder = folder
        self._part = f"{folder}/.{name}.{uuid4().hex}.part"
        self._file: Any = None
        self._written = False

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        if self._file is None:
            with contextlib.suppress(NotImplementedError):
                self._fs.makedirs(self._folder, exist_ok=True)
            self._written = True
            self._file = self._fs.open(self._part, "wb")
        self._file.write(data)

    def restart(self) -> None:
        """Drop all bytes."""
        self.discard()

    def seal(self) -> None:
        """Close the file."""
        self._file.close()
        self._file = None

    def open_sealed(self) -> IO[bytes]:
        """Open the file again."""
        return cast("IO[bytes]", self._fs.open(self._part, "rb"))

    def finish(self) -> None:
        """Rename the file."""
        try:
            self._fs.mv(self._part, self._path.path)
        except Exception:
            if not self._fs.exists(self._path.path) or not self._fs.exists(self._part):
                raise
            # Not every storage renames over a file. The name is missing only between these two calls.
            self._fs.rm_file(self._path.path)
            self._fs.mv(self._part, self._path.path)
        self._written = False
        remote.forget_listings(self._path)

    def discard(self) -> None:
        """Remove the file."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(Exception):
                file.close()
        if self._written:
            self._written = False
            with contextlib.suppress(Exception):
                self._fs.rm_file(self._part)
