"""
What importing the operators adds to a process that parses DAG files, against importing the HTTP provider's operator.

The counterpart is what a user would pick instead: ``HttpOperator`` and a DAG's own polling. The DAG processor imports
a DAG's operators again for every file that it parses, in a process that has Airflow loaded. So each import here has a
fresh process that has loaded ``airflow.sdk`` and its ``BaseOperator`` before the clock starts. What is measured is CPU
time, which other work on the machine disturbs least; the two take turns; and the first process of each is not counted:
it writes the bytecode, and notes what is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import show

OURS = "airflow_provider_veo.operators"
THEIRS = "airflow.providers.http.operators.http"
TARGET = 0.3
RUNS = 5
LOADED_WHEN_A_TASK_RUNS = ("requests", "jsonschema", "aiohttp", "tenacity")


def measure() -> dict[str, list[dict[str, Any]]]:
    """Return what each process found, by module; the watched one first."""
    found: dict[str, list[dict[str, Any]]] = {OURS: [], THEIRS: []}
    for run in range(1 + RUNS):
        for module in (OURS, THEIRS) if run % 2 else (THEIRS, OURS):
            command = [sys.executable, "-m", "bench.probe", module, *([] if run else ["watch"])]
            output = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent.parent
            ).stdout
            found[module].append(json.loads(output.splitlines()[-1]))
    return found


def report(found: dict[str, list[dict[str, Any]]]) -> None:
    """Print the table, and what was imported that should not be."""
    seconds = {module: [run["seconds"] for run in runs[1:]] for module, runs in found.items()}
    table = show.table(
        f"What an import adds to a process with airflow.sdk: CPU time, {RUNS} fresh processes each",
        "import",
        "median (middle half)",
        "modules\nadded",
        "imports of requests,\njsonschema, aiohttp, tenacity",
    )
    for module, runs in found.items():
        imported = [name for name in LOADED_WHEN_A_TASK_RUNS if name in {*runs[0]["asked_for"], *runs[0]["added"]}]
        table.add_row(
            module, show.spread(seconds[module], "ms"), str(len(runs[-1]["added"])), ", ".join(imported) or "none"
        )
    show.console.print(table)
    airflow = show.spread([run["airflow"] for runs in found.values() for run in runs[1:]], "ms")
    loaded = [name for name in LOADED_WHEN_A_TASK_RUNS if name in found[OURS][0]["loaded"]]
    show.console.print(
        f"Before either: Python with airflow.sdk, {airflow}; it has {', '.join(loaded) or 'none'} loaded."
    )
    show.console.print(f"Ratio: {show.verdict(show.ratio(seconds[OURS], seconds[THEIRS]), TARGET)}")
