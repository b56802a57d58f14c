"""Bounded decoding of an answer's Content-Encoding.

The clients request ``identity``. If a gateway compresses anyway, the answer to a create must stay readable, and a
small body that expands to gigabytes must not be decompressed in full.
"""

from __future__ import annotations

import zlib

_GZIP = 16 + zlib.MAX_WBITS
_MAX_MEMBERS = 100
"""A server writes one. Tens of thousands of empty ones would take a second."""
_WINDOW_BITS = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS)}
"""Values of zlib's ``wbits`` to try by encoding. What servers call deflate may lack the zlib header."""


def decode(encoding: str, body: bytes, max_bytes: int) -> tuple[bytes, str | None]:
    """
    Decompress a body that may be cut off.

    :param encoding: value of the ``Content-Encoding`` header, empty if absent.
    :param body: the body as received.
    :param max_bytes: limit for the body, compressed and decompressed.
    :return: the body, at most one byte over the limit, and why it can't be read (``None`` if it can).
    """
    encodings = [name for each in encoding.lower().split(",") if (name := each.strip()) not in ("", "identity")]
    # Some servers name an encoding, or a charset in its place, but send plain JSON.
    if not encodings or len(body) > max_bytes or body.lstrip()[:1] in (b"{", b"[", b""):
        return body, None
    for bits in _WINDOW_BITS.get(encodings[0], ()) if len(encodings) == 1 else ():
        try:
            return _decompressed(body, bits, max_bytes + 1), None
        except zlib.error:
            continue
    return b"", f"a body with the Content-Encoding {encoding[:50]!r} that can't be decompressed"


def _decompressed(body: bytes, bits: int, limit: int) -> bytes:
    """Decompress the members: gzip files may be concatenated."""
    decoded = b""
    for _ in range(_MAX_MEMBERS):
        if not body or len(decoded) >= limit:
            break
        member = zlib.decompressobj(bits)
        try:
            decoded += member.decompress(body, limit - len(decoded))
        except zlib.error:
            if not decoded:
                raise
            break
        body = member.unused_data
    return decoded
