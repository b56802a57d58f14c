"""
Run the measurements, or those that are named: ``python -m bench [answers] [imports] [payload] [storing] [submit] …``.

All of them take about an hour: batch, night, storing, triggerers, waiting and workers nearly all.

The exit code is 0 whatever they find: a time says as much about the machine as about the code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile

NAMES = (
    "answers",
    "batch",
    "cards",
    "imports",
    "night",
    "page",
    "payload",
    "scale",
    "storing",
    "submit",
    "triggerers",
    "waiting",
    "workers",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, side by side with the counterpart.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; default: all of them")
    names = parser.parse_args().names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"no such measurement: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory(prefix="veo-bench-", ignore_cleanup_errors=True) as home:
        _isolate(home)
        for name in names:
            # Only now, since Airflow reads its home when it is imported.
            module = importlib.import_module(f"bench.{name}")
            module.report(module.measure())


def _isolate(home: str) -> None:
    """Keep this machine's Airflow, proxies and bytecode settings out of the numbers."""
    for name in list(os.environ):
        if name.startswith("AIRFLOW") or name.lower().endswith("_proxy") or name == "PYTHONDONTWRITEBYTECODE":
            del os.environ[name]
    os.environ["AIRFLOW_HOME"] = home


if __name__ == "__main__":
    main()
