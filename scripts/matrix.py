"""
Test the wheel on every line of Airflow, each in an environment of its own.

``python scripts/matrix.py [LINE …]``; a line is one of :data:`LINES`, and all of them where none is named. Airflow is
installed first and by itself, with constraints; then the wheel, and what the tests need. The tests run in a copy of the
project without the package, so that they find the one that was installed.

They are the unit tests, and of the system tests those of the examples, of downloads, of a scheduler with a triggerer
and of records in files; with ``--all`` the others too, which take most of the time of older lines. With ``--quick``
they are what is likeliest to differ between lines: no tests of parts that know nothing of Airflow, or little.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / ".matrix"
LOWEST = "lowest"
LINES = ("2.11", "3.0", "3.1", "3.2", "3.3", LOWEST)
"""Lines of Airflow, and the oldest one with the lowest versions of everything that ``pyproject.toml`` admits."""
EXTRAS = {"3.0": "dev,fab", "3.1": "dev,ui", "3.2": "dev,ui", LOWEST: "test"}
ONLY_WITH_ALL = (
    *("announcements", "batch", "create_operator", "hostile_relay", "lineage", "package", "templates", "waits"),
)
"""System tests that run on each line only where that is asked for."""
NOT_WHEN_QUICK = (
    *("unit/protocol", "unit/sandbox", "unit/storage", "system/test_files.py", "system/test_ui.py"),
    *("unit/batch/test_jobs*.py", "unit/batch/test_manifest*.py", "unit/batch/test_watched.py"),
)
"""Tests of what is the same everywhere; the examples store files, too, and a browser looks at the page on 3.1."""
WHEN_QUICK_ONLY_ON_LOWEST = ("unit/hooks/test_batch*.py", "unit/batch/test_engine*.py", "unit/net")
"""Tests of what libraries do that have the same versions on all other lines."""
COPIED = ("bench", "constraints", "dags_examples", "demo", "docs", "scripts", "tests", "README.md", "pyproject.toml")
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


class Outcome(NamedTuple):
    """What came out for a line."""

    line: str
    airflow: str
    python: str
    tests: str
    seconds: dict[str, float]
    passed: bool

    def __str__(self) -> str:
        seconds = ", ".join(f"{what} {spent:.0f} s" for what, spent in self.seconds.items())
        verdict = "passed" if self.passed else "FAILED"
        return f"{self.line:<7} Airflow {self.airflow:<7} Python {self.python:<8} {verdict}: {self.tests} ({seconds})"


class Environment:
    """
    The environment of a line.

    :param line: one of :data:`LINES`.
    :param python: the interpreter to make it with.
    """

    def __init__(self, line: str, python: str) -> None:
        self.line = line
        self.folder = FOLDER / line
        self.python = self.folder / "venv" / "bin" / "python"
        self.constraints = PROJECT / "constraints" / (f"{LOWEST}.txt" if line == LOWEST else f"airflow-{line}.txt")
        self._made_with = python

    def install(self, wheel: Path) -> None:
        """Install Airflow as its documentation says, and then the wheel."""
        if not self.python.exists():
            run(UV, "venv", "--quiet", "--python", self._made_with, self.python.parents[1])
        pins = re.findall(r"^apache-airflow==[^\s;]+", self.constraints.read_text(), re.MULTILINE)
        pinned = ("--compile-bytecode", "--constraint", self.constraints)
        self._pip("install", *pinned, *pins)
        # By its path uv takes a wheel of the same version for the one that is there.
        wheel_with_extras = f"{wheel}[{EXTRAS.get(self.line, 'dev')}]"
        self._pip("install", *pinned, "--reinstall-package", "airflow-provider-veo", wheel_with_extras)
        self._pip("check")

    def test(self, dist: Path, arguments: list[str]) -> tuple[bool, str]:
        """Run the tests, and return whether they passed and how many of them there were."""
        project = self.folder / "project"
        shutil.rmtree(project, ignore_errors=True)
        project.mkdir(parents=True)
        for name in COPIED:
            source = PROJECT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, project / name)
        environment = {**os.environ, "VEO_DISTRIBUTIONS": str(dist), "VEO_CONSTRAINTS": str(self.constraints)}
        environment.pop("PYTHONPATH", None)
        command = [self.python, "-m", "pytest", *arguments]
        with subprocess.Popen(
            list(map(str, command)), cwd=project, env=environment, stdout=subprocess.PIPE, text=True
        ) as tests:
            last = ""
            for last in tests.stdout:
                print(last, end="", flush=True)
        return tests.returncode == 0, re.sub(r"^=+ | in [\d.]+s.*", "", last.strip())

    def versions(self) -> tuple[str, str]:
        """Return Airflow's version and Python's."""
        code = "import platform, importlib.metadata as m; print(m.version('apache-airflow'), platform.python_version())"
        airflow, python = run(self.python, "-c", code).split()
        return airflow, python

    def _pip(self, command: str, *arguments: object) -> None:
        run(UV, "pip", command, "--quiet", "--python", self.python, *arguments)


def run(*command: object) -> str:
    """Run a command and return what it printed; what it said otherwise is shown if it failed."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}")
    return done.stdout


def build() -> Path:
    """Build the wheel and the source distribution, and return their folder."""
    dist = FOLDER / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    pins = PROJECT / "constraints" / "airflow-3.3.txt"
    run(UV, "build", "--quiet", "--out-dir", dist, "--build-constraint", pins, PROJECT)
    return dist


def go(line: str, python: str, dist: Path, arguments: list[str]) -> Outcome:
    """Make a line's environment, and test in it."""
    print(f"\nAirflow {line} …", flush=True)
    environment, began = Environment(line, python), time.monotonic()
    (wheel,) = dist.glob("*.whl")
    environment.install(wheel)
    installed = time.monotonic()
    passed, tests = environment.test(dist, arguments)
    seconds = {"installing": installed - began, "testing": time.monotonic() - installed}
    return Outcome(line, *environment.versions(), tests, seconds, passed)


def arguments_for(line: str, options: argparse.Namespace) -> list[str]:
    """Return pytest's arguments for a line, with what is left out there."""
    left_out = [] if options.all else [f"system/test_{name}.py" for name in ONLY_WITH_ALL]
    if options.quick:
        left_out += NOT_WHEN_QUICK
        left_out += WHEN_QUICK_ONLY_ON_LOWEST if line != LOWEST else ()
    return [*shlex.split(options.pytest), *(f"--ignore-glob=tests/{path}" for path in left_out)]


def main() -> int:
    """Test the lines that are named, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("lines", nargs="*", choices=[[], *LINES], metavar="LINE", help=", ".join(LINES))
    parser.add_argument("--python", default=sys.executable, help="the interpreter to make the environments with")
    parser.add_argument("--pytest", default="-q", help="arguments for pytest")
    parser.add_argument("--all", action="store_true", help="all system tests")
    parser.add_argument("--quick", action="store_true", help="what is likeliest to differ between lines")
    options = parser.parse_args()
    dist = build()
    outcomes = [go(line, options.python, dist, arguments_for(line, options)) for line in options.lines or LINES]
    print(f"\n{'=' * 20} Airflow's lines {'=' * 20}", *outcomes, sep="\n")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
