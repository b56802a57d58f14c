"""
Test the wheel on every supported line of Airflow, each in its own environment.

``python scripts/matrix.py [LINE …]``. A line is one of :data:`LINES`, and all of them by default. Airflow is installed
first, with constraints, then the wheel and the test dependencies. The tests run in a copy of the project without the
package, so that they import the installed one.

By default these are the unit tests, and the system tests of the examples, downloads, a scheduler with a triggerer, and
records in files. ``--all`` adds the other system tests, which are slow on older lines. ``--quick`` leaves out tests of
parts that hardly depend on Airflow.
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
LINES = ("2.11", "3.0", "3.1", "3.2", "3.3", "3.4", LOWEST)
"""Lines of Airflow, 3.4 as a pre-release, and the oldest with the lowest versions that ``pyproject.toml`` allows."""
EXTRAS = {"3.0": "dev,fab", "3.1": "dev,ui", "3.2": "dev,ui", "3.4": "dev,ui", LOWEST: "test"}
ONLY_WITH_ALL = (
    *("announcements", "batch", "create_operator", "hostile_relay", "lineage", "package", "templates", "waits"),
)
"""System tests that run only with ``--all``."""
NEVER = ("unit/docs", "unit/test_project_files.py")
"""Tests of the repository's own files, which are not copied."""
NOT_WHEN_QUICK = (
    *("unit/protocol", "unit/sandbox", "unit/storage"),
    *("system/test_files.py", "system/test_litellm.py", "system/test_ui.py"),
    *("unit/batch/test_jobs*.py", "unit/batch/test_manifest*.py", "unit/batch/test_watched.py"),
)
"""Tests of code that is the same on all lines. The examples also store files, and 3.1 tests the page in a browser."""
WHEN_QUICK_ONLY_ON_LOWEST = (
    *("unit/hooks/test_batch*.py", "unit/batch/test_blocked.py", "unit/batch/test_engine*.py", "unit/net"),
    "unit/operators/test_shards*.py",
)
"""Tests that depend on libraries whose versions differ only on the lowest line."""
COPIED = (
    *("bench", "constraints", "dags_examples", "demo", "docs", "scripts", "tests"),
    *("CHANGELOG.md", "README.md", "SECURITY.md", "mkdocs.yml", "pyproject.toml"),
)
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


class Outcome(NamedTuple):
    """The result of a line."""

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
    :param python: the interpreter to create it with.
    """

    def __init__(self, line: str, python: str) -> None:
        self.line = line
        self.folder = FOLDER / line
        self.python = self.folder / "venv" / "bin" / "python"
        self.constraints = PROJECT / "constraints" / (f"{LOWEST}.txt" if line == LOWEST else f"airflow-{line}.txt")
        self._made_with = python

    def install(self, wheel: Path) -> None:
        """Install Airflow as documented, and then the wheel."""
        if not self.python.exists():
            run(UV, "venv", "--quiet", "--python", self._made_with, self.python.parents[1])
        pins = re.findall(r"^apache-airflow==[^\s;]+", self.constraints.read_text(), re.MULTILINE)
        pinned = ("--compile-bytecode", "--constraint", self.constraints)
        self._pip("install", *pinned, *pins)
        # Without --reinstall-package, uv skips a wheel whose version is already installed.
        wheel_with_extras = f"{wheel}[{EXTRAS.get(self.line, 'dev')}]"
        self._pip("install", *pinned, "--reinstall-package", "airflow-provider-veo", wheel_with_extras)
        self._pip("check")

    def test(self, dist: Path, arguments: list[str]) -> tuple[bool, str]:
        """Run the tests, and return whether they passed, and pytest's summary."""
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
        """Return the versions of Airflow and Python."""
        code = "import platform, importlib.metadata as m; print(m.version('apache-airflow'), platform.python_version())"
        airflow, python = run(self.python, "-c", code).split()
        return airflow, python

    def _pip(self, command: str, *arguments: object) -> None:
        run(UV, "pip", command, "--quiet", "--python", self.python, *arguments)


def run(*command: object) -> str:
    """Run a command and return its output. Exit with the output if it fails."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} exited with {done.returncode}\n{done.stdout}")
    return done.stdout


def build() -> Path:
    """Build the wheel and the source distribution, and return their folder."""
    dist = FOLDER / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    pins = PROJECT / "constraints" / "airflow-3.3.txt"
    run(UV, "build", "--quiet", "--out-dir", dist, "--build-constraint", pins, PROJECT)
    return dist


def run_line(line: str, python: str, dist: Path, arguments: list[str]) -> Outcome:
    """Create a line's environment, and run the tests in it."""
    print(f"\nAirflow {line} …", flush=True)
    environment, began = Environment(line, python), time.monotonic()
    (wheel,) = dist.glob("*.whl")
    environment.install(wheel)
    installed = time.monotonic()
    passed, tests = environment.test(dist, arguments)
    seconds = {"installing": installed - began, "testing": time.monotonic() - installed}
    return Outcome(line, *environment.versions(), tests, seconds, passed)


def arguments_for(line: str, options: argparse.Namespace) -> list[str]:
    """Return pytest's arguments for a line, including the tests to skip."""
    skipped = [*NEVER]
    if not options.all:
        skipped += [f"system/test_{name}.py" for name in ONLY_WITH_ALL]
    if options.quick:
        skipped += NOT_WHEN_QUICK
        skipped += WHEN_QUICK_ONLY_ON_LOWEST if line != LOWEST else ()
    return [*shlex.split(options.pytest), *(f"--ignore-glob=tests/{path}" for path in skipped)]


def main() -> int:
    """Test the lines and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("lines", nargs="*", choices=[[], *LINES], metavar="LINE", help=", ".join(LINES))
    parser.add_argument("--python", default=sys.executable, help="the interpreter to create the environments with")
    parser.add_argument("--pytest", default="-q", help="arguments for pytest")
    parser.add_argument("--all", action="store_true", help="run all system tests")
    parser.add_argument("--quick", action="store_true", help="skip tests of parts that hardly depend on Airflow")
    options = parser.parse_args()
    dist = build()
    outcomes = [run_line(line, options.python, dist, arguments_for(line, options)) for line in options.lines or LINES]
    print(f"\n{'=' * 20} Airflow lines {'=' * 20}", *outcomes, sep="\n")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
