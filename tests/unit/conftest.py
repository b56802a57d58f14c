"""What the tests of journals and of a batch share: storages, real ones and one that fails."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import ClassVar

import pytest
import tenacity
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.journal.batch_journal import BatchJournal
from airflow_provider_veo.polling import rate_limiter
from airflow_provider_veo.protocol import payload
from tests import airflow_lines
from tests.airflow_lines import attach
from tests.unit.task_context import TaskInstance

OWNER = {"dag_id": "nightly", "run_id": "scheduled__2026-11-22T01:00:00+00:00", "task_id": "make", "map_index": -1}
LOG = logging.getLogger("tests.unit")
PLACES = ("file", "memory", "s3")


class Storage(MemoryFileSystem):
    """An object storage that can fail, hang, and count. What is in it is nobody else's."""

    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    cachable = False

    def __init__(self):
        super().__init__()
        self.fails: set[str] = set()
        self.fails_once: set[str] = set()
        self.slow = 0.0
        self.listed = 0

    def _may(self, what):
        time.sleep(self.slow if what == "write" else 0)
        if what in self.fails | self.fails_once:
            self.fails_once.discard(what)
            raise OSError(f"the storage can't {what}")

    def ls(self, path, detail=True, **kwargs):
        self.listed += 1
        self._may("list")
        return super().ls(path, detail, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        self._may("read")
        return super().cat_file(path, start, end, **kwargs)

    def _open(self, path, mode="rb", **kwargs):
        self._may("write" if "w" in mode else "read")
        return super()._open(path, mode, **kwargs)


@pytest.fixture
def storage():
    """A storage whose faults a test causes."""
    storage = attach("memory", "faulty", fs=Storage()).fs  # the first one that is attached stays
    storage.store.clear()
    storage.pseudo_dirs[:] = [""]
    storage.fails, storage.fails_once, storage.slow, storage.listed = set(), set(), 0.0, 0
    return storage


@pytest.fixture
def s3_folder(s3_server, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_MY_S3", s3_server.connection)
    return ObjectStoragePath(f"s3://my_s3@{s3_server.bucket().name}/nightly/_journal")


@pytest.fixture
def place():
    return "file"


@pytest.fixture
def folder(place, tmp_path, request):
    """Where a journal is; a test that is parametrized with ``place`` has it in several kinds of storage."""
    if place == "file":
        return ObjectStoragePath(f"file://{tmp_path}/nightly/_journal")
    if place == "memory":
        request.getfixturevalue("storage")
        return ObjectStoragePath("memory://bucket/nightly/_journal", conn_id="faulty")
    return request.getfixturevalue("s3_folder")


@pytest.fixture
def journal_of_batch(folder):
    """Make the journal of another process of the task instance."""
    return lambda **fields: BatchJournal(folder, {**OWNER, **fields}, LOG)


@pytest.fixture
def files(folder):
    """Return the contents of the journal's files, by name."""

    def listed():
        folder.fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return {
                name.rpartition("/")[2]: folder.fs.cat_file(name) for name in folder.fs.ls(folder.path, detail=False)
            }
        return {}

    return listed


@pytest.fixture
def impatient(monkeypatch):
    """Try as often as ever, with less time in between; what is counted by the minute is by the tenth of a second."""
    monkeypatch.setattr(tenacity, "wait_exponential_jitter", lambda **_: tenacity.wait_fixed(0.01))
    monkeypatch.setattr(rate_limiter, "_MINUTE", 0.1)


@pytest.fixture
def ti(tmp_path, monkeypatch):
    """A task instance whose submissions are on record across tries, wherever this Airflow keeps them."""
    for name, value in airflow_lines.journal(tmp_path).items():
        monkeypatch.setenv(name, value)
    return TaskInstance()


@pytest.fixture
def submit(relay):
    """Submit a video without a task, and return its id."""
    hook = VeoHook()
    yield lambda prompt="a cow": hook.create_video(payload.build(prompt, "veo3-fast")).id
    hook.close()
