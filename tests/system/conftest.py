"""A real Airflow for the system tests: a home, a database, and the ``airflow`` command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import airflow_lines
from tests.system import databases

PROJECT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "dags"
STRICT = Path(__file__).parent / "strict"


class TaskInstance(NamedTuple):
    """A row of the metadata database."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    hostname: str | None
    pid: int | None
    trigger_id: int | None
    start_date: datetime | None
    end_date: datetime | None


@dataclass
class Airflow:
    """An Airflow home of its own, with a database of its own."""

    home: Path
    dags: Path
    environment: dict[str, str]

    @property
    def database(self) -> str:
        """URL of the metadata database."""
        return self.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("airflow")), *arguments]

    def run(self, *arguments: str, check: bool = True, timeout: float = 500) -> str:
        """Run an ``airflow`` command, and return what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
        assert not check or done.returncode == 0, output[-8000:]
        return output

    def learn_of_assets(self) -> None:
        """Let Airflow know of assets and aliases: up to 3.0, ``dags test`` can announce nothing without."""
        if airflow_lines.LINE < (3, 1):
            self.run("dags", "reserialize")

    def query(self, statement: str, *parameters: object) -> list[tuple]:
        """Run a statement of standard SQL on the database, with ``?`` for each parameter."""
        return databases.query(self.database, statement, parameters)

    def xcoms(self, dag_id: str, run_id: str | None = None) -> dict[tuple[str, str, int], object]:
        """Return the XComs of a DAG, or of one run of it, by task, key and map index."""
        rows = self.query(
            f'SELECT task_id, "key", map_index, value FROM {airflow_lines.XCOMS} xcom '
            "WHERE dag_id = ? AND run_id = coalesce(?, run_id)",
            dag_id,
            run_id,
        )
        return {(task_id, key, index): json.loads(value) for task_id, key, index, value in rows}

    def states(self, dag_id: str) -> dict[tuple[str, int], tuple[str, int]]:
        """Return state and number of tries of each task instance by task and map index."""
        rows = self.query(
            f"SELECT task_id, map_index, state, try_number FROM {airflow_lines.TASK_INSTANCES} ti WHERE dag_id = ?",
            dag_id,
        )
        return {(task_id, index): (state, tries) for task_id, index, state, tries in rows}

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return the task instances of a run, by task and map index."""
        rows = self.query(
            f"SELECT {', '.join(TaskInstance._fields)} FROM {airflow_lines.TASK_INSTANCES} ti "
            "WHERE dag_id = ? AND run_id = ? ORDER BY task_id, map_index",
            dag_id,
            run_id,
        )
        return [TaskInstance(*row[:-2], *map(_utc, row[-2:])) for row in rows]

    def task_logs(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the log files of a run's tasks by ``task_id=…/[map_index=…/]attempt=….log``."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_text("utf-8", "replace") for path in files}

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """Return the state of a run, or nothing if there is no such run."""
        rows = self.query("SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?", dag_id, run_id)
        return rows[0][0] if rows else None

    def account(self) -> str:
        """Return what went wrong, for a human: DAGs that don't parse, the runs, and the ends of failed ones' logs."""
        parts = [f"{file}: {trace}" for file, trace in self.query("SELECT filename, stacktrace FROM import_error")]
        for dag_id, run_id, state in self.query("SELECT dag_id, run_id, state FROM dag_run"):
            parts += [f"run {run_id} of {dag_id}: {state}", *map(str, self.task_instances(dag_id, run_id))]
            for name, text in self.task_logs(dag_id, run_id).items() if state != "success" else ():
                parts += [f"{name} ends:", *text.splitlines()[-40:]]
        return "\n".join(parts)

    def tables(self) -> dict[str, str]:
        """Return all rows of each table of the database, as text."""
        rows = {name: self.query(f'SELECT * FROM "{name}"') for name in databases.tables(self.database)}
        return {name: "\n".join(_text(value) for row in found for value in row) for name, found in rows.items()}

    def everything_it_wrote(self) -> str:
        """Return the database and all files of the home, the logs among them, as text."""
        files = sorted(path for path in self.home.rglob("*") if path.is_file())
        texts = [path.read_bytes().decode("utf-8", "replace") for path in files]
        if not any(path.name == "airflow.db" for path in files):
            texts += [f"{name}: {rows}" for name, rows in self.tables().items()]
        return "\n".join(texts)


def _utc(time: datetime | str | None) -> datetime | None:
    """Read a time as a database returns it: SQLite has no type for it, and MariaDB none with a zone."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return time if time is None or time.tzinfo else time.replace(tzinfo=timezone.utc)


def _text(value: object) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | memoryview) else str(value)


def make_airflow(home: Path, dags: Path, **variables: str) -> Airflow:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {
        "AIRFLOW_HOME": str(home),
        # Said here, for a copied home's airflow.cfg names the database of the original.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": databases.url_of(home),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        **airflow_lines.journal(home),
        # Airflow 2.11 starts each task by the command of this name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_PROXY": "127.0.0.1,localhost",
        "COLUMNS": "500",  # a message stays on its line
        "PYTHONPATH": f"{STRICT}{os.pathsep}{PROJECT}",
        **variables,
    }
    if "mysql" in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]:
        # Airflow's own clean-up of assets uses SQL that MariaDB doesn't know, and ends the scheduler.
        environment["AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL"] = "3600"
    return Airflow(home, dags, environment)


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory):
    """A home with a database, to be copied: to migrate one takes a while."""
    home = tmp_path_factory.mktemp("airflow-template")
    airflow = make_airflow(home, DAGS)
    airflow.run("db", "migrate")
    databases.make_template(home, airflow.database)
    return home
