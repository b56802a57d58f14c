"""Bodies that are compressed, or only said to be."""

from __future__ import annotations

import gzip
import zlib

import pytest

from airflow_provider_veo.protocol.content_encoding import decode


def gzipped(body):
    return gzip.compress(body, mtime=0)  # the same in each process that collects the tests


BODY = b'{"id": "veo3:1"}'
RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(BODY) + RAW.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzipped(BODY)),
        ("GZIP", gzipped(BODY)),
        ("gzip", gzipped(BODY[:5]) + gzipped(BODY[5:])),
        ("gzip", gzipped(BODY) + b"trailing bytes"),
        ("deflate", zlib.compress(BODY)),
        ("deflate", DEFLATED),
        ("identity", BODY),
        ("", BODY),
        ("utf-8", BODY),
        ("gzip", BODY),
    ],
)
def test_body_is_decompressed_whatever_its_header_says(encoding, body):
    assert decode(encoding, body, 1000) == (BODY, None)


def test_body_that_is_cut_off_is_decompressed_as_far_as_it_came():
    decoded, why = decode("gzip", gzipped(BODY * 100)[:-4], 10_000)
    assert BODY in decoded
    assert why is None


def test_bomb_ends_one_byte_over_the_limit():
    decoded, _ = decode("gzip", gzipped(b"x" * 1_000_000), 2000)
    assert len(decoded) == 2001


@pytest.mark.parametrize(("encoding", "body"), [("br", b"\x0b\x02"), ("gzip", b"garbage"), ("gzip, br", b"\x1f\x8b")])
def test_body_that_cannot_be_decompressed_says_so(encoding, body):
    decoded, why = decode(encoding, body, 1000)
    assert decoded == b""
    assert "can't be decompressed" in why


def test_members_beyond_the_hundredth_are_left():
    members = [gzip.compress(b"{"), *[gzip.compress(b"x")] * 200]
    decoded, problem = decode("gzip", b"".join(members), 10_000)
    assert (decoded, problem) == (b"{" + b"x" * 99, None)
