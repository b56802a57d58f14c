"""
Pages of a JSON Lines file, forwards and backwards from a byte offset.

However long the file is, a page reads a bounded part of it, and holds no more than one line and the rows it returns.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_LINE_BYTES = 1024 * 1024
MAX_PAGE_BYTES = 32 * 1024 * 1024
"""Maximum read for one page. A page that has fewer rows by then returns a cursor to continue."""
MAX_PAGE_LINES = 20_000
"""The same for lines."""
MAX_PAGE_SECONDS = 3.0
"""The same for seconds: a short page is better than a timeout."""
_PIECE_BYTES = 256 * 1024


class Readable(Protocol):
    """Content that can be read in parts."""

    @property
    def size(self) -> int:
        """In bytes."""

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` up to ``end``."""


@dataclass(frozen=True)
class InMemory:
    """Bytes in memory, as a :class:`Readable`."""

    content: bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content)

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` up to ``end``."""
        return self.content[begin:end]


@dataclass(frozen=True)
class Joined:
    """Several contents, one after the other, as a :class:`Readable`."""

    contents: tuple[Readable, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(each.size for each in self.contents)

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` up to ``end``."""
        parts, offset = [], 0
        for each in self.contents:
            first, last = max(begin - offset, 0), min(end - offset, each.size)
            if first < last:
                parts.append(each.read(first, last))
            offset += each.size
        return b"".join(parts)


class Line(NamedTuple):
    """
    A line.

    :param begin: its offset.
    :param end: the offset of the next one.
    :param row: ``None`` if it is not a JSON object of bounded length.
    """

    begin: int
    end: int
    row: dict[str, Any] | None


@dataclass(frozen=True)
class LineCursor:
    """
    Where a page begins.

    :param before: the page ends here, instead of beginning.
    :param offset: in bytes.
    """

    before: bool = False
    offset: int = 0

    @classmethod
    def parse(cls, text: str) -> LineCursor:
        """
        Read the output of :meth:`__str__`.

        :raises ValueError: it is something else.
        """
        try:
            before, offset = json.loads(base64.urlsafe_b64decode(text[:200].encode()))
        except (ValueError, TypeError, RecursionError):
            before, offset = None, None
        if not isinstance(before, bool) or type(offset) is not int or not 0 <= offset < 2**62:
            raise ValueError("cursor: expected one that this page returned")
        return cls(before, offset)

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.before, self.offset]).encode()).decode()


class LinePage(NamedTuple):
    """Lines in order, and the cursors of the next and previous page."""

    lines: list[Line]
    older: str | None
    newer: str | None


def page_of(file: Readable, cursor: LineCursor, limit: int, is_wanted: Callable[[Line], bool]) -> LinePage:
    """
    Return a page of the lines to show.

    :param file: to read.
    :param cursor: where the page begins or ends.
    :param limit: maximum number of lines.
    :param is_wanted: whether to show a line.
    """
    found: list[Line] = []
    edge = cursor.offset
    until = time.monotonic() + MAX_PAGE_SECONDS
    lines = _backwards(file, cursor.offset) if cursor.before else _forwards(file, cursor.offset)
    for line in islice(lines, MAX_PAGE_LINES):
        if is_wanted(line):
            if len(found) == limit:
                break
            found.append(line)
        edge = line.begin if cursor.before else line.end
        if time.monotonic() > until:
            break
    if cursor.before:
        newer = str(LineCursor(True, edge)) if edge > 0 else None
        return LinePage(found[::-1], str(LineCursor(False, cursor.offset)), newer)
    older = str(LineCursor(False, edge)) if edge < file.size else None
    return LinePage(found, older, str(LineCursor(True, cursor.offset)) if cursor.offset else None)


def line_at(file: Readable, offset: int) -> Line | None:
    """Return the line at an offset; ``None`` if there is none."""
    return next(_forwards(file, offset), None)


def _forwards(file: Readable, begin: int) -> Iterator[Line]:
    """Yield the lines from an offset, up to the first that is too long."""
    position, start, buffer = begin, begin, b""
    last = min(file.size, begin + MAX_PAGE_BYTES)
    while position < last and (piece := file.read(position, min(position + _PIECE_BYTES, file.size))):
        position += len(piece)
        *ended, buffer = (buffer + piece).split(b"\n")
        for content in ended:
            if content.strip():
                yield Line(start, start + len(content) + 1, _row(content))
            start += len(content) + 1
        if len(buffer) > MAX_LINE_BYTES:
            yield _too_long(file, start, position)
            return
    if buffer.strip() and position >= file.size:
        yield Line(start, file.size, _row(buffer))


def _too_long(file: Readable, begin: int, position: int) -> Line:
    """Return a line that is too long to read, up to the maximum for one page."""
    last = min(file.size, begin + MAX_PAGE_BYTES)
    while position < last and (piece := file.read(position, min(position + _PIECE_BYTES, file.size))):
        index = piece.find(b"\n")
        if index >= 0:
            return Line(begin, position + index + 1, None)
        position += len(piece)
    return Line(begin, position, None)


def _backwards(file: Readable, end: int) -> Iterator[Line]:
    """Yield the lines before an offset, last one first."""
    end = min(end, file.size)
    first = max(0, end - MAX_PAGE_BYTES)
    position, buffer = end, b""
    while position > first:
        piece = file.read(max(0, position - _PIECE_BYTES), position)
        if not piece:
            return
        position -= len(piece)
        *with_end, tail = (piece + buffer).split(b"\n")
        buffer, *ended = [*(each + b"\n" for each in with_end), *([tail] if tail else [])]
        for content in reversed(ended):
            if content.strip():
                yield Line(end - len(content), end, _row(content))
            end -= len(content)
        if len(buffer) > MAX_LINE_BYTES:
            yield Line(position, end, None)
            end, buffer = position, b""
    if buffer.strip() and position == 0:
        yield Line(0, end, _row(buffer))


def _row(content: bytes) -> dict[str, Any] | None:
    if len(content) > MAX_LINE_BYTES:
        return None
    try:
        row = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
