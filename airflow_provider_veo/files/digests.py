"""Checksums that a host sends with a file, to verify it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALGORITHMS = {"sha-256": "sha256", "md5": "md5"}
_HEADERS = ("Repr-Digest", "Digest", "x-goog-hash", "x-ms-blob-content-md5", "Content-MD5")
"""RFC 9530, RFC 3230, Google Cloud Storage, Azure, RFC 1864 (obsolete). In a 200 answer, they cover the whole file."""
_NAMED = re.compile(r"([\w-]+)\s*=\s*:?([A-Za-z0-9+/]+={0,2}):?")
_MD5_ETAG = re.compile(r'"([0-9a-f]{32})"', re.IGNORECASE)


class Digests:
    """
    The expected checksums of a file, and those of the received bytes.

    :param expected: by algorithm, as :mod:`hashlib` names it.
    :param etag_md5: an ETag that may be an MD5, as on S3: it can show that two files are the same, but not that they
        differ.
    """

    def __init__(self, expected: Mapping[str, bytes] | None = None, etag_md5: bytes | None = None) -> None:
        self.expected = dict(expected or {})
        self.etag_md5 = etag_md5
        self._seen = {name: hashlib.new(name, usedforsecurity=False) for name in self.expected}

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Digests:
        """Read the headers of an answer that contains the whole file."""
        expected: dict[str, bytes] = {}
        for header in _HEADERS:
            value = headers.get(header, "")
            if header.lower().endswith("-md5"):
                value = f"md5={value.strip()}" if value else ""
            for name, encoded in _NAMED.findall(value):
                algorithm = _ALGORITHMS.get(name.lower())
                digest = _decoded(encoded)
                if algorithm and len(digest) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
                    expected.setdefault(algorithm, digest)
        etag = _MD5_ETAG.fullmatch(headers.get("ETag", "").strip())
        return cls(expected, bytes.fromhex(etag[1]) if etag else None)

    def update(self, data: bytes) -> None:
        """Add the next bytes of the file."""
        for seen in self._seen.values():
            seen.update(data)

    def difference(self) -> str | None:
        """Return which checksum differs from the host's, or ``None``."""
        wrong = [name for name, digest in self.expected.items() if self._seen[name].digest() != digest]
        return f"its {wrong[0].upper()} is not the one that the host sent" if wrong else None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
