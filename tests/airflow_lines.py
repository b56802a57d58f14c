"""What the lines of Airflow do differently, as far as tests need to know: which tests a line can't run, and why."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable

AIRFLOW = Version(version("apache-airflow"))
LINE = AIRFLOW.release[:2]
NEWEST = (3, 3)
"""The newest released line."""
NEXT = (3, 4)
"""The line of which only pre-releases exist."""
CONSTRAINTS = Path(
    os.environ.get("VEO_CONSTRAINTS") or Path(__file__).parents[1] / "constraints" / "airflow-{}.{}.txt".format(*LINE)
)

ASSET = "asset" if LINE >= (3, 0) else "dataset"
"""What an asset is called in the metadata database."""

# What goes before an alias in FROM: from 3.4 on, a query with the columns of the earlier table. A table has all tries,
# names the map index differently, and XComs belong to a try.
TASK_INSTANCES, EARLIER_TRIES, XCOMS, TASK_STATES, RENDERED_FIELDS = (
    ("task_instance", "task_instance_history", "xcom", "task_state_store", "rendered_task_instance_fields")
    if LINE < (3, 4)
    else (
        "(SELECT region_index AS map_index, task_instance.* FROM task_instance WHERE working_set IS TRUE)",
        "(SELECT region_index AS map_index, task_instance.* FROM task_instance WHERE working_set IS NULL)",
        "(SELECT dag_id, run_id, task_id, region_index AS map_index, region_id, xcom_v2.* FROM xcom_v2"
        " JOIN task_instance ON task_instance.id = task_instance_id WHERE working_set IS TRUE)",
        "(SELECT region_index AS map_index, task_state_store.* FROM task_state_store)",
        "(SELECT dag_id, run_id, task_id, rtif_v2.* FROM rtif_v2"
        " JOIN task_instance ON task_instance.id = task_instance_id)",
    )
)
XCOM_TABLE = "xcom" if LINE < (3, 4) else "xcom_v2"

# Before Airflow is imported: what it would otherwise say of its own defaults.
SETTINGS = {"AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY": "True"} if LINE < (3, 0) else {}

# In the newest line each warning is a failure. Older ones warn of what they do themselves; there, each is that is about
# this package's code, or says that something goes away from Airflow or a provider.
WARNINGS = (
    []
    if LINE >= NEWEST
    else [
        "default",
        "error:::airflow_provider_veo",
        "error::airflow.exceptions.AirflowProviderDeprecationWarning",
        f"error::airflow.exceptions.RemovedInAirflow{3 if LINE < (3, 0) else 4}Warning",
    ]
)


class Skip(NamedTuple):
    """Tests that some lines can't run."""

    tests: str
    """A pattern of their names, from the folder ``tests``."""
    lines: Callable[[tuple[int, ...]], bool]
    reason: str
    """It names the version."""


def _skips(lines: Callable[[tuple[int, ...]], bool], reason: str, *tests: str) -> list[Skip]:
    return [Skip(each, lines, reason) for each in tests]


SKIPS: tuple[Skip, ...] = (
    Skip(
        "unit/test_provider.py::test_the_form_h*",
        lambda line: line < (3, 0),
        "Airflow 2.11 builds the form from widgets",
    ),
    Skip(
        "unit/test_provider.py::test_the_form_of_widgets*",
        lambda line: line > (3, 0),
        "Airflow 2.11 and 3.0 build the form from widgets; newer lines read it from the provider info",
    ),
    Skip(
        "system/test_journal.py*",
        lambda line: line < (3, 3),
        "the task state store requires Airflow 3.3; test_file_journal.py tests records in files",
    ),
    Skip(
        "unit/journal/test_moved.py*",
        lambda line: line < (3, 3),
        "before Airflow 3.3 there is no task state store, so records are in one place only",
    ),
    Skip(
        "system/test_announcements.py*",
        lambda line: line < (3, 1),
        "this module also tests approvals, which require Airflow 3.1",
    ),
    Skip("system/test_review.py*", lambda line: line < (3, 1), "approvals require Airflow 3.1"),
    *_skips(
        lambda line: line == (3, 0),
        "`airflow dags test` of Airflow 3.0 prints every secret that it masks; test_examples.py covers this on 3.0",
        "system/test_[bcw]*.py::test_the_key_is_nowhere",
        "system/test_files.py::test_the_key_is_nowhere",
        "system/test_templates.py::test_the_key_is_nowhere",
    ),
    *_skips(
        lambda line: line == (3, 0),
        "the API of Airflow 3.0 refuses an XCom whose value is false, which these tests pass on",
        "system/test_create_operator.py::test_every_field_may_come*",
        "system/test_create_operator.py::test_the_id_and_the_video*",
        "system/test_create_operator.py::test_the_log_tells*",
    ),
    *_skips(
        lambda line: line == (3, 0),
        "`airflow dags test` of Airflow 3.0 counts resuming after a wait as another try",
        "system/test_waits.py::*generation_fails-2-2?",
        "system/test_waits.py::*says_how_to_go_on?reschedule?",
    ),
    Skip("system/test_ui.py*", lambda line: line < (3, 1), "pages of providers require Airflow 3.1"),
    Skip(
        "unit/ui/test_spend.py*",
        lambda line: line >= (3, 4),
        "these tests write XComs into one table; Airflow 3.4 stores them with task instances, in test_ui.py",
    ),
    Skip("system/test_demo.py*", lambda line: line < (3, 3), "the demo runs Airflow 3.3"),
    Skip("system/test_docs.py*", lambda line: line != (3, 3), "the tutorial installs Airflow 3.3"),
    Skip(
        "system/test_clearing.py*",
        lambda line: line < (3, 4),
        "task loops, and the choice when clearing, came with 3.4",
    ),
    Skip(
        "unit/operators/test_cleared.py*",
        lambda line: line < (3, 3),
        "before Airflow 3.3 there is no task state store that a clear could delete",
    ),
    Skip("unit/test_retry_policy.py*", lambda line: line < (3, 3), "retry policies require Airflow 3.3"),
)


def why_skipped(test: str) -> str | None:
    """Say why a test can't run here; its name begins in the folder ``tests``."""
    return next((skip.reason for skip in SKIPS if skip.lines(LINE) and fnmatchcase(test, skip.tests)), None)


def skip_module(test: str) -> None:
    """Skip a module that can't even be imported here; called in it."""
    if reason := why_skipped(test):
        pytest.skip(reason, allow_module_level=True)


def unwrapped(printed: str) -> str:
    """Return what ``airflow dags test`` has printed; 3.0 wraps messages, and draws a box around tracebacks."""
    return re.sub(r"[\s│]+", " ", printed) if LINE == (3, 0) else printed


def journal(home: Path) -> dict[str, str]:
    """Return the setting that lets what was submitted be remembered: as files where Airflow has no store for it."""
    return {} if LINE >= (3, 3) else {"AIRFLOW__VEO__JOURNAL_PATH": (home / "journal").as_uri()}


def attach(*arguments: Any, **options: Any) -> Any:
    """Airflow's, wherever it is: put a file system in the place of the one that a connection would have."""
    return import_module("airflow.sdk.io" if LINE >= (3, 0) else "airflow.io.store").attach(*arguments, **options)
