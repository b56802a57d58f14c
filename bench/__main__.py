"""
Run the measurements, or those that are named: ``python -m bench [imports] [payload] [submit] [waiting]``.

One takes minutes, and runs only when it is named: ``python -m bench workers``.

The exit code is 0 whatever they find: a time says as much about the machine as about the code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile

NAMES = ("imports", "payload", "submit", "waiting")
ONLY_WHEN_NAMED = ("workers",)
"""They take minutes."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, side by side with the counterpart.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(NAMES)}; default: all of them. Only when named, for minutes: {', '.join(ONLY_WHEN_NAMED)}",
    )
    names = parser.parse_args().names or NAMES
    known = NAMES + ONLY_WHEN_NAMED
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such measurement: {', '.join(unknown)}; there are {', '.join(known)}")
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
