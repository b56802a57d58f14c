"""What a file's own bytes say, in pieces of any size."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_veo.storage import media
from tests.unit.storage.hosts import box


def looked_at(content, sizes=None):
    inspector = media.Inspector()
    at = 0
    for size in sizes or [len(content)]:
        inspector.feed(content[at : at + size])
        at += size
    inspector.feed(content[at:])
    return inspector.finish(), inspector.container


def large_box(kind, content):
    return b"\0\0\0\1" + kind + (16 + len(content)).to_bytes(8, "big") + content


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2")
MOOV = box(b"moov", bytes(100))
EBML = bytes.fromhex("1a45dfa3 9f 42868101 42f78101 42f28104 42f38108 428284 7765626d 42878104 42858102")
WHOLE = {
    "index first": FTYP + MOOV + box(b"mdat", bytes(500)),
    "index last": FTYP + box(b"free") + box(b"mdat", bytes(500)) + MOOV,
    "a large box": FTYP + large_box(b"mdat", bytes(500)) + MOOV,
    "the rest is data": FTYP + MOOV + b"\0\0\0\0mdat" + bytes(500),
    "fragments": FTYP + MOOV + (box(b"moof", bytes(20)) + box(b"mdat", bytes(50))) * 3,
    "padding": FTYP + MOOV + box(b"mdat", bytes(50)) + bytes(500),
    "QuickTime": box(b"ftyp", b"qt  \0\0\2\0qt  ") + box(b"wide") + box(b"mdat", bytes(50)) + MOOV,
    "WebM": EBML + b"\x18\x53\x80\x67" + b"\x01\0\0\0\0\0\x01\xf4" + bytes(500),
    "WebM, short size": EBML + b"\x18\x53\x80\x67" + b"\x41\xf4" + bytes(500),
    "WebM, live": EBML + b"\x18\x53\x80\x67" + b"\x01\xff\xff\xff\xff\xff\xff\xff" + bytes(500),
    "WebM, with more behind": EBML + b"\x18\x53\x80\x67" + b"\x41\xf4" + bytes(500) + b"\xec\x81\x00",
}
KINDS = {"QuickTime": media.MOV} | {name: media.WEBM for name in WHOLE if name.startswith("WebM")}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_known_however_it_comes(name):
    content = WHOLE[name]
    expected = (None, KINDS.get(name, media.MP4))
    assert looked_at(content) == expected
    assert looked_at(content, [1] * len(content)) == expected
    spread = random.Random(0)
    for _ in range(100):
        assert looked_at(content, [spread.randrange(0, 40) for _ in range(20)]) == expected


@pytest.mark.parametrize("name", ["index first", "index last", "a large box", "QuickTime", "WebM", "WebM, short size"])
def test_a_file_that_is_cut_off_anywhere_is_not_whole(name):
    content = WHOLE[name]
    for size in range(1, len(content)):
        try:
            missing, _ = looked_at(content[:size])
        except media.NotVideoError:
            assert size < media.HEAD_BYTES
        else:
            assert missing, size


def test_what_is_missing_is_reported():
    content = WHOLE["index first"]
    assert looked_at(content[:-100])[0] == "its last part is missing 100 bytes"
    assert looked_at(FTYP + MOOV + b"\0\0\0")[0] == "it ends inside the header of a part"
    assert looked_at(FTYP + box(b"mdat", bytes(500)))[0] == "it has no moov part"
    assert looked_at(FTYP + MOOV)[0] == "it has no mdat part"
    assert looked_at(EBML + bytes(64))[0] == "it has no Segment part"


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([b"", FTYP, FTYP + MOOV, EBML]))
def test_any_bytes_are_looked_at_without_an_accident(content, beginning):
    try:
        looked_at(beginning + content, [7] * 40)
    except media.NotVideoError as error:
        assert (beginning + content).startswith(error.head)


def test_the_biggest_sizes_take_no_memory_and_no_time():
    huge = FTYP + MOOV + b"\0\0\0\1mdat" + b"\xff" * 8 + bytes(100)
    assert looked_at(huge)[0].startswith("its last part is missing 18446744073709")
