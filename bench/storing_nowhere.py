"""A storage that forgets: ``nowhere://``, so that what is measured is fetching and checking, and no disk or upload."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import fsspec
from airflow.sdk.io import attach

if TYPE_CHECKING:
    from typing_extensions import Buffer

SCHEME = "nowhere"


class _Forgotten(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        return len(memoryview(data))


class Nowhere(fsspec.AbstractFileSystem):
    """Takes every file, and has none."""

    protocol = SCHEME

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        raise FileNotFoundError(path)

    def open(self, path: str, mode: str = "rb", **_: Any) -> _Forgotten:
        if mode != "wb":
            raise FileNotFoundError(path)
        return _Forgotten()

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """There are no folders."""

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        """There are no files."""


fsspec.register_implementation(SCHEME, Nowhere)
attach(SCHEME, fs=Nowhere())
warnings.filterwarnings("ignore", message="UPath 'nowhere'")
