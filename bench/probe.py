"""
One import in a process of its own, for ``bench.imports``: ``python -m bench.probe MODULE [watch]``.

Prints what it took as JSON. It loads nothing of its own before the import but what Airflow has loaded anyway.
"""

from __future__ import annotations

import builtins
import importlib
import json
import sys
import time
from typing import Any


def main() -> None:
    import airflow.sdk

    _ = airflow.sdk.BaseOperator  # airflow.sdk is lazy: this is what loads it
    loaded = set(sys.modules)
    asked_for: set[str] = set()
    if sys.argv[2:] == ["watch"]:
        _watch(asked_for)
    start = time.process_time()
    importlib.import_module(sys.argv[1])
    seconds = time.process_time() - start
    added = set(sys.modules) - loaded
    found = {"seconds": seconds, "airflow": start, "loaded": loaded, "added": added, "asked_for": asked_for}
    print(json.dumps(found, default=sorted))


def _watch(asked_for: set[str]) -> None:
    """Note every package that an import statement names: also those that are loaded already, which no module adds."""
    original = builtins.__import__

    def noting(name: str, *args: Any, **kwargs: Any) -> Any:
        asked_for.add(name.partition(".")[0])
        return original(name, *args, **kwargs)

    builtins.__import__ = noting


if __name__ == "__main__":
    main()
