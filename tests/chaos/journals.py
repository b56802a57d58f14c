"""Where the tests keep a journal: how Airflow is configured for each place, and what is in it at the end."""

from __future__ import annotations

import contextlib
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from tests.airflow_lines import TASK_STATES
from tests.chaos import shared_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.system.conftest import Airflow

RECORD = "veo_submission"
JOURNAL_PATH = "AIRFLOW__VEO__JOURNAL_PATH"
Records = dict[tuple[str, int], dict]
"""What is on record, by task id and map index."""


class JournalPlace(NamedTuple):
    """Where a journal is kept."""

    variables: Mapping[str, str]
    """Airflow's settings, as environment variables."""
    records: Callable[[Airflow], Records]
    text: Callable[[], str] = str
    """All that is in it, unless it is in Airflow's database."""


@contextlib.contextmanager
def _state(folder: Path) -> Iterator[JournalPlace]:
    def records(airflow: Airflow) -> Records:
        rows = airflow.query(f"SELECT task_id, map_index, value FROM {TASK_STATES} states WHERE key = ?", RECORD)
        return {(task_id, map_index): json.loads(value) for task_id, map_index, value in rows}

    yield JournalPlace({}, records)


@contextlib.contextmanager
def _file(folder: Path) -> Iterator[JournalPlace]:
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    yield JournalPlace({JOURNAL_PATH: folder.as_uri()}, lambda _: _read(files()), lambda: str(files()))


@contextlib.contextmanager
def _memory(folder: Path) -> Iterator[JournalPlace]:
    with shared_memory.running(folder) as variables:

        def files() -> dict[str, bytes]:
            return shared_memory.records(variables)

        yield JournalPlace(
            {**variables, JOURNAL_PATH: shared_memory.ROOT}, lambda _: _read(files()), lambda: str(files())
        )


JOURNALS = {"state": _state, "file": _file, "memory": _memory}


def _read(files: Mapping[str, bytes]) -> Records:
    """Read records of files, each below its DAG's, its run's and its task's folder and named for its map index."""
    found = {}
    for name, content in files.items():
        path = PurePosixPath(name)
        map_index, _, rest = path.name.partition(".")
        if rest == f"{RECORD}.json":
            found[path.parent.name, int(map_index)] = json.loads(content)
    return found
