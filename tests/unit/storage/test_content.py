"""What the bytes must be: as many as announced, with the checksum that was announced, and a video."""

from __future__ import annotations

import base64
import hashlib

import pytest

from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError
from airflow_provider_veo.storage import transfer
from tests.unit.storage.conftest import files_in
from tests.unit.storage.hosts import Reply, video


def nothing_is_left(target):
    return files_in(target.parent) == []


# --- lengths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [-60_000, -1000, -8, -1, 1, 10, 1000])
def test_a_wrong_length_is_noticed_either_way(host, store, target, off):
    wrong = Reply(body=host.content[: off or None] if off < 0 else None, headers={"Content-Length": str(100_000 + off)})
    host.script = [wrong]
    store()
    assert target.read_bytes() == host.content
    target.unlink()
    host.always = wrong
    with pytest.raises(VeoDownloadError):
        store()
    assert nothing_is_left(target)


def test_without_a_length_a_cut_is_noticed_by_the_file_itself(host, store, target):
    bare = {"Content-Length": None, "ETag": None}
    host.script = [Reply(headers=bare, cut=99_999)]
    host.always = Reply(headers=bare)
    store()
    assert target.read_bytes() == host.content
    assert len(host.asked) == 2


@pytest.mark.parametrize("cut", [None, 0, 1, 999, 1000, 55_500])
def test_chunked_answers(host, store, target, cut):
    host.script = [Reply(chunked=True, cut=cut)]
    host.always = Reply(chunked=True)
    store()
    assert target.read_bytes() == host.content


def test_an_empty_file_is_none(host, store, target):
    host.always = Reply(body=b"")
    with pytest.raises(VeoDownloadError, match="got an empty file"):
        store()
    assert len(host.asked) == transfer.MAX_TRIES
    assert nothing_is_left(target)


def test_a_file_that_is_too_large_is_refused_unread(host, store, target):
    with pytest.raises(VeoDownloadRefusedError, match=r"has 100000 bytes; max_bytes allows 99999") as caught:
        store(max_bytes=99_999)
    assert caught.value.final
    assert nothing_is_left(target)
    assert store(max_bytes=100_000).bytes == 100_000


def test_a_file_that_turns_out_too_large_is_refused(host, store, target):
    host.always = Reply(chunked=True)
    with pytest.raises(VeoDownloadRefusedError, match=r"or more; max_bytes allows 50000"):
        store(max_bytes=50_000)
    assert len(host.asked) == 1
    assert nothing_is_left(target)


# --- checksums -------------------------------------------------------------------------------------------------------


def told(content):
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    sha256 = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return [
        {"Content-MD5": md5},
        {"x-goog-hash": f"crc32c=n03x6A==,md5={md5}"},
        {"Repr-Digest": f"sha-512=:AAAA:, sha-256=:{sha256}:"},
        {"Digest": f"SHA-256={sha256}"},
        {"x-ms-blob-content-md5": md5},
    ]


@pytest.mark.parametrize("which", range(5))
def test_checksum_from_the_host_is_checked(host, store, target, which):
    host.always = Reply(headers=told(host.content)[which])
    host.script = [Reply(headers=told(host.content)[which], body=video(seed=b"a bit flipped"))]
    store()
    assert target.read_bytes() == host.content
    assert len(host.asked) == 2
    target.unlink()
    host.always = Reply(headers=told(b"other")[which])
    with pytest.raises(VeoDownloadError, match="that the host sent"):
        store()
    assert nothing_is_left(target)


@pytest.mark.parametrize("headers", [{"Content-MD5": "x"}, {"Digest": "sha-256=zz"}, {"x-goog-hash": "md5=AAAA"}])
def test_a_checksum_that_is_none_is_not_taken_for_one(host, store, target, headers):
    host.always = Reply(headers=headers)
    store()
    assert target.read_bytes() == host.content


# --- what is not the file --------------------------------------------------------------------------------------------

PAGE = b"<html><head><title>Busy</title></head><body>Sign in again: canary=" + b"x" * 2000 + b"</body></html>"


@pytest.mark.parametrize(
    "page", [PAGE, b"  <!DOCTYPE html>\n", b'{"error": "gone"}', b"busy", "忙碌".encode(), b"<p>caf\xe9</p>"]
)
def test_page_with_status_200_is_retried_and_quoted(host, store, target, page):
    host.always = Reply(body=page)
    with pytest.raises(VeoDownloadError, match="got a page instead of the file") as caught:
        store()
    assert not caught.value.final
    assert len(host.asked) == transfer.MAX_TRIES
    assert nothing_is_left(target)
    quoted = str(caught.value).partition("“")[2].partition("”")[0]
    assert quoted[:4] == page.decode("utf-8", "replace").strip()[:4]
    assert len(quoted) <= 500


def test_quoted_page_contains_no_secret(host, store, settings):
    said = f"<html>{settings.api_key} AccessKey &amp; signature-4f1d0c9ab77e5532 and more</html>"
    host.always = Reply(body=said.encode())
    with pytest.raises(VeoDownloadError, match=r"\*\*\* AccessKey &amp; \*\*\* and more"):
        store()


def test_a_page_for_a_while_is_waited_out(host, store, target):
    host.script = [Reply(body=PAGE)] * 3
    store()
    assert target.read_bytes() == host.content


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        bytes(1000),
        video(brand=b"avif"),
        video(brand=b"heic"),
        video(brand=b"M4A "),
        b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska" + bytes(100),
        b"\x00\x00\x00\x07ftypisom" + bytes(100),
        b"\x7fELF" + bytes(100),
        b"ab\x00",
    ],
)
def test_what_is_not_a_video_is_refused_for_good(host, store, target, content):
    host.always = Reply(body=content)
    with pytest.raises(VeoDownloadRefusedError, match=r"not a video: it begins with [0-9a-f]{2} ") as caught:
        store()
    assert caught.value.final
    assert len(host.asked) == 1
    assert nothing_is_left(target)
