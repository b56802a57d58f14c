"""Existing files: the same file is reused, another one is an error, and neither is changed."""

from __future__ import annotations

import contextlib
import hashlib
import os

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError
from airflow_provider_veo.storage import StoredVideo
from tests.unit.storage.conftest import files_in
from tests.unit.storage.hosts import Reply, video

# --- existing files --------------------------------------------------------------------------------------------------


def there(target, content):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    os.utime(target, (1, 1))


def is_untouched(target, content):
    return target.read_bytes() == content and target.stat().st_mtime == 1 and files_in(target.parent) == ["x.mp4"]


def with_md5(host):
    return Reply(headers={"ETag": f'"{hashlib.md5(host.content).hexdigest()}"'})


def test_the_same_file_is_verified_and_reused(host, store, target):
    first = store()
    os.utime(target, (1, 1))
    assert store() == first
    assert is_untouched(target, host.content)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [99_999, 100_001])
def test_a_file_of_another_size_is_an_error(host, store, target, size, chunked):
    there(target, video(size))
    host.always = Reply(chunked=chunked)
    with pytest.raises(VeoDownloadRefusedError, match="another file exists there") as caught:
        store(veo_task_id="veo3:1")
    assert caught.value.final
    assert caught.value.veo_task_id == "veo3:1"
    assert is_untouched(target, video(size))
    assert "overwrite to 'always'" in str(caught.value)


def test_a_file_that_is_a_beginning_of_the_video_is_another_one(host, store, target):
    there(target, host.content[:50_000])
    for chunked in (False, True):
        host.always = Reply(chunked=chunked)
        with pytest.raises(VeoDownloadRefusedError, match="another file exists there"):
            store()


def test_another_size_is_known_before_anything_is_downloaded(host, store, target):
    sent = []

    def endless(request):
        request.send_response_only(200)
        request.send_header("Content-Length", str(10**12))
        request.end_headers()
        with contextlib.suppress(OSError):
            while True:
                sent.append(request.wfile.write(bytes(65536)))
        raise OSError

    there(target, host.content)
    host.script = [endless]
    with pytest.raises(VeoDownloadRefusedError, match=r"has 100000 bytes, and the video has 1000000000000"):
        store(max_bytes=10**13)
    assert sum(sent) < 10_000_000  # what fits into the sockets' buffers


@pytest.mark.parametrize("at", [0, 200, 50_000, 99_999])
def test_a_file_that_differs_in_one_byte_is_an_error(host, store, target, at):
    content = bytearray(host.content)
    content[at] ^= 1
    there(target, bytes(content))
    for reply in (Reply(), Reply(chunked=True), with_md5(host)):
        host.always = reply
        with pytest.raises(VeoDownloadRefusedError, match="another file exists there: its bytes differ"):
            store()
        assert is_untouched(target, bytes(content))


def test_a_checksum_of_the_host_saves_the_download(host, store, target):
    there(target, host.content)
    host.always = with_md5(host)
    host.always.cut = 0
    stored = store()
    assert stored.sha256 == hashlib.sha256(host.content).hexdigest()
    assert len(host.asked) == 1
    host.always = Reply(cut=0, headers={"Digest": "sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="})
    with pytest.raises(VeoDownloadRefusedError, match="its SHA256 differs"):
        store()
    assert is_untouched(target, host.content)


def test_comparison_is_resumed_and_restarted_as_a_download_is(host, store, target):
    there(target, host.content)
    host.script = [Reply(cut=40_000), Reply(ranges=False, cut=70_000), Reply(status=503, body=b""), Reply(ranges=False)]
    store()
    assert is_untouched(target, host.content)


def test_a_video_that_is_gone_is_reused_for_its_name(host, store, target, tmp_path, log):
    host.always = Reply(status=404, body=b"")
    named = tmp_path / "veo3_17-x.mp4"
    there(named, host.content)
    stored = store(destination=ObjectStoragePath(f"file://{named}"), veo_task_id="veo3:17-x")
    assert stored.sha256 == hashlib.sha256(host.content).hexdigest()
    assert "because its name contains" in "\n".join(log.lines)
    there(target, host.content)
    with pytest.raises(VeoDownloadError, match="HTTP 404"):
        store(veo_task_id="veo3:17-x")
    there(named, host.content[:-1])
    with pytest.raises(VeoDownloadRefusedError, match="not a complete video"):
        store(destination=ObjectStoragePath(f"file://{named}"), veo_task_id="veo3:17-x")


def test_always_means_always(host, store, target):
    there(target, b"anything")
    store(overwrite="always")
    assert target.read_bytes() == host.content
    assert files_in(target.parent) == ["x.mp4"]


def test_a_failure_leaves_the_file_that_was_there(host, store, target):
    there(target, b"anything")
    host.always = Reply(cut=50)
    with pytest.raises(VeoDownloadError):
        store(overwrite="always")
    assert is_untouched(target, b"anything")


def test_another_word_is_a_mistake(store):
    with pytest.raises(ValueError, match="'never' or 'always'"):
        store(overwrite="maybe")


def test_folder_is_not_a_file(store, target):
    target.mkdir(parents=True)
    for overwrite in ("never", "always"):
        with pytest.raises(VeoDownloadError, match="IsADirectoryError") as caught:
            store(overwrite=overwrite)
        assert not caught.value.final
    assert files_in(target.parent) == ["x.mp4"]


@pytest.mark.timeout(60)
def test_fifo_under_the_name_is_an_error_at_once(store, target):
    target.parent.mkdir(parents=True)
    os.mkfifo(target)
    with pytest.raises(VeoDownloadError, match="is not a regular file"):
        store()


def test_facts_that_are_not_known_are_left_out():
    assert StoredVideo("file:///x", 1, "00", "video/mp4").to_dict() == {
        "uri": "file:///x",
        "bytes": 1,
        "sha256": "00",
        "content_type": "video/mp4",
        "verified": True,
    }
