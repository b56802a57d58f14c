"""Small files that are there whole or not at all, in each kind of storage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.storage import whole
from tests.batch.conftest import PLACES, s3_folder, storage  # noqa: F401  fixtures


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
        whole.write(folder / "x", content)
        assert whole.read(folder / "x") == content
    assert whole.names(folder) == ["x"]


def test_what_is_not_there_is_nothing(folder):
    assert whole.read(folder / "x") is None
    assert whole.names(folder) == []
    whole.write(folder / "x", b"1")
    assert whole.read(folder / "y") is None
    with pytest.raises(FileNotFoundError):
        whole.read_all([folder / "x", folder / "y"])


def test_many_are_read_in_their_order(folder):
    paths = [folder / f"{number:02}" for number in range(20)]
    for number, path in enumerate(paths):
        whole.write(path, str(number).encode())
    assert whole.read_all(paths) == [str(number).encode() for number in range(20)]
    assert whole.read_all([]) == []
    assert sorted(whole.names(folder)) == [f"{number:02}" for number in range(20)]


def test_a_listing_is_what_the_storage_knows_now(folder):
    """Not what this process has seen before: another one may have written meanwhile."""
    whole.write(folder / "x", b"1")
    assert whole.names(folder) == ["x"]
    if folder.protocol == "s3":
        fs = folder.fs
        other = type(fs)(**fs.storage_options, use_listings_cache=False, skip_instance_cache=True)
        other.pipe_file(f"{folder.path}/y", b"2")
    else:
        folder.fs.pipe_file(f"{folder.path}/y", b"2")
    assert sorted(whole.names(folder)) == ["x", "y"]


def test_what_is_removed_is_gone_and_what_is_not_there_is_no_error(folder):
    whole.write(folder / "x", b"1")
    whole.write(folder / "y", b"2")
    whole.remove([folder / "x", folder / "z"])
    assert whole.names(folder) == ["y"]


def test_who_reads_while_it_is_written_again_gets_one_of_both(folder):
    contents = {bytes([letter]) * 50_000 for letter in b"ab"}
    whole.write(folder / "x", min(contents))
    ended = threading.Event()

    def write():
        for _ in range(10):
            for content in contents:
                whole.write(folder / "x", content)
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not ended.is_set():
        assert whole.read(folder / "x") in contents
    thread.join()
    assert whole.names(folder) == ["x"]


@pytest.mark.parametrize("what", ["list", "read"])
def test_a_storage_that_fails_is_no_empty_one(storage, what):  # noqa: F811
    folder = ObjectStoragePath("memory://bucket/a/b", conn_id="faulty")
    whole.write(folder / "x", b"1")
    storage.fails = {what}
    with pytest.raises(OSError, match=f"can't {what}"):
        whole.names(folder) if what == "list" else whole.read(folder / "x")


def test_a_write_that_fails_leaves_what_was_there(storage):  # noqa: F811
    folder = ObjectStoragePath("memory://bucket/a/b", conn_id="faulty")
    whole.write(folder / "x", b"1")
    storage.fails = {"write"}
    with pytest.raises(OSError, match="can't write"):
        whole.write(folder / "x", b"2")
    storage.fails = set()
    assert whole.read(folder / "x") == b"1"
    assert whole.names(folder) == ["x"]


FULL = """
    import resource, signal, sys
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from airflow_provider_veo.storage import whole

    path = ObjectStoragePath(sys.argv[1])
    whole.write(path, b"1")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        whole.write(path, b"2" * 10000)
    except OSError as error:
        sys.exit(7)
"""


def test_a_disk_that_takes_no_more_leaves_what_was_there(tmp_path):
    path = tmp_path / "a" / "x"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(FULL), f"file://{path}"], timeout=120)
    assert done.returncode == 7
    assert path.read_bytes() == b"1"
    assert os.listdir(path.parent) == ["x"]


KILLED = """
    import os, signal, sys, threading
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from airflow_provider_veo.storage import whole

    path = ObjectStoragePath(sys.argv[1])
    whole.write(path, b"1" * 1_000_000)
    threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    while True:
        whole.write(path, b"2" * 1_000_000)
"""


@pytest.mark.parametrize("seconds", [0.05, 0.13])
def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(tmp_path, seconds):
    path = tmp_path / "a" / "x"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), f"file://{path}", str(seconds)]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    assert path.read_bytes() in (b"1" * 1_000_000, b"2" * 1_000_000)
