"""Where the file goes: under its name when it is whole, and nothing anywhere else."""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, ObjectStoragePath

from airflow_provider_veo.files import sinks
from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError
from airflow_provider_veo.storage import StoredVideo
from tests.airflow_lines import attach
from tests.unit.storage.conftest import files_in
from tests.unit.storage.hosts import Reply, video

# --- storages that fail ----------------------------------------------------------------------------------------------


def test_unwritable_folder_is_reported(store, target):
    target.parent.write_text("a file where a folder should be")
    with pytest.raises(VeoDownloadError, match="could not: NotADirectoryError") as caught:
        store()
    assert not caught.value.final


def in_a_process(script, *arguments, **options):
    preamble = """
        import dataclasses, logging, os, signal, sys, threading, time
        from airflow.providers.common.compat.sdk import ObjectStoragePath
        from airflow_provider_veo.connection import VeoConnection
        from airflow_provider_veo.protocol import VeoError
        from airflow_provider_veo.files import sinks
        from airflow_provider_veo.storage import store_video, transfer
        logging.basicConfig(level="INFO", stream=sys.stderr)
        settings = VeoConnection("c", "https://relay.example.com", "sk-x", allow_private_media=True)
        def store(url, destination, **options):
            path, log = ObjectStoragePath(destination), logging.getLogger("x")
            return store_video(url, path, settings=settings, log=log, **options)
    """
    command = [sys.executable, "-c", textwrap.dedent(preamble) + textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_full_disk_is_reported_and_leaves_nothing(host, store, target):
    """A limit on files fails a write halfway, as a full disk does, and takes no disk of its own."""
    host.always, _ = large(32 * MIB, cut=32 * MIB)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 * MIB + 5, hard))
    try:
        with pytest.raises(VeoDownloadError, match=r"could not: OSError: \[Errno 27\]") as caught:
            store()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not caught.value.final
    assert files_in(target.parent) == []
    assert len(host.asked) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_disk_that_is_full_at_the_end_is_reported(host, store, target, monkeypatch):
    """A real ENOSPC, which some file systems keep for the sync."""

    def fsync(file):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    monkeypatch.setattr(sinks.os, "fsync", fsync)
    with pytest.raises(VeoDownloadError, match=r"could not: OSError: \[Errno 28\] No space left on device"):
        store()
    assert files_in(target.parent) == []


@pytest.mark.parametrize("error", [AirflowTaskTimeout, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_task_leaves_nothing(host, store, target, error, monkeypatch):
    def write(self, data):
        raise error

    monkeypatch.setattr(sinks.LocalFile, "write", write)
    with pytest.raises(error):
        store()
    assert files_in(target.parent) == []


# --- processes that are killed, and two at once ----------------------------------------------------------------------

KILLED = """
    write = sinks.LocalFile.write
    def write_and_die(self, data, written=[0]):
        limit = int(sys.argv[3])
        write(self, data[: limit - written[0]])
        written[0] += len(data)
        if written[0] >= limit:
            os.kill(os.getpid(), signal.SIGKILL)
    sinks.LocalFile.write = write_and_die
    store(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [50_000])
def test_a_killed_process_leaves_nothing_that_the_next_does_not_take_away(host, store, target, after):
    done = in_a_process(KILLED, host.url, f"file://{target}", after)
    _, errors = done.communicate(timeout=60)
    assert done.returncode == -signal.SIGKILL, errors
    assert files_in(target.parent) == [".x.mp4.part"]
    assert (target.parent / ".x.mp4.part").stat().st_size == after
    store()
    assert target.read_bytes() == host.content
    assert files_in(target.parent) == ["x.mp4"]


def slowly(host, seconds=0.5):
    """A reply that takes its time, so that another process gets in between."""

    def reply(request):
        request.send_response_only(200)
        request.send_header("Content-Length", str(len(host.content)))
        request.end_headers()
        for at in range(0, len(host.content), 10_000):
            request.wfile.write(host.content[at : at + 10_000])
            time.sleep(seconds / 10)
        raise OSError

    return reply


def at_once(count, store, **options):
    """Store the same in several threads; each has a lock of its own, as processes have."""
    results: list = []

    def run():
        try:
            results.append(store(**options))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("overwrite", ["never", "always"])
def test_two_at_once_take_turns(host, store, target, overwrite, monkeypatch):
    monkeypatch.setattr(sinks, "_LOCK_SECONDS", 0.01)
    host.script = [slowly(host)]
    results = at_once(3, store, overwrite=overwrite)
    assert results[0] == results[1] == results[2]
    assert isinstance(results[0], StoredVideo)
    assert target.read_bytes() == host.content
    assert files_in(target.parent) == ["x.mp4"]


@pytest.mark.slow
def test_two_processes_at_once_take_turns(host, store, target):
    host.script = [slowly(host, 1.5)]
    other = in_a_process("print(store(sys.argv[1], sys.argv[2]).sha256)", host.url, f"file://{target}")
    while not host.asked:
        time.sleep(0.01)
    assert files_in(target.parent) == [".x.mp4.part"]
    with pytest.raises(VeoDownloadError, match=r"another process is storing the same file .* within 0\.3 s"):
        store(timeout=0.3)
    assert len(host.asked) == 1
    stored = store()
    said, errors = other.communicate(timeout=60)
    assert said.split()[-1] == stored.sha256, errors
    assert files_in(target.parent) == ["x.mp4"]


def test_without_locks_each_has_a_file_of_its_own(host, store, target, monkeypatch):
    def flock(file, operation):
        raise OSError(sinks.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(sinks.fcntl, "flock", flock)
    host.script = [slowly(host)]
    results = at_once(3, store, overwrite="always")
    assert results[0] == results[1] == results[2]
    assert target.read_bytes() == host.content
    assert [name for name in files_in(target.parent) if name != ".x.mp4.part"] == ["x.mp4"]


# --- a storage of which nothing better is known ----------------------------------------------------------------------


@pytest.fixture
def memory():
    from fsspec.implementations.memory import MemoryFileSystem

    attach("memory", fs=MemoryFileSystem())
    MemoryFileSystem.store.clear()
    yield MemoryFileSystem.store
    MemoryFileSystem.store.clear()


def test_other_storages_get_the_file_by_renaming(host, store, memory):
    path = ObjectStoragePath("memory://bucket/videos/x.mp4")
    seen = []

    def spy(request):
        seen.append(sorted(memory))
        return Reply(cut=40_000)

    host.script = [spy, spy]
    assert store(destination=path).uri == str(path)
    assert memory.keys() == {"/bucket/videos/x.mp4"}
    assert memory["/bucket/videos/x.mp4"].getvalue() == host.content
    assert seen[0] == []
    assert len(seen[1]) == 0 or "/.x.mp4." in seen[1][0]
    store(destination=path)
    host.content = video(seed=b"other")
    with pytest.raises(VeoDownloadRefusedError, match="another file"):
        store(destination=path)
    store(destination=path, overwrite="always")
    assert memory["/bucket/videos/x.mp4"].getvalue() == host.content
    assert memory.keys() == {"/bucket/videos/x.mp4"}


def test_other_storages_are_left_as_they_were(host, store, memory):
    host.always = Reply(cut=50)
    with pytest.raises(VeoDownloadError):
        store(destination=ObjectStoragePath("memory://bucket/videos/x.mp4"))
    assert not memory


# --- the package -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_importing_the_package_loads_no_client():
    script = """
        import sys
        import airflow_provider_veo.storage
        print(sorted({"requests", "jsonschema", "aiohttp", "tenacity", "av", "airflow"} & sys.modules.keys()))
        airflow_provider_veo.storage.store_video
        print("requests" in sys.modules, "av" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["[]", "True False"], done.stderr


def test_a_name_that_the_package_does_not_have():
    import airflow_provider_veo.storage

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        airflow_provider_veo.storage.nothing  # noqa: B018


# --- a large file ----------------------------------------------------------------------------------------------------

LARGE = """
    import resource
    for name in ("16.mp4", "1024.mp4"):
        stored = store(f"{sys.argv[1]}/{name}", f"{sys.argv[2]}/{name}", timeout=300)
        print(stored.bytes, stored.sha256, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
MIB = 1024 * 1024


def large(size, cut):
    """An MP4 of that size that is made while it is sent; a first try ends after ``cut`` bytes."""
    head = video(MIB)
    start = head.index(b"mdat") - 4
    head = head[:start] + (size - start).to_bytes(4, "big") + head[start + 4 :]
    block = hashlib.shake_256(b"x").digest(MIB)
    digest = hashlib.sha256(head)
    for _ in range(size // MIB - 1):
        digest.update(block)

    def reply(request):
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        assert start % MIB == 0
        request.send_response_only(206 if start else 200)
        request.send_header("ETag", '"large"')
        request.send_header("Content-Length", str(size - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        request.end_headers()
        for at in range(start, size if start else cut, MIB):
            request.wfile.write(block if at else head)
        raise OSError

    return reply, digest.hexdigest()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(host, tmp_path):
    replies = {f"/{size}.mp4": large(size * MIB, cut=size * MIB // 2) for size in (16, 1024)}
    host.always = lambda request: replies[request.path][0](request)
    done = in_a_process(LARGE, f"http://127.0.0.1:{host.server_port}", f"file://{tmp_path}")
    said, errors = done.communicate(timeout=500)
    (small, sha256, before), (big, big_sha256, after) = (
        line.split() for line in said.splitlines() if line[:1].isdigit() and len(line.split()) == 3
    )
    assert (int(small), sha256) == (16 * MIB, replies["/16.mp4"][1]), errors
    assert (int(big), big_sha256) == (1024 * MIB, replies["/1024.mp4"][1]), errors
    assert int(after) - int(before) < 24 * 1024
    assert len(host.asked) == 4
    for size in (16, 1024):
        (tmp_path / f"{size}.mp4").unlink()


def test_a_file_that_comes_meanwhile_is_not_replaced(host, store, target, memory):
    for destination in (ObjectStoragePath(f"file://{target}"), ObjectStoragePath("memory://bucket/x.mp4")):

        def meanwhile(request, path=destination):
            with path.fs.open(path.path, "wb") as file:
                file.write(b"another's")
            return Reply()

        host.script = [meanwhile]
        with pytest.raises(VeoDownloadRefusedError, match="another file exists there"):
            store(destination=destination)
        assert destination.fs.cat_file(destination.path) == b"another's"


def test_a_link_in_the_files_place_is_not_followed(host, store, target, tmp_path):
    target.parent.mkdir()
    (tmp_path / "precious").write_text("precious")
    (target.parent / ".x.mp4.part").symlink_to(tmp_path / "precious")
    with pytest.raises(VeoDownloadError, match="could not: OSError"):
        store()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_storage_that_does_not_rename_over_a_file_is_helped(host, store, memory, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    move = MemoryFileSystem.mv

    def mv(self, path1, path2, **options):
        if self.exists(path2):
            raise FileExistsError(path2)
        move(self, path1, path2, **options)

    monkeypatch.setattr(MemoryFileSystem, "mv", mv)
    path = ObjectStoragePath("memory://bucket/x.mp4")
    store(destination=path)
    host.content = video(seed=b"other")
    store(destination=path, overwrite="always")
    assert {name: file.getvalue() for name, file in memory.items()} == {"/bucket/x.mp4": host.content}
    monkeypatch.setattr(MemoryFileSystem, "mv", lambda *arguments, **options: 1 / 0)
    with pytest.raises(VeoDownloadError, match="could not: ZeroDivisionError"):
        store(destination=ObjectStoragePath("memory://bucket/y.mp4"))
    assert memory.keys() == {"/bucket/x.mp4"}


def test_a_file_that_gets_its_name_while_we_wait_for_it_is_not_written_to(host, store, target, monkeypatch):
    """Between opening the unnamed file and locking it, whoever had the lock may give it its name."""
    flock, whole = sinks.fcntl.flock, host.content

    def late(file, operation):
        if not target.exists():
            (target.parent / ".x.mp4.part").write_bytes(whole)
            os.replace(target.parent / ".x.mp4.part", target)
        flock(file, operation)

    monkeypatch.setattr(sinks.fcntl, "flock", late)
    host.always = Reply(status=400, body=b"")
    with pytest.raises(VeoDownloadError):
        store(overwrite="always")
    assert target.read_bytes() == whole
    assert files_in(target.parent) == ["x.mp4"]


def test_abandoned_upload_is_not_completed_by_the_garbage_collector():
    """Like Azure's, whatever its arguments: a file that is forgotten is closed, and one that is closed is stored."""
    from fsspec.spec import AbstractBufferedFile

    stored = []

    class File(AbstractBufferedFile):
        def _upload_chunk(self, final=False):
            if final:
                stored.append(self.path)

        def _initiate_upload(self):
            pass

    class Storage:
        protocol = ("other",)

        def open(self, path, mode, **options):
            return File(self, path, mode, **options)

        def invalidate_cache(self, path):
            pass

        def _parent(self, path):
            return ""

    path = SimpleNamespace(fs=Storage(), path="b/x.mp4")
    upload = sinks.Upload(path, None)
    upload.write(b"half a video")
    upload.discard()
    gc.collect()
    assert stored == []
    upload.write(b"a video")
    upload._file.close()
    assert stored == ["b/x.mp4"]
    upload.discard()
