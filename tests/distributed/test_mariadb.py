"""The system tests, and an evening with a real triggerer, on MariaDB."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from tests.distributed.report import tell
from tests.system.conftest import PROJECT
from tests.system.databases import SERVER

pytestmark = pytest.mark.timeout(1800)

FILES = (
    "tests/distributed/evening.py",
    "tests/system/test_examples.py",
    "tests/system/test_waits.py",
    "tests/system/test_batch.py",
)


def test_the_system_tests_pass_on_mariadb(mariadb):
    begun = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "",
            "-n",
            "3",
            "--dist",
            "loadfile",
            "-p",
            "no:cacheprovider",
            *FILES,
        ],
        cwd=PROJECT,
        env={**os.environ, SERVER: mariadb.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-20000:]
    assert passed, done.stdout
    assert "skipped" not in done.stdout
    tell(f"{passed[1]} system tests passed on MariaDB within {time.monotonic() - begun:.0f} s")
