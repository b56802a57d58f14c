"""Compare an existing file with the host's: the same transfer, into a sink that stores nothing."""

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
    """The files are the same; there is no need to read further."""


class DifferentError(Exception):
    """The files differ. The message says how."""


class Comparison(Sink):
    """
    Compares a file with the bytes that are received.

    :param file: open for reading and seeking.
    :param size: in bytes.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size
        self._position = 0

    def expect(self, total: int | None, digests: Digests) -> None:
        """
        Compare size and checksums, without a download.

        :raises DifferentError: one of them differs.
        :raises SameError: a checksum is the same.
        """
        if total is not None and total != self._size:
            raise DifferentError(f"it has {self._size} bytes, and the video has {total}")
        if not digests.expected and not digests.etag_md5:
            return
        found = self._digests()
        wrong = [name for name, digest in digests.expected.items() if found[name] != digest]
        if wrong:
            raise DifferentError(f"its {wrong[0].upper()} differs")
        if digests.expected or found["md5"] == digests.etag_md5:
            raise SameError

    def write(self, data: bytes) -> None:
        """
        Compare the next bytes.

        :raises DifferentError: they differ.
        """
        view = memoryview(data)
        while view:
            mine = self._file.read(len(view))
            if not mine or mine != view[: len(mine)]:
                raise DifferentError(f"its bytes differ at or soon after offset {self._position}")
            self._position += len(mine)
            view = view[len(mine) :]

    def restart(self) -> None:
        """Compare from the first byte again."""
        self._file.seek(0)
        self._position = 0

    def seal(self) -> None:
        """Nothing is stored."""

    def finish(self) -> None:
        """Nothing is stored."""

    def discard(self) -> None:
        """Nothing is stored."""

    def inspect(self) -> Received | None:
        """Return the facts that the file itself gives; ``None`` if it is not a complete video."""
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
