"""Width, height and duration, read from a file's index: right for real files, bounded for hostile ones."""

from __future__ import annotations

import io
import logging
import struct
import subprocess
import sys
import textwrap

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_veo.storage import media, picture
from airflow_provider_veo.storage.picture import Picture
from tests.unit.storage.hosts import box

FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2")
EBML = bytes.fromhex("1a45dfa3 9f 42868101 42f78101 42f28104 42f38108 428284 7765626d 42878104 42858102")
LOG = logging.getLogger("tests")


class Counting(io.BytesIO):
    """A file that counts the bytes and the calls by which it is read."""

    bytes_read = reads = 0

    def read(self, size=-1):
        data = super().read(size)
        self.bytes_read += len(data)
        self.reads += 1
        return data


def pictured(content, container=media.MP4):
    file = Counting(content)
    return picture.probe(lambda: file, container, LOG), file


# --- real files ------------------------------------------------------------------------------------------------------


def encoded(path, form, codec, options, frames=71, size=(320, 180)):
    """Encode a real video with FFmpeg."""
    with av.open(str(path), "w", format=form, options=options) as output:
        stream = output.add_stream(codec, rate=24, options={"g": "24"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame(*size, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number * 3 % 255]) * plane.buffer_size)
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


FORMS = {
    "mp4": ("mp4", "libx264", {}),
    "mp4 with the index first": ("mp4", "libx264", {"movflags": "+faststart"}),
    "mov": ("mov", "libx264", {}),
    "webm": ("webm", "libvpx", {}),
    "fragmented": ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "fragmented after a first part": ("mp4", "libx264", {"movflags": "frag_keyframe"}),
    "webm, live": ("webm", "libvpx", {"live": "1"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_facts_equal_those_of_ffmpeg(tmp_path, form):
    content = encoded(tmp_path / "x", *FORMS[form])
    found, _ = pictured(content, media.container_of(content))
    with av.open(io.BytesIO(content)) as video:
        stream, duration = video.streams.video[0], video.duration
        assert (found.width, found.height) == (stream.width, stream.height) == (320, 180)
    if "fragmented" in form or duration is None:
        assert found.duration_seconds is None
    else:  # the index rounds to its own ticks, usually milliseconds
        assert found.duration_seconds == pytest.approx(duration / av.time_base, abs=0.0011)


def test_facts_of_the_sandbox_equal_those_of_ffmpeg():
    from airflow_provider_veo.sandbox.render import Scene, render

    content = render(Scene("veo3:1", "veo3", "a cat", "9:16", upsampled=False, seconds=3.0))
    assert pictured(content)[0] == Picture(360, 640, 3.0)


def test_only_the_index_is_read():
    content = FTYP + box(b"mdat", bytes(5_000_000)) + MOOV
    found, file = pictured(content)
    assert found == Picture(640, 360, 3.0)
    assert file.bytes_read < 1000


# --- made files ------------------------------------------------------------------------------------------------------


def mvhd(duration=3000, scale=1000, version=0):
    form = ">B3xQQIQ" if version else ">B3xIIII"
    return box(b"mvhd", struct.pack(form, version, 0, 0, scale, duration) + bytes(80))


def tkhd(width=640, height=360, version=0):
    return box(b"tkhd", bytes([version]) + bytes(87 if version else 75) + struct.pack(">II", width << 16, height << 16))


def trak(header, kind=b"vide"):
    return box(b"trak", header + box(b"mdia", box(b"hdlr", bytes(8) + kind + bytes(13))))


MOOV = box(b"moov", mvhd() + trak(tkhd(0, 0), b"soun") + trak(tkhd()) + trak(tkhd(100, 100)))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (mvhd() + trak(tkhd()), Picture(640, 360, 3.0)),
        (mvhd(version=1) + trak(tkhd(version=1)), Picture(640, 360, 3.0)),
        (mvhd(2**63, 1, version=1) + trak(tkhd()), Picture(640, 360)),
        (mvhd(2**32 - 1) + trak(tkhd()), Picture(640, 360)),
        (mvhd(scale=0) + trak(tkhd()), Picture(640, 360)),
        (mvhd(duration=0) + trak(tkhd(0, 0)), Picture()),
        (mvhd()[:20] + trak(tkhd()), Picture()),
        (mvhd() + trak(tkhd(), b"soun"), Picture(duration_seconds=3.0)),
        (mvhd() + box(b"trak"), Picture(duration_seconds=3.0)),
        (trak(tkhd(65_535, 1)), Picture(65_535, 1)),
        (mvhd() + trak(tkhd()) + box(b"mvex", box(b"mehd", struct.pack(">II", 0, 8000))), Picture(640, 360, 8.0)),
        (
            mvhd() + trak(tkhd()) + box(b"mvex", box(b"mehd", b"\1\0\0\0" + struct.pack(">Q", 8000))),
            Picture(640, 360, 8),
        ),
        (mvhd() + trak(tkhd()) + box(b"mvex", box(b"mehd", b"\0\0\0\0")), Picture(640, 360)),
    ],
)
def test_implausible_or_missing_facts_are_none(index, expected):
    assert pictured(FTYP + box(b"moov", index))[0] == expected


def element(kind, content):
    return bytes.fromhex(kind) + b"\x08" + len(content).to_bytes(4, "big") + content


THREE_SECONDS = struct.pack(">d", 3000.0)


def webm(duration=THREE_SECONDS, width=b"\x02\x80", scale=b"\x0f\x42\x40"):
    info = element("1549a966", element("2ad7b1", scale) + element("4489", duration))
    sound = element("ae", element("83", b"\2"))
    video = element("ae", element("e0", element("b0", width) + element("ba", b"\1\x68")) + element("83", b"\1"))
    return EBML + element("18538067", info + element("1654ae6b", sound + video))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (webm(), Picture(640, 360, 3.0)),
        (webm(struct.pack(">f", 1500.0)), Picture(640, 360, 1.5)),
        (webm(struct.pack(">d", float("nan"))), Picture(640, 360)),
        (webm(struct.pack(">d", float("inf"))), Picture(640, 360)),
        (webm(struct.pack(">d", 1e308), scale=b"\xff" * 8), Picture(640, 360)),
        (webm(b"\0\0"), Picture(640, 360)),
        (webm(width=b"\xff" * 8), Picture(None, 360, 3.0)),
        (webm(width=b"\xff" * 80), Picture(None, 360, 3.0)),
        (webm(width=b""), Picture(None, 360, 3.0)),
    ],
)
def test_implausible_facts_of_webm_are_none(content, expected):
    assert pictured(content, media.WEBM)[0] == expected


# --- hostile files ---------------------------------------------------------------------------------------------------


def bomb(samples):
    """A small MP4 that announces this number of samples, for each of which FFmpeg makes a record of 24 bytes."""
    avc1 = box(b"avc1", bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HH", 640, 360) + bytes(50))
    empty = [box(kind, bytes(8)) for kind in (b"stts", b"stsc", b"stco")] + [box(b"stsz", bytes(12))]
    tables = box(b"stbl", box(b"stsd", struct.pack(">II", 0, 1) + avc1) + b"".join(empty))
    header = box(b"mdhd", struct.pack(">IIIII", 0, 0, 0, 1000, 0) + bytes(4))
    handler = box(b"hdlr", bytes(8) + b"vide" + bytes(13))
    track_id = tkhd()[:20] + struct.pack(">I", 1) + tkhd()[24:]
    track = box(b"trak", track_id + box(b"mdia", header + handler + box(b"minf", tables)))
    defaults = box(b"mvex", box(b"trex", struct.pack(">IIIIII", 0, 1, 1, 40, 1, 0)))
    run = box(b"trun", struct.pack(">II", 0, samples))
    fragment = box(b"moof", box(b"mfhd", bytes(8)) + box(b"traf", box(b"tfhd", struct.pack(">II", 0, 1)) + run))
    return FTYP + box(b"moov", mvhd() + track + defaults) + fragment + box(b"mdat", bytes(16))


STORED = """
    import logging, resource, sys
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from airflow_provider_veo.connection import VeoConnection
    from airflow_provider_veo.storage import store_video
    url, target = sys.argv[1:]
    settings = VeoConnection(
        conn_id="veo", base_url="https://relay.example.com", api_key="x", allow_private_media=True
    )
    store = lambda name: store_video(url, ObjectStoragePath(target + name), settings=settings, log=logging.getLogger())
    store("plain.mp4")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stored = store("bomb.mp4")
    print(stored.width, stored.height, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_tiny_file_with_millions_of_samples_takes_no_memory(host, tmp_path):
    from tests.unit.storage.hosts import Reply

    content = bomb(2**24)
    assert len(content) < 1000
    host.script = [Reply(), Reply(body=content)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STORED), host.url, f"file://{tmp_path}/"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    width, height, grown = done.stdout.split()[-3:]
    assert int(grown) < 32 * 1024, f"{grown} KiB for {len(content)} bytes"
    assert (width, height) == ("640", "360"), done.stderr


@pytest.mark.parametrize(
    "content",
    [
        FTYP + box(b"free") * 200_000,
        FTYP + box(b"moov", box(b"trak") * 200_000),
        FTYP + box(b"moov", mvhd() * 20_000),
        FTYP + b"\0\0\0\1moov" + b"\xff" * 8 + trak(tkhd()) * 5000,
        EBML + b"\xec\x80" * 200_000,
        EBML + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + element("1654ae6b", b"\xae\x80" * 200_000),
    ],
)
def test_a_file_of_countless_parts_is_read_within_the_limits(content):
    _, file = pictured(content, media.WEBM if content.startswith(EBML) else media.MP4)
    assert file.reads <= 2 * picture.MAX_PARTS
    assert file.bytes_read <= picture.MAX_BYTES


KINDS = [
    b"moov",
    b"trak",
    b"mdia",
    b"tkhd",
    b"mvhd",
    b"hdlr",
    b"mvex",
    b"mehd",
    b"\x15\x49\xa9\x66",
    b"\x16\x54\xae\x6b",
]
PIECES = st.one_of(
    st.binary(max_size=30), st.sampled_from([*KINDS, b"\0\0\0\1", b"\0\0\0\0", b"\xff" * 8, FTYP, MOOV, webm()])
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=30), st.sampled_from([b"", FTYP, EBML, webm()[:50]]), st.booleans())
def test_no_bytes_raise_or_are_read_without_bound(pieces, beginning, is_webm):
    file = Counting(beginning + b"".join(pieces))
    parts = picture._Parts(file)
    (picture._of_webm if is_webm else picture._of_mp4)(parts)  # not `probe`, which would only log what is raised
    assert file.reads <= 3 * picture.MAX_PARTS
    assert file.bytes_read <= picture.MAX_BYTES


@pytest.mark.parametrize("cut", range(0, 900, 7))
def test_an_index_that_is_cut_off_anywhere_is_read_as_far_as_it_goes(cut):
    for content, read in ((FTYP + MOOV, picture._of_mp4), (webm(), picture._of_webm)):
        read(picture._Parts(io.BytesIO(content[:cut])))


def test_a_storage_that_fails_loses_the_facts_only(caplog):
    def fail():
        raise OSError("gone")

    assert picture.probe(fail, media.MP4, LOG) == Picture()
    assert "Could not read width, height and duration" in caplog.text


@pytest.mark.slow
def test_the_media_library_is_not_loaded_to_store_a_video():
    script = "import sys; sys.modules['av'] = None; from airflow_provider_veo.storage import picture, store"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
