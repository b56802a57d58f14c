"""Where a download's bytes go until the file is whole: each kind of storage has its own place for that.

Nothing appears under the file's name before ``finish``, and nothing is left after ``discard``. Where a process is
killed before either, what it leaves is not under the name, and the next one takes it away or writes over it.
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
    import logging

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.files.digests import Digests

PART_BYTES = 5 * 1024 * 1024
"""A part of an upload, which is held in memory. S3 takes at least 5 MiB and at most 10,000 of them."""
_LOCK_SECONDS = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class BusyError(Exception):
    """Another process is storing the same file."""


class Sink(ABC):
    """Takes a file's bytes in their order."""

    content_type: str | None = None
    """What the file is, known before its first byte is written."""
    sealed_is_readable: ClassVar[bool] = False
    """Whether the file can be looked at before it has its name."""

    def expect(self, total: int | None, digests: Digests) -> None:
        """Hear what the server says of the file, before its first byte."""
        return

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Take the next piece."""

    @abstractmethod
    def restart(self) -> None:
        """Forget all pieces: the next one is the first."""

    @abstractmethod
    def seal(self) -> None:
        """Have all pieces: none follows. The file has no name yet."""

    @abstractmethod
    def finish(self) -> None:
        """Give the file its name, at once and as a whole."""

    @abstractmethod
    def discard(self) -> None:
        """Leave nothing behind. Whatever happened before; also after ``finish``, when it does nothing."""

    def open_sealed(self) -> IO[bytes]:
        """Open the file before it has its name."""
        raise NotImplementedError


def open_sink(path: ObjectStoragePath, deadline: float, log: logging.Logger) -> Sink:
    """
    Return the way to store a file.

    :param deadline: on the monotonic clock, for another process that is storing it to be ready.
    :raises BusyError: it still is.
    """
    if is_local(path):
        return LocalFile(Path(path.path), deadline)
    return Upload(path, log) if remote.has_uploads(path.fs) else RenamedFile(path)


class LocalFile(Sink):
    """
    A file in a local file system: written beside its final place, synced, renamed.

    The name beside it follows from the file's, so that what a killed process left is written over; a lock on it, which
    dies with its process, keeps two processes apart. Where a file system has no locks the name is unique instead, and
    what a killed process leaves stays.
    """

    sealed_is_readable = True

    def __init__(self, path: Path, deadline: float) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] | None = self._open(deadline)

    def _open(self, deadline: float) -> IO[bytes]:
        while True:
            # Not truncated: it may be another process's, until the lock is ours.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = open(os.open(self._part, flags, 0o666), "r+b", buffering=0)  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_at_its_place(file):
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

    def _is_at_its_place(self, file: IO[bytes]) -> bool:
        """Whoever had the lock before may have renamed or removed the file that we have just opened and locked."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self._part))
        return False

    @property
    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise ValueError("the file is closed")
        return self._file

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        view = memoryview(data)
        while view:
            view = view[self._opened.write(view) :]

    def restart(self) -> None:
        """Forget all pieces."""
        self._opened.seek(0)
        self._opened.truncate(0)

    def seal(self) -> None:
        """Have all pieces on the disk, also when the machine loses its power."""
        os.fsync(self._opened.fileno())

    def open_sealed(self) -> IO[bytes]:
        """Open the file before it has its name."""
        return open(self._part, "rb")

    def finish(self) -> None:
        """Rename it."""
        os.replace(self._part, self._path)
        self._opened.close()
        self._file = None
        sync_folder(self._path.parent)

    def discard(self) -> None:
        """Remove it, as long as the lock says that it is ours."""
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                self._part.unlink(missing_ok=True)


class Upload(Sink):
    """
    An object in a storage that has uploads: nothing is there before one is completed.

    A broken download goes on in the same upload. What a killed process has begun is never seen under the name; on S3,
    where it would be kept and billed for, it is taken away when the file is stored at last.
    """

    def __init__(self, path: ObjectStoragePath, log: logging.Logger) -> None:
        self._path = path
        self._log = log
        self._file: Any = None
        # Those that begin later are of processes that are newer than this one.
        self._others = remote.unfinished_uploads(path, log)

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        if self._file is None:
            options = remote.content_type_option(self._path.fs, self.content_type)
            self._file = self._path.fs.open(self._path.path, "wb", block_size=PART_BYTES, autocommit=False, **options)
        self._file.write(data)

    def restart(self) -> None:
        """Forget all pieces."""
        self.discard()

    def seal(self) -> None:
        """Nothing: the last part goes out with the end of the upload."""

    def finish(self) -> None:
        """Complete the upload."""
        self._file.close()
        self._file.commit()
        self._file = None
        remote.forget_listings(self._path)
        remote.abort_uploads(self._path, self._others, self._log)

    def discard(self) -> None:
        """Give the upload up."""
        if self._file is not None:
            file, self._file = self._file, None
            # fsspec closes a file that is forgotten, and some storages take that for the end of the upload.
            file.closed = True
            with contextlib.suppress(Exception):
                file.discard()


class RenamedFile(Sink):
    """
    A file in a storage of which nothing better is known: written under a name that nobody else has, then renamed.

    What a killed process leaves there stays: ``.{name}.{random}.part``.
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
        """Take the next piece."""
        if self._file is None:
            with contextlib.suppress(NotImplementedError):
                self._fs.makedirs(self._folder, exist_ok=True)
            self._written = True
            self._file = self._fs.open(self._part, "wb")
        self._file.write(data)

    def restart(self) -> None:
        """Forget all pieces."""
        self.discard()

    def seal(self) -> None:
        """Close it."""
        self._file.close()
        self._file = None

    def open_sealed(self) -> IO[bytes]:
        """Open it again."""
        return cast("IO[bytes]", self._fs.open(self._part, "rb"))

    def finish(self) -> None:
        """Rename it."""
        try:
            self._fs.mv(self._part, self._path.path)
        except Exception:
            if not self._fs.exists(self._path.path) or not self._fs.exists(self._part):
                raise
            # Not every storage renames over a file. This is the only moment without one under the name.
            self._fs.rm_file(self._path.path)
            self._fs.mv(self._part, self._path.path)
        self._written = False
        remote.forget_listings(self._path)

    def discard(self) -> None:
        """Remove it."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(Exception):
                file.close()
        if self._written:
            self._written = False
            with contextlib.suppress(Exception):
                self._fs.rm_file(self._part)
