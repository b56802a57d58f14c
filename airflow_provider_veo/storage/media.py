"""Inspect a file's own bytes: which container it is, and whether it is complete.

The host's headers are not trusted for this. If a host announces a wrong length, a truncated file looks complete to
HTTP; the sizes of its boxes show that it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 64
"""Enough to distinguish the containers (ISO 14496-12, RFC 8794)."""
MAX_HEADERS = 100_000
"""Maximum number of parts that are followed in one file. If it has more, its end is unknown."""
_ENTERED_BYTES = 16
"""The longest header of a box. Fewer remaining bytes at the end of an index are skipped."""
_QUOTED_BYTES = 4096
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_NOT_VIDEO_BRANDS = frozenset(
    (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"M4A ", b"M4B ")
)
"""Images and audio in the container that MP4 uses."""


@dataclass(frozen=True)
class Container:
    """A kind of file that can be stored."""

    name: str
    content_type: str


MP4 = Container("MP4", "video/mp4")
MOV = Container("MOV", "video/quicktime")
WEBM = Container("WebM", "video/webm")


class NotVideoError(Exception):
    """
    The file is not a video.

    :param head: its first bytes. ``is_text``: they are a page instead of the file, usually a temporary error.
    """

    def __init__(self, head: bytes) -> None:
        super().__init__()
        self.head = head
        self.is_text = _looks_like_text(head)


class Inspector:
    """Inspects a file as it is received, in chunks of any size. Holds at most a few kilobytes."""

    def __init__(self) -> None:
        self.container: Container | None = None
        self._head = bytearray()
        self._walk: _Walk | None = None

    def feed(self, data: bytes) -> None:
        """
        Take the next chunk.

        :raises NotVideoError: the file is not a video.
        """
        if self._walk:
            self._walk.feed(data)
            return
        self._head += data[:_QUOTED_BYTES]
        if len(self._head) < HEAD_BYTES:
            return
        self._decide()
        rest = data[_QUOTED_BYTES:]
        if rest and self._walk:
            self._walk.feed(rest)

    def finish(self) -> str | None:
        """
        Return what is missing at the end of the file, or ``None``.

        :raises NotVideoError: the file is not a video.
        """
        if not self._walk:
            self._decide()
        return self._walk.missing() if self._walk else None

    @property
    def tells_its_end(self) -> bool:
        """Whether the structure of a complete file shows where it ends, without a length from the host."""
        return self._walk is not None and self._walk.tells_its_end

    def _decide(self) -> None:
        head = bytes(self._head)
        self.container = container_of(head)
        if self.container is None:
            raise NotVideoError(head)
        self._walk = _Elements() if self.container is WEBM else _Boxes()
        self._walk.feed(head)


def container_of(head: bytes) -> Container | None:
    """
    Return the container of a file.

    :param head: at least the first ``HEAD_BYTES`` bytes, or the whole file if it is shorter.
    """
    if head[4:8] == b"ftyp":
        size = int.from_bytes(head[:4], "big")
        if size < 16 or size % 4 or size > 4096 or head[8:12] in _NOT_VIDEO_BRANDS:
            return None
        return MOV if head[8:12] == b"qt  " else MP4
    if head[:4] == _EBML and b"\x42\x82\x84webm" in head[:HEAD_BYTES]:
        return WEBM
    return None


def _looks_like_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", "strict") if len(head) < _QUOTED_BYTES else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        text = head.decode("latin-1") if head.lstrip()[:1] == b"<" else "\0"
    return bool(text.strip()) and not any(ord(character) < 32 and character not in "\t\r\n\f" for character in text)


class _Walk:
    """Follows the top-level parts of a file: reads their headers and skips their content."""

    def __init__(self) -> None:
        self.position = 0
        self.next = 0
        """Offset of the next header byte."""
        self.entered_end = 0
        """Offset of the end of the part whose own parts are followed."""
        self.open_end = False
        """The current part extends to the end of the file, wherever that is."""
        self.lacks: set[bytes] = set()
        """Required parts that have not been seen yet."""
        self._header = bytearray()
        self._headers_left = MAX_HEADERS

    @property
    def tells_its_end(self) -> bool:
        """Whether nothing can follow. Only meaningful at the end of a complete file."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        end = self.position + len(data)
        while not self.open_end and self.next < end:
            start = self.next - self.position
            piece = data[start : start + self._needed(self._header) - len(self._header)]
            self._header += piece
            self.next += len(piece)
            if len(self._header) == self._needed(self._header):
                self.next += self._skipped(bytes(self._header))
                self._header.clear()
                self._headers_left -= 1
                self.open_end = self.open_end or not self._headers_left
        self.position = end

    def missing(self) -> str | None:
        """Return what is missing at the end, or ``None``."""
        if not self.open_end and self._header:
            return "it ends inside the header of a part"
        end = max(self.next, self.entered_end)
        if not self.open_end and self.position < end:
            return f"its last part is missing {end - self.position} bytes"
        return f"it has no {min(self.lacks).decode('latin-1')} part" if self.lacks else None

    def _needed(self, header: bytearray) -> int:
        """Return the length of a header, or a larger number than was read so far if that is too short to tell."""
        raise NotImplementedError

    def _skipped(self, header: bytes) -> int:
        """Return the number of bytes between this header and the next one."""
        raise NotImplementedError


class _Boxes(_Walk):
    """
    ISO-BMFF: size, type. Size 1: a 64-bit size follows. Size 0: the box extends to the end of the file.

    ``moov`` is entered: an ``mvex`` in it means that any number of fragments follow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lacks = {b"moov", b"mdat"}  # the index and the media data
        self._fragmented = False
        self._last = b""

    @property
    def tells_its_end(self) -> bool:
        """A fragmented file ends with ``mfra``; any other file ends with its last box, if that has a size."""
        return not self.open_end and (not self._fragmented or self._last == b"mfra")

    def _needed(self, header: bytearray) -> int:
        return 16 if header[:4] == b"\0\0\0\1" else 8

    def _skipped(self, header: bytes) -> int:
        size, kind = int.from_bytes(header[8:] or header[:4], "big"), header[4:8]
        skipped = size - len(header)
        if self.next <= self.entered_end:
            self._fragmented = self._fragmented or kind == b"mvex"
            rest = self.entered_end - self.next
            return skipped if 0 <= skipped <= rest - _ENTERED_BYTES else rest
        self.lacks.discard(kind)
        self._fragmented = self._fragmented or kind == b"moof"
        self._last = kind
        # Sizes of 2 to 7 are invalid: the rest can't be parsed, and may be padding.
        self.open_end = skipped < 0
        if kind == b"moov" and skipped >= _ENTERED_BYTES:
            self.entered_end = self.next + skipped
            return 0
        return skipped


class _Elements(_Walk):
    """EBML (RFC 8794): an id and a size, each with its length in its first bits. A size of all ones is unknown."""

    def __init__(self) -> None:
        super().__init__()
        self.lacks = {b"Segment"}
        self._has_sized_segment = False

    @property
    def tells_its_end(self) -> bool:
        """A segment of known size holds all media data."""
        return self._has_sized_segment

    def _needed(self, header: bytearray) -> int:
        if not header:
            return 1
        id_bytes = vint_bytes(header[0])
        return id_bytes + (vint_bytes(header[id_bytes]) if len(header) > id_bytes else 1)

    def _skipped(self, header: bytes) -> int:
        id_bytes = vint_bytes(header[0])
        bits = 7 * (len(header) - id_bytes)
        size = int.from_bytes(header[id_bytes:], "big") & ((1 << bits) - 1)
        is_unknown = size == (1 << bits) - 1
        if header[:id_bytes] == _SEGMENT:
            self.lacks.clear()
            self._has_sized_segment = not is_unknown
        self.open_end = is_unknown or header[:id_bytes] not in (_EBML, _SEGMENT)
        return size


def vint_bytes(first: int) -> int:
    """Return the length of a number that begins with this byte: its leading zero bits plus one."""
    return min(8, 9 - first.bit_length())
