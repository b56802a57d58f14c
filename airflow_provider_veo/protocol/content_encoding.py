"""The Content-Encoding of an answer, undone within bounds.

The clients ask for ``identity``. A gateway that compresses all the same must not make a create's answer unreadable,
and a small body that decompresses to gigabytes must not be decompressed.
"""

from __future__ import annotations

import zlib

_GZIP = 16 + zlib.MAX_WBITS
_WINDOW_BITS = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS)}
"""By encoding, what zlib is told; one after the other, since what servers call deflate may lack zlib's header."""


def decode(encoding: str, body: bytes, max_bytes: int) -> tuple[bytes, str | None]:
    """
    Decompress a body that may be cut off.

    :param encoding: value of the ``Content-Encoding`` header, empty if there is none.
    :param body: the body as it was received.
    :param max_bytes: limit of the body, compressed and decompressed.
    :return: the body, at most one byte more than the limit where it exceeds it, and why it can't be read, if it can't.
    """
    encodings = [name for each in encoding.lower().split(",") if (name := each.strip()) not in ("", "identity")]
    # Some servers name an encoding, or a charset in its place, and send JSON as it is.
    if not encodings or len(body) > max_bytes or body.lstrip()[:1] in (b"{", b"[", b""):
        return body, None
    for bits in _WINDOW_BITS.get(encodings[0], ()) if len(encodings) == 1 else ():
        try:
            return _decompressed(body, bits, max_bytes + 1), None
        except zlib.error:
            continue
    return b"", f"a body with the Content-Encoding {encoding[:50]!r} that can't be decompressed"


def _decompressed(body: bytes, bits: int, most: int) -> bytes:
    """Decompress one member after the other: gzip files may be put together."""
    whole = b""
    while body and len(whole) < most:
        member = zlib.decompressobj(bits)
        try:
            whole += member.decompress(body, most - len(whole))
        except zlib.error:
            if not whole:
                raise
            break
        body = member.unused_data
    return whole
