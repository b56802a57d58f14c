"""Is the file that is there the one that the host holds? The same transfer, into a sink that stores nothing."""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING

from airflow_provider_veo.files.sinks import Sink
from airflow_provider_veo.storage.media import Inspector, NotVideoError
from airflow_provider_veo.storage.order import Received

if TYPE_CHECKING:
    from airflow_provider_veo.files.digests import Digests

_CHUNK_BYTES = 1024 * 1024


class SameError(Exception):
    """It is, and there is no need to read on."""


class DifferentError(Exception):
    """It isn't. The text says how it differs."""


class Comparison(Sink):
    """
    Compares a file with the bytes that come.

    :param file: for reading and seeking.
    :param size: in bytes.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size
        self._position = 0

    def expect(self, total: int | None, digests: Digests) -> None:
        """
        Compare size and checksums, which takes no download.

        :raises DifferentError: they differ.
        :raises SameError: the checksum is the same.
        """
        if total is not None and total != self._size:
            raise DifferentError(f"it has {self._size} bytes, and the video has {total}")
        if not digests.expected and not digests.etag_md5:
            return
        found = self._digests()
        wrong = [name for name, digest in digests.expected.items() if found[name] != digest]
        if wrong:
            raise DifferentError(f"its {wrong[0].upper()} is another one")
        if digests.expected or found["md5"] == digests.etag_md5:
            raise SameError

    def write(self, data: bytes) -> None:
        """
        Compare the next piece.

        :raises DifferentError: it is another one.
        """
        view = memoryview(data)
        while view:
            mine = self._file.read(len(view))
            if not mine or mine != view[: len(mine)]:
                raise DifferentError(f"its bytes differ from byte {self._position} on, or soon after")
            self._position += len(mine)
            view = view[len(mine) :]

    def restart(self) -> None:
        """Compare from the first byte on."""
        self._file.seek(0)
        self._position = 0

    def seal(self) -> None:
        """Nothing is stored."""

    def finish(self) -> None:
        """Nothing is stored."""

    def discard(self) -> None:
        """Nothing is stored."""

    def looked_at(self) -> Received | None:
        """Return what the file says of itself; ``None`` where it is no whole video."""
        inspector, sha256 = Inspector(), hashlib.sha256()
        self.restart()
        try:
            while chunk := self._file.read(_CHUNK_BYTES):
                inspector.feed(chunk)
                sha256.update(chunk)
            missing = inspector.finish()
        except NotVideoError:
            return None
        if missing or inspector.container is None:
            return None
        return Received(self._size, sha256.hexdigest(), inspector.container, verified=inspector.tells_its_end)

    def _digests(self) -> dict[str, bytes]:
        seen = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha256")}
        self.restart()
        while chunk := self._file.read(_CHUNK_BYTES):
            for digest in seen.values():
                digest.update(chunk)
        self.restart()
        return {name: digest.digest() for name, digest in seen.items()}
