"""A file whose end nothing tells: it is confirmed by a second request, or reported as unverified."""

from __future__ import annotations

import base64
import contextlib
import hashlib

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError
from airflow_provider_veo.storage import media
from tests.unit.storage.conftest import files_in
from tests.unit.storage.hosts import Reply, box, redirect, video
from tests.unit.storage.test_media import FTYP, WHOLE, looked_at
from tests.unit.storage.test_picture import FORMS, encoded

NO_LENGTH = {"Content-Length": None}
BARE = {"Content-Length": None, "ETag": None}
INDEX = box(b"moov", box(b"mvhd", bytes(100)) + box(b"trak", bytes(50)) + box(b"mvex", box(b"trex", bytes(24))))
FRAGMENT = box(b"moof", box(b"mfhd", bytes(8))) + box(b"mdat", bytes(range(250)) * 400)
FRAGMENTED = FTYP + INDEX + FRAGMENT * 20
CUT = len(FTYP + INDEX + FRAGMENT * 3)
INDEXED = FRAGMENTED + box(b"mfra", box(b"mfro", bytes(8)))


def ranges(host):
    return [headers.get("Range") for _, headers in host.asked]


def warned(log):
    return any("unverified" in line for line in log.lines)


def hang_up(request):
    """Close the connection without an answer."""
    raise OSError


@pytest.fixture
def fragmented(host):
    host.content = FRAGMENTED
    return host


# --- the attack ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("content", [FRAGMENTED, INDEXED])
def test_file_cut_between_fragments_for_good_is_unverified(host, store, target, log, chunked, content):
    host.always = Reply(body=content[:CUT], headers={} if chunked else BARE, chunked=chunked, ranges=False)
    stored = store()
    assert target.read_bytes() == content[:CUT]
    assert stored.verified is False
    assert stored.to_dict()["verified"] is False
    assert warned(log)
    assert ranges(host) == [None, f"bytes={CUT}-"]


def test_real_fragmented_file_cut_between_fragments_is_unverified(host, store, tmp_path, log):
    content = encoded(tmp_path / "x", *FORMS["fragmented after a first part"])
    for cut in (content.index(b"moof") - 4, content.rindex(b"moof") - 4):
        host.always = Reply(body=content[:cut], headers=BARE, ranges=False)
        assert store(overwrite="always").verified is False
        assert warned(log)
        log.lines.clear()


@pytest.mark.parametrize("headers", [NO_LENGTH, BARE])
def test_file_cut_between_fragments_once_is_completed(fragmented, store, target, log, headers):
    fragmented.script = [Reply(headers=headers, cut=CUT)]
    fragmented.always = Reply(headers=headers)
    stored = store()
    assert target.read_bytes() == FRAGMENTED
    assert stored.verified
    assert not warned(log)
    # With a strong ETag it is resumed; without, the beginning may be of another file.
    resumed = [None, f"bytes={CUT}-", f"bytes={CUT}-"]
    restarted = [None, f"bytes={CUT}-", None, f"bytes={len(FRAGMENTED)}-"]
    assert ranges(fragmented) == (resumed if headers is NO_LENGTH else restarted)


def test_cut_that_the_host_contradicts_is_never_stored(fragmented, store, target):
    fragmented.always = lambda request: Reply(headers=BARE, cut=None if "Range" in request.headers else CUT)
    with pytest.raises(VeoDownloadError, match="the host then reported that the file is longer"):
        store()
    assert files_in(target.parent) == []


@pytest.mark.parametrize(
    ("second", "verified"),
    [
        (Reply(status=416, headers={"Content-Range": f"bytes */{len(FRAGMENTED)}"}, body=b""), True),
        (Reply(status=416, headers={"Content-Range": None}, body=b""), False),
        (Reply(ranges=False, headers={"Content-Length": str(len(FRAGMENTED))}), True),
        (Reply(ranges=False, headers=BARE), False),
        (Reply(ranges=False, headers=BARE, cut=500), False),
        (Reply(ranges=False, chunked=True, cut=500), False),
        (Reply(status=403, body=b"once only"), False),
        (Reply(status=503, body=b"later"), False),
        (hang_up, False),
        (redirect("http://169.254.169.254/latest"), False),
        (redirect("ftp://example.com/x"), False),
    ],
)
def test_what_the_second_request_can_answer(fragmented, store, target, log, second, verified):
    fragmented.script = [Reply(headers=BARE), second]
    stored = store()
    assert (stored.verified, warned(log)) == (verified, not verified)
    assert target.read_bytes() == FRAGMENTED
    assert len(fragmented.asked) == 2


@pytest.mark.parametrize("second", [Reply(ranges=False, headers=BARE), Reply(ranges=False), Reply(ranges=True)])
def test_second_request_shows_that_there_is_more(fragmented, store, target, second):
    fragmented.script = [Reply(headers=BARE, cut=CUT), second]
    assert store().verified
    assert target.read_bytes() == FRAGMENTED


@pytest.mark.parametrize(
    "second",
    [
        Reply(status=416, body=b"", headers={"Content-Range": f"bytes */{CUT}"}),
        Reply(status=416, body=b"", headers={"Content-Range": "bytes */0"}),
        Reply(body=b'{"error": "no ranges here"}', headers={"Content-Type": "application/json"}),
    ],
)
def test_a_second_answer_with_fewer_bytes_confirms_nothing_and_loses_nothing(fragmented, store, target, second):
    fragmented.script = [Reply(headers=BARE), second]
    assert not store().verified
    assert target.read_bytes() == FRAGMENTED


# --- files that need no second request -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("content", [video(), INDEXED, WHOLE["index last"], WHOLE["WebM"]])
def test_file_with_a_known_end_is_verified_at_once(host, store, log, content, chunked):
    host.always = Reply(body=content, headers={} if chunked else BARE, chunked=chunked)
    assert store().verified
    assert not warned(log)
    assert len(host.asked) == 1


def test_length_or_checksum_is_enough(fragmented, store):
    assert store().verified
    digest = base64.b64encode(hashlib.sha256(FRAGMENTED).digest()).decode()
    fragmented.always = Reply(headers={**BARE, "Repr-Digest": f"sha-256=:{digest}:"})
    assert store(overwrite="always").verified
    assert len(fragmented.asked) == 2


@pytest.mark.parametrize("cut", [len(FTYP + INDEX + FRAGMENT), CUT, CUT + 3, 5000])
def test_chunked_answer_without_its_last_chunk_is_not_complete(fragmented, store, target, cut):
    fragmented.always = Reply(chunked=True, cut=cut)
    with pytest.raises(VeoDownloadError, match="the connection broke after"):
        store()
    assert files_in(target.parent) == []


@pytest.mark.parametrize("name", ["the rest is data", "padding", "fragments", "WebM, live"])
def test_open_ended_file_is_confirmed(host, store, name):
    host.content = WHOLE[name]
    host.always = Reply(headers=BARE)
    assert store().verified
    host.always = Reply(headers=BARE, ranges=False)
    assert not store(overwrite="always").verified


def tells_its_end(content):
    inspector = media.Inspector()
    for at in range(0, len(content), 7):
        inspector.feed(content[at : at + 7])
    return inspector.finish() is None and inspector.tells_its_end


@pytest.mark.parametrize("size", [b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\7"])
def test_sizes_that_cannot_be_followed_leave_the_end_open(size):
    whole = FTYP + box(b"moov", bytes(100)) + box(b"mdat", bytes(50))
    assert tells_its_end(whole)
    assert not tells_its_end(whole + size + b"free" + bytes(50))


def test_index_with_odd_parts_is_left_where_it_ends():
    inner = box(b"mvhd", bytes(100))
    for odd in (bytes(4), bytes(8), b"\0\0\0\1wide" + bytes(4), b"\xff\xff\xff\xffudta", b"\0\0\0\1udta" + b"\xff" * 8):
        assert tells_its_end(FTYP + box(b"moov", inner + odd) + box(b"mdat", bytes(50)))
    for size in range(20):
        assert tells_its_end(FTYP + box(b"moov", bytes(size)) + box(b"mdat", bytes(50)))


@pytest.mark.slow
def test_countless_parts_are_not_followed_to_their_end():
    many = box(b"free") * (2 * media.MAX_HEADERS)
    for content in (FTYP + box(b"moov", bytes(100)) + box(b"mdat") + many, FTYP + box(b"mdat") + box(b"moov", many)):
        assert looked_at(content)[0] is None
        assert not tells_its_end(content)


# --- existing files --------------------------------------------------------------------------------------------------


def test_reused_file_is_as_unverified_as_the_download(fragmented, store, target, log):
    fragmented.always = Reply(headers=BARE, ranges=False)
    first = store()
    log.lines.clear()
    assert store() == first
    assert not first.verified
    assert warned(log)
    fragmented.always = Reply(headers=BARE)
    assert store().verified
    fragmented.always = Reply(headers=BARE, cut=CUT)
    target.write_bytes(FRAGMENTED[:CUT])
    with pytest.raises((VeoDownloadRefusedError, VeoDownloadError)):
        store()


def test_file_that_is_reused_for_its_name_is_verified_only_by_its_structure(host, store, tmp_path, log):
    host.always = Reply(status=404, body=b"")
    named = tmp_path / "veo3_17-x.mp4"
    for content, verified in ((FRAGMENTED, False), (video(), True)):
        named.write_bytes(content)
        log.lines.clear()
        stored = store(destination=ObjectStoragePath(f"file://{named}"), veo_task_id="veo3:17-x")
        assert (stored.verified, warned(log)) == (verified, not verified)


# --- answers that do not end -----------------------------------------------------------------------------------------


def endless(head, piece):
    def reply(request):
        request.send_response_only(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(head)
        with contextlib.suppress(OSError):
            while True:
                request.wfile.write(piece)
        raise OSError

    return reply


@pytest.mark.timeout(60)
def test_endless_trailers_end_with_the_timeout(host, store, target):
    content = video(1000)
    head = b"%x\r\n%b\r\n0\r\n" % (len(content), content)
    host.always = endless(head, b"X-Trailer: y\r\n" * 100)
    with pytest.raises(VeoDownloadError, match="after 2 s"):
        store(timeout=2.0)
    assert files_in(target.parent) == []
