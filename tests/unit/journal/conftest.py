"""The stores of records, opened as a task opens them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.journal import open_journal
from tests.airflow_lines import attach

TASK_INSTANCE = {
    "dag_id": "nightly",
    "run_id": "scheduled__2026-11-22T01:00:00+00:00",
    "task_id": "make",
    "map_index": -1,
}


@pytest.fixture(params=["file", "memory"])
def root(request, tmp_path):
    """A folder in a local or an object storage, as ``[veo] journal_path`` names it."""
    if request.param == "file":
        return f"file://{tmp_path}/journal"
    from fsspec.implementations.memory import MemoryFileSystem

    attach("memory", fs=MemoryFileSystem())
    MemoryFileSystem.store.clear()
    return "memory://bucket/journal"


@pytest.fixture
def journal_of(root, monkeypatch):
    """Open the journal of a task instance: ``journal_of(task_id="other")``, ``journal_of(iteration=2)`` of a loop."""
    monkeypatch.setenv("AIRFLOW__VEO__JOURNAL_PATH", root)

    def of(iteration=None, **fields):
        context = {"ti": SimpleNamespace(**{**TASK_INSTANCE, **fields})}
        if iteration is not None:
            context["loop"] = SimpleNamespace(index=iteration, max_iterations=3)
        return open_journal(context, durable=True)

    return of


@pytest.fixture
def journal(journal_of):
    return journal_of()


@pytest.fixture
def stored_files(root):
    """Return the files of the storage by their path below the root."""

    def listed():
        path = ObjectStoragePath(root)
        start = f"{path.path.rstrip('/')}/"
        return {name.removeprefix(start): path.fs.cat_file(name) for name in path.fs.find(path.path)}

    return listed
