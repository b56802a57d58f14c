"""
The poster of a stored video: a small JPEG beside it, if PyAV is installed.

The video has been billed, and a poster is only a convenience. So nothing that happens here fails the task, and only an
earlier poster is ever replaced: each one has the SHA-256 of its video in a comment, by which it is recognized.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING

from airflow_provider_veo.files import remote
from airflow_provider_veo.files.local import is_local
from airflow_provider_veo.files.sinks import open_sink
from airflow_provider_veo.protocol.text import shortened, storable
from airflow_provider_veo.storage.names import poster_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.log import Log

CONTENT_TYPE = "image/jpeg"
MAX_BYTES = 64_000
"""More than a poster has."""
_START, _END = b"\xff\xd8", b"\xff\xd9"
_COMMENT = b"\xff\xfe"
_MARK = b"airflow-provider-veo: poster of a video with SHA-256 "
_HEAD_BYTES = 256
"""The comment of a poster is within these."""
_SECONDS = 20.0
_SECONDS_TO_LOCK = 10.0
_COPIED_BYTES = 64 * 1024**2
"""A larger video in an object storage gets no poster: the program that decodes it needs a local file."""
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PYTHONHOME")
"""All that the program gets of this process's environment, which may contain secrets."""
_ERROR_CHARACTERS = 300
_one_at_a_time = threading.Lock()
"""The files of a batch are stored in several threads. This bounds the memory of all decoders."""


class NoPosterError(Exception):
    """There is no poster, for the reason in the message."""


def store_poster(video: ObjectStoragePath, size: int, content_type: str, sha256: str, log: Log) -> str | None:
    """
    Store a video's poster, unless it exists already, and return its URI.

    :param video: path of a complete video.
    :param size: of the video, in bytes.
    :param content_type: of the video.
    :param sha256: of the video.
    :param log: the task's. A failure is only logged.
    :return: ``None`` if PyAV is not installed, the video can't be decoded within the limits of
        :mod:`~airflow_provider_veo.storage.frame`, or a file that is not a poster has the name.
    """
    if find_spec("av") is None:
        return None
    try:
        path = video.parent / poster_name(video.name)
        existing = _head(path)
        if existing is not None and not is_poster(existing):
            raise NoPosterError(f"{path.name} exists and is not a poster; it was not changed")
        if existing is None or sha256.encode() not in existing:
            _write(path, _marked(_decoded(video, size, content_type), sha256), log)
        return remote.uri(path)
    except Exception as error:  # of any storage library, or of the decoder
        reason = error if isinstance(error, NoPosterError) else f"{type(error).__name__}: {error}"
        log.warning("%s is stored, but has no poster: %s", video, reason)
        return None


def is_poster(head: bytes) -> bool:
    """Whether a file is a poster that this package has stored, by its first bytes."""
    return head.startswith(_START) and _MARK in head[:_HEAD_BYTES]


def _head(path: ObjectStoragePath) -> bytes | None:
    """Return the first bytes of a file; ``None`` if it certainly does not exist."""
    if remote.size_of(path) is None:
        return None
    with contextlib.closing(remote.open_for_reading(path)) as file:
        return file.read(_HEAD_BYTES)


def _write(path: ObjectStoragePath, content: bytes, log: Log) -> None:
    sink = open_sink(path, time.monotonic() + _SECONDS_TO_LOCK, log)
    sink.content_type = CONTENT_TYPE
    try:
        sink.write(content)
        sink.seal()
        sink.finish()
    finally:
        sink.discard()


def _marked(jpeg: bytes, sha256: str) -> bytes:
    comment = _MARK + sha256.encode()
    return _START + _COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[len(_START) :]


def _decoded(video: ObjectStoragePath, size: int, content_type: str) -> bytes:
    """
    Return the JPEG that :mod:`~airflow_provider_veo.storage.frame` makes.

    :raises NoPosterError: it made none within its limits.
    """
    program = [sys.executable, "-B", "-m", "airflow_provider_veo.storage.frame", content_type]
    with (
        _one_at_a_time,
        _local_file(video, size) as file,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        try:
            done = subprocess.run(  # noqa: S603  no part of it comes from outside
                program,
                stdin=file,
                stdout=output,
                stderr=errors,
                env=_environment(),
                cwd="/",
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoPosterError(f"decoding took more than {_SECONDS:g} s") from None
        output.seek(0)
        jpeg = output.read(MAX_BYTES)
        if done.returncode or not jpeg.startswith(_START) or not jpeg.endswith(_END):
            raise NoPosterError(f"it could not be decoded: {_reason(done.returncode, errors)}")
        return jpeg


@contextlib.contextmanager
def _local_file(video: ObjectStoragePath, size: int) -> Iterator[IO[bytes]]:
    """Open a video as a local file; one in another storage is copied."""
    with contextlib.closing(remote.open_for_reading(video)) as file:
        if is_local(video):
            yield file
            return
        if size > _COPIED_BYTES:
            raise NoPosterError(f"it has {size} bytes; in this storage, at most {_COPIED_BYTES} are decoded")
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield copy


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _reason(code: int, errors: IO[bytes]) -> str:
    """Return why the program ended: the signal, or the last line that it has written."""
    if code < 0:
        return f"the decoder was ended by signal {-code}"
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4 * _ERROR_CHARACTERS))
    lines = storable(errors.read().decode(errors="replace")).split("\n")
    return shortened(next((line for line in reversed(lines) if line.strip()), "no reason given"), _ERROR_CHARACTERS)
