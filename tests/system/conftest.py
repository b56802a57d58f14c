"""A real Airflow for the system tests: a home, a database, and the ``airflow`` command."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "dags"


@dataclass
class Airflow:
    """An Airflow home of its own, with a SQLite database."""

    home: Path
    dags: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("airflow")), *arguments]

    def run(self, *arguments: str, check: bool = True, timeout: float = 240) -> str:
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

    def query(self, statement: str, *parameters: object) -> list[tuple]:
        with contextlib.closing(sqlite3.connect(self.home / "airflow.db", timeout=60)) as database:
            return database.execute(statement, parameters).fetchall()

    def xcoms(self, dag_id: str) -> dict[tuple[str, str, int], object]:
        """Return the XComs of a DAG by task, key and map index."""
        rows = self.query("SELECT task_id, key, map_index, value FROM xcom WHERE dag_id = ?", dag_id)
        return {(task_id, key, index): json.loads(value) for task_id, key, index, value in rows}

    def states(self, dag_id: str) -> dict[tuple[str, int], tuple[str, int]]:
        """Return state and number of tries of each task instance by task and map index."""
        rows = self.query("SELECT task_id, map_index, state, try_number FROM task_instance WHERE dag_id = ?", dag_id)
        return {(task_id, index): (state, tries) for task_id, index, state, tries in rows}

    def everything_it_wrote(self) -> str:
        """Return all files of the home, the database and the logs among them, as text."""
        files = sorted(path for path in self.home.rglob("*") if path.is_file())
        assert any(path.name == "airflow.db" for path in files)
        return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in files)


def make_airflow(home: Path, dags: Path, **variables: str) -> Airflow:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {
        "AIRFLOW_HOME": str(home),
        # Said here, for a copied home's airflow.cfg names the database of the original.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONPATH": str(PROJECT),
        # A warning about this package's code is a failure of it; those about others' are not ours to mend.
        "PYTHONWARNINGS": "error:::airflow_provider_veo",
        **variables,
    }
    return Airflow(home, dags, environment)


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory):
    """A home with a database, to be copied: to migrate one takes a while."""
    home = tmp_path_factory.mktemp("airflow-template")
    make_airflow(home, DAGS).run("db", "migrate")
    return home
