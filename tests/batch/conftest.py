"""What the tests of a batch's work share: storages, real ones and one that fails, and tries of one task instance."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from typing import ClassVar

import pytest
import tenacity
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_veo import pace
from airflow_provider_veo.batch import entry as record
from airflow_provider_veo.batch.budget import Budget
from airflow_provider_veo.batch.checkpoint import BatchCheckpoint
from airflow_provider_veo.batch.jobs import Job
from airflow_provider_veo.batch.ledger import Ledger
from airflow_provider_veo.batch.options import Options
from airflow_provider_veo.batch.results import Results
from airflow_provider_veo.batch.run import Run
from airflow_provider_veo.connection import Account
from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.protocol import VideoTask, payload
from airflow_provider_veo.storage import store_video
from tests.airflow_lines import attach

OWNER = {"dag_id": "nightly", "run_id": "scheduled__2026-11-22T01:00:00+00:00", "task_id": "make", "map_index": -1}
LOG = logging.getLogger("tests.batch")
PLACES = ("file", "memory", "s3")
ACCOUNT = Account("veo_default", "https://relay.example.com")


class Storage(MemoryFileSystem):
    """An object storage that can fail, hang, and count. What is in it is nobody else's."""

    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    cachable = False

    def __init__(self):
        super().__init__()
        self.fails: set[str] = set()
        self.slow = 0.0
        self.listed = 0

    def _may(self, what):
        time.sleep(self.slow if what == "write" else 0)
        if what in self.fails:
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
    storage.fails, storage.slow, storage.listed = set(), 0.0, 0
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
def ledger_of(folder):
    """Make the ledger of another process of the task instance."""
    return lambda **fields: Ledger(folder, {**OWNER, **fields}, LOG)


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


def job(key="cow", prompt=None, named=True, existing=None, model="veo3-fast", **fields):
    body = payload.build(prompt or f"prompt of {key}", model, **fields)
    return Job(key, body, f"jobs[{key}]", named, existing)


def jobs(count):
    return [job(f"k{index:03}") for index in range(count)]


def video(veo_task_id="veo3:1", state="succeeded", **fields):
    return VideoTask(id=veo_task_id, state=state, status=state, **fields)


def intended(key="cow", before=None, account=ACCOUNT, price=None, **fields):
    return record.Entry.intend(job(key, **fields), account, before, price)


def accepted(key="cow", veo_task_id="veo3:1", price=0.4, **fields):
    return intended(key, price=price, **fields).accepted(video(veo_task_id, "running"))


def at_once(count, act):
    """Do something in so many threads, and return what each returned or raised."""
    start, outcomes = threading.Barrier(count), [None] * count

    def run(index):
        start.wait()
        try:
            outcomes[index] = act(index)
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


@pytest.fixture
def impatient(monkeypatch):
    """Try as often as ever, with less time in between; what is counted by the minute is by the tenth of a second."""
    monkeypatch.setattr(tenacity, "wait_exponential_jitter", lambda **_: tenacity.wait_fixed(0.01))
    monkeypatch.setattr(pace, "_MINUTE", 0.1)


@dataclasses.dataclass
class Tried:
    """What a try of the task has come to."""

    run: Run
    results: Results | None
    error: BaseException | None

    @property
    def states(self):
        return {row["key"]: row["state"] for row in self.results.rows()}

    @property
    def counts(self):
        return {state: count for state, count in self.results.counts.items() if count}

    @property
    def errors(self):
        return {row["key"]: row["error"] for row in self.results.rows() if row["error"]}


@pytest.fixture
def a_try(relay, impatient, ledger_of, tmp_path):
    """
    Run a batch, as another process and another try of one task instance would: ``a_try(jobs, max_in_flight=3)``.

    :param outcomes: what a trigger has seen: the process goes on with the try before.
    :param begun: is told the run before it goes.
    """
    hooks, numbers = [], [0]

    def store(hook, each, entry):
        destination = ObjectStoragePath(f"file://{tmp_path}/videos/{each.key}.mp4")
        return store_video(entry.video["video_url"], destination, settings=hook.settings, log=LOG, timeout=5).to_dict()

    def go(batch, outcomes=None, begun=lambda run: None, publish=lambda progress: None, checkpoint=None, **options):
        numbers[0] += outcomes is None
        checkpoint = checkpoint or BatchCheckpoint(try_id=str(numbers[0]))
        options = Options(**{"poll_interval": 0.04, "download": False, "try_id": checkpoint.try_id, **options})
        hooks.append(hook := VeoHook())
        ledger, budget = ledger_of(), Budget(hook.settings, options.max_cost)
        entries = {key: each.of_try(options.try_id) for key, each in ledger.begin().items()}
        budget.begin(batch, entries.values())
        run = Run(
            batch,
            entries,
            options,
            hook=hook,
            ledger=ledger,
            budget=budget,
            checkpoint=checkpoint,
            store=lambda each, entry: store(hook, each, entry),
            publish=publish,
            log=LOG,
        )
        begun(run)
        try:
            run.go(outcomes or {})
        except BaseException as error:
            return Tried(run, None, error)
        stopped = str(run.engine.stopped) if run.engine.stopped else None
        results = Results(batch, run.engine.entries, budget.account, download=options.download, stopped=stopped)
        return Tried(run, results, None)

    yield go
    for hook in hooks:
        hook.close()


def ids_at(relay):
    return {each["id"] for each in relay.videos()}


def creates(relay):
    return relay.stats()["requests"].get("create", 0)
