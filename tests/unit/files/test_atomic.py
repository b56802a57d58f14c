"""Small files that are written completely or not at all, in each kind of storage."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.files import atomic
from airflow_provider_veo.files.sinks import open_sink
from tests.unit.conftest import PLACES


@pytest.fixture(params=PLACES)
def folder(request, tmp_path):
    if request.param == "file":
        return ObjectStoragePath(f"file://{tmp_path}/a/b")
    if request.param == "memory":
        request.getfixturevalue("storage")
        return ObjectStoragePath("memory://bucket/a/b", conn_id="faulty")
    return request.getfixturevalue("s3_folder")


def test_what_is_written_is_read(folder):
    for content in b"", b"x" * 100_000, "牛\n".encode():
        atomic.write(folder / "x", content)
        assert atomic.read(folder / "x") == content
    assert atomic.names(folder) == ["x"]


def test_missing_file_is_nothing(folder):
    assert atomic.read(folder / "x") is None
    assert atomic.names(folder) == []
    atomic.write(folder / "x", b"1")
    assert atomic.read(folder / "y") is None
    with pytest.raises(FileNotFoundError):
        atomic.read_all([folder / "x", folder / "y"])


def test_many_are_read_in_their_order(folder):
    paths = [folder / f"{number:02}" for number in range(20)]
    for number, path in enumerate(paths):
        atomic.write(path, str(number).encode())
    assert atomic.read_all(paths) == [str(number).encode() for number in range(20)]
    assert atomic.read_all([]) == []
    assert sorted(atomic.names(folder)) == [f"{number:02}" for number in range(20)]


def test_a_listing_is_what_the_storage_knows_now(folder):
    """Not what this process has seen before: another one may have written meanwhile."""
    atomic.write(folder / "x", b"1")
    assert atomic.names(folder) == ["x"]
    if folder.protocol == "s3":
        fs = folder.fs
        other = type(fs)(**fs.storage_options, use_listings_cache=False, skip_instance_cache=True)
        other.pipe_file(f"{folder.path}/y", b"2")
    else:
        folder.fs.pipe_file(f"{folder.path}/y", b"2")
    assert sorted(atomic.names(folder)) == ["x", "y"]


def test_removing_a_missing_file_is_not_an_error(folder):
    atomic.write(folder / "x", b"1")
    atomic.write(folder / "y", b"2")
    atomic.remove([folder / "x", folder / "z"])
    assert atomic.names(folder) == ["y"]


def test_who_reads_while_it_is_written_again_gets_one_of_both(folder):
    contents = {bytes([letter]) * 50_000 for letter in b"ab"}
    atomic.write(folder / "x", min(contents))
    ended = threading.Event()

    def write():
        for _ in range(10):
            for content in contents:
                atomic.write(folder / "x", content)
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not ended.is_set():
        assert atomic.read(folder / "x") in contents
    thread.join()
    assert atomic.names(folder) == ["x"]


@pytest.mark.parametrize("what", ["list", "read"])
def test_storage_that_fails_is_not_read_as_empty(storage, what):
    folder = ObjectStoragePath("memory://bucket/a/b", conn_id="faulty")
    atomic.write(folder / "x", b"1")
    storage.fails = {what}
    with pytest.raises(OSError, match=f"can't {what}"):
        atomic.names(folder) if what == "list" else atomic.read(folder / "x")


def test_a_write_that_fails_leaves_what_was_there(storage):
    folder = ObjectStoragePath("memory://bucket/a/b", conn_id="faulty")
    atomic.write(folder / "x", b"1")
    storage.fails = {"write"}
    with pytest.raises(OSError, match="can't write"):
        atomic.write(folder / "x", b"2")
    storage.fails = set()
    assert atomic.read(folder / "x") == b"1"
    assert atomic.names(folder) == ["x"]


FULL = """
    import resource, signal, sys
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from airflow_provider_veo.files import atomic

    path = ObjectStoragePath(sys.argv[1])
    atomic.write(path, b"1")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        atomic.write(path, b"2" * 10000)
    except OSError as error:
        sys.exit(7)
"""


@pytest.mark.slow
def test_full_disk_keeps_the_old_content(tmp_path):
    path = tmp_path / "a" / "x"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(FULL), f"file://{path}"], timeout=120)
    assert done.returncode == 7
    assert path.read_bytes() == b"1"
    assert os.listdir(path.parent) == ["x"]


KILLED = """
    import os, signal, sys, threading
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from airflow_provider_veo.files import atomic

    path = ObjectStoragePath(sys.argv[1])
    atomic.write(path, b"1" * 1_000_000)
    threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    while True:
        atomic.write(path, b"2" * 1_000_000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.13])
def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(tmp_path, seconds):
    path = tmp_path / "a" / "x"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), f"file://{path}", str(seconds)]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    assert path.read_bytes() in (b"1" * 1_000_000, b"2" * 1_000_000)


def test_a_stream_without_chunks_makes_an_empty_file(folder):
    atomic.write_stream(folder / "empty", iter(()))
    assert atomic.read(folder / "empty") == b""


def test_stream_that_may_not_appear_keeps_the_existing_file(folder):
    def refuse():
        raise RuntimeError("a newer process has written it")

    atomic.write_stream(folder / "x", [b"new"])
    with pytest.raises(RuntimeError):
        atomic.write_stream(folder / "x", [b"old"], refuse)
    assert atomic.read(folder / "x") == b"new"


def test_two_processes_write_the_same_file_without_waiting_for_each_other(folder):
    begun = atomic.write_stream
    inner = []

    def slow():
        yield b"first "
        inner.append(begun(folder / "x", [b"second"]))  # as another process would, in the middle
        yield b"one"

    begun(folder / "x", slow())
    assert atomic.read(folder / "x") == b"first one"


def test_a_file_that_waits_under_the_name_of_an_unfinished_one_is_not_written_to(tmp_path):
    folder = ObjectStoragePath(f"file://{tmp_path}")
    (tmp_path / "victim").write_bytes(b"somebody's")
    os.link(tmp_path / "victim", tmp_path / ".film.mp4.part")
    sink = open_sink(folder / "film.mp4", time.monotonic() + 5, logging.getLogger("tests"))
    sink.write(b"film")
    sink.seal()
    sink.finish()
    assert (tmp_path / "victim").read_bytes() == b"somebody's"
    assert (tmp_path / "film.mp4").read_bytes() == b"film"
