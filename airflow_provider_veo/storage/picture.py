"""Width, height and duration of a stored video, read directly from its index.

The file is data from outside, so this process never gives it to a media library: a few hundred bytes of MP4 can make
one allocate gigabytes. This module reads the headers it needs and seeks over everything else. It reads at most
``MAX_PARTS`` headers and ``MAX_BYTES`` bytes of any file, and holds no more than one value at a time.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NamedTuple

from airflow_provider_veo.storage.media import WEBM, vint_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_veo.log import Log
    from airflow_provider_veo.storage.media import Container

MAX_PARTS = 1000
"""Maximum number of headers of boxes or elements read per file, over all levels."""
MAX_BYTES = 256 * 1024
"""Maximum number of bytes read per file. The headers and values of ``MAX_PARTS`` parts take less."""
MAX_PIXELS = 65_535
MAX_SECONDS = 1e7
"""Larger values are implausible and treated as unknown."""
_HEADER_BYTES = 16
_VALUE_BYTES = 96
"""Size of a ``tkhd`` box of version 1, the longest value that is read."""


@dataclass(frozen=True)
class Picture:
    """How a video plays. A field is ``None`` if the file does not give it."""

    width: int | None = None
    """In pixels, as displayed; a rotation is ignored."""
    height: int | None = None
    duration_seconds: float | None = None


def probe(open_file: Callable[[], IO[bytes]], container: Container, log: Log) -> Picture:
    """
    Read how a video plays.

    :param open_file: opens the file for reading and seeking.
    :param container: the file's container.
    :param log: the task's. A storage error here is only a warning: the file itself is complete.
    """
    try:
        with open_file() as file:
            parts = _Parts(file)
            return _of_webm(parts) if container is WEBM else _of_mp4(parts)
    except Exception as error:  # of any storage library
        log.warning("Could not read width, height and duration of the stored file: %s: %s", type(error).__name__, error)
        return Picture()


class _Part(NamedTuple):
    """A box or an element: its kind, and where its content begins and ends."""

    kind: bytes
    start: int
    end: int
    is_open: bool
    """The header gives no end; ``end`` is that of the enclosing part."""


class _Parts:
    """Reads the headers and short values of a file, within the limits of this module."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        self._parts_left = MAX_PARTS
        self._bytes_left = MAX_BYTES

    @property
    def whole(self) -> _Part:
        """The whole file as one part."""
        return _Part(b"", 0, self._size, is_open=False)

    def value(self, part: _Part) -> bytes:
        """Return the first bytes of a part's content."""
        return self._read(part.start, min(_VALUE_BYTES, part.end - part.start))

    def boxes(self, parent: _Part) -> Iterator[_Part]:
        """Return the boxes of an MP4, QuickTime file or box (ISO 14496-12, 4.2)."""
        position = parent.start
        while header := self._header(position, parent.end):
            size, length = int.from_bytes(header[:4], "big"), 8
            if size == 1:
                size, length = int.from_bytes(header[8:16], "big"), 16
            if len(header) < length or 0 < size < length:
                return
            end = min(parent.end, position + size) if size else parent.end
            yield _Part(header[4:8], position + length, end, is_open=not size)
            position = end

    def elements(self, parent: _Part) -> Iterator[_Part]:
        """Return the elements of a WebM file or element (RFC 8794, 6)."""
        position = parent.start
        while header := self._header(position, parent.end):
            id_bytes = vint_bytes(header[0])
            if len(header) <= id_bytes:
                return
            length = id_bytes + vint_bytes(header[id_bytes])
            if len(header) < length:
                return
            bits = 7 * (length - id_bytes)
            size = int.from_bytes(header[id_bytes:length], "big") & ((1 << bits) - 1)
            is_open = size == (1 << bits) - 1
            end = parent.end if is_open else min(parent.end, position + length + size)
            yield _Part(header[:id_bytes], position + length, end, is_open)
            position = end

    def _header(self, position: int, end: int) -> bytes:
        if position >= end or not self._parts_left:
            return b""
        self._parts_left -= 1
        return self._read(position, min(_HEADER_BYTES, end - position))

    def _read(self, position: int, size: int) -> bytes:
        if size <= 0 or size > self._bytes_left:
            return b""
        self._bytes_left -= size
        self._file.seek(position)
        return self._file.read(size)


# --- MP4 and QuickTime -----------------------------------------------------------------------------------------------


def _of_mp4(parts: _Parts) -> Picture:
    index = next((box for box in parts.boxes(parts.whole) if box.kind == b"moov"), None)
    movie: float | None = None
    tick = 0.0
    fragments: _Part | None = None
    tracks: list[_Track] = []
    for box in parts.boxes(index) if index else ():
        if box.kind == b"mvhd":
            value = parts.value(box)
            movie, tick = _duration(value), _tick(value)
        elif box.kind == b"trak":
            tracks.append(_track(parts, box))
        elif box.kind == b"mvex":
            fragments = box
    video = next((track for track in tracks if track.is_video), _Track())
    # In a fragmented file, the index's own duration covers only what precedes the fragments.
    duration = _fragmented_duration(parts, fragments, tick) if fragments else movie
    return Picture(_pixels(video.width), _pixels(video.height), _seconds(duration))


class _Track(NamedTuple):
    is_video: bool = False
    width: float = 0
    height: float = 0


def _track(parts: _Parts, trak: _Part) -> _Track:
    width = height = 0.0
    is_video = False
    for box in parts.boxes(trak):
        if box.kind == b"tkhd":
            width, height = _display_size(parts.value(box))
        elif box.kind == b"mdia":
            for inner in parts.boxes(box):
                if inner.kind == b"hdlr":
                    is_video = parts.value(inner)[8:12] == b"vide"
    return _Track(is_video, width, height)


def _display_size(tkhd: bytes) -> tuple[float, float]:
    start = 88 if tkhd[:1] == b"\1" else 76
    if len(tkhd) < start + 8:
        return 0, 0
    width, height = struct.unpack_from(">II", tkhd, start)
    return width / 65536, height / 65536


def _duration(header: bytes) -> float | None:
    """Return the duration in an ``mvhd`` box, in seconds."""
    tick = _tick(header)
    form, start = (">Q", 24) if header[:1] == b"\1" else (">I", 16)
    if not tick or len(header) < start + struct.calcsize(form):
        return None
    return _ticks(header, form, start, tick)


def _tick(header: bytes) -> float:
    """Return the length of one tick of an ``mvhd`` box, in seconds; 0 if it has none."""
    start = 20 if header[:1] == b"\1" else 12
    per_second = int.from_bytes(header[start : start + 4], "big") if len(header) >= start + 4 else 0
    return 1 / per_second if per_second else 0.0


def _fragmented_duration(parts: _Parts, mvex: _Part, tick: float) -> float | None:
    for box in parts.boxes(mvex):
        if box.kind == b"mehd":
            header = parts.value(box)
            form = ">Q" if header[:1] == b"\1" else ">I"
            return _ticks(header, form, 4, tick) if len(header) >= 4 + struct.calcsize(form) else None
    return None


def _ticks(header: bytes, form: str, start: int, tick: float) -> float | None:
    (ticks,) = struct.unpack_from(form, header, start)
    unknown = (1 << 8 * struct.calcsize(form)) - 1
    return None if ticks == unknown else ticks * tick


# --- WebM ------------------------------------------------------------------------------------------------------------

_SEGMENT = b"\x18\x53\x80\x67"
_INFO, _TIMECODE_SCALE, _DURATION = b"\x15\x49\xa9\x66", b"\x2a\xd7\xb1", b"\x44\x89"
_TRACKS, _TRACK_ENTRY, _TRACK_TYPE, _VIDEO = b"\x16\x54\xae\x6b", b"\xae", b"\x83", b"\xe0"
_PIXEL_WIDTH, _PIXEL_HEIGHT = b"\xb0", b"\xba"


def _of_webm(parts: _Parts) -> Picture:
    segment = next((element for element in parts.elements(parts.whole) if element.kind == _SEGMENT), None)
    seconds: float | None = None
    size: tuple[int, int] | None = None
    seen = set()
    for element in parts.elements(segment) if segment else ():
        if element.kind == _INFO:
            seconds = _info_duration(parts, element)
        elif element.kind == _TRACKS:
            size = _pixel_size(parts, element)
        seen.add(element.kind)
        if element.is_open or {_INFO, _TRACKS} <= seen:
            break
    width, height = size or (0, 0)
    return Picture(_pixels(width), _pixels(height), _seconds(seconds))


def _info_duration(parts: _Parts, info: _Part) -> float | None:
    nanoseconds, duration = 1_000_000, None
    for element in parts.elements(info):
        if element.kind == _TIMECODE_SCALE:
            nanoseconds = _number(parts, element)
        elif element.kind == _DURATION:
            form = {4: ">f", 8: ">d"}.get(element.end - element.start)
            value = parts.value(element)
            duration = struct.unpack(form, value)[0] if form and len(value) == struct.calcsize(form) else None
    return None if duration is None else duration * nanoseconds / 1e9


def _pixel_size(parts: _Parts, tracks: _Part) -> tuple[int, int] | None:
    for entry in parts.elements(tracks):
        inside = list(parts.elements(entry)) if entry.kind == _TRACK_ENTRY else []
        is_video = any(element.kind == _TRACK_TYPE and _number(parts, element) == 1 for element in inside)
        for video in inside:
            if is_video and video.kind == _VIDEO:
                found = {element.kind: element for element in parts.elements(video)}
                sides = [found.get(side) for side in (_PIXEL_WIDTH, _PIXEL_HEIGHT)]
                width, height = (_number(parts, side) if side else 0 for side in sides)
                return width, height
    return None


def _number(parts: _Parts, element: _Part) -> int:
    return int.from_bytes(parts.value(element)[:8], "big") if element.end - element.start <= 8 else 0


# --- what is plausible -----------------------------------------------------------------------------------------------


def _pixels(side: float) -> int | None:
    return round(side) if 1 <= side <= MAX_PIXELS else None


def _seconds(duration: float | None) -> float | None:
    if duration is None or not math.isfinite(duration) or not 0 < duration <= MAX_SECONDS:
        return None
    return round(duration, 3) or None
