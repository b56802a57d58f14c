"""The package as a user gets it: built, installed into an empty environment, and registered with Airflow there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from airflow_provider_veo import __version__
from tests.airflow_lines import AIRFLOW, CONSTRAINTS, LINE
from tests.system.conftest import PROJECT

TYPED_PROJECT = Path(__file__).parent / "typed_project"
UV = str(Path(sys.executable).with_name("uv"))


def run(*command: object, **options) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=280, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    if given := os.environ.get("VEO_DISTRIBUTIONS"):
        return Path(given)
    folder = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--quiet", "--out-dir", folder, "--build-constraint", CONSTRAINTS, PROJECT)
    return folder


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """An environment where Airflow was installed as its documentation says, and then the wheel; and an Airflow home."""
    folder = tmp_path_factory.mktemp("installed")
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    (wheel,) = distributions.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    for package in f"apache-airflow=={AIRFLOW}", wheel:
        run(UV, "pip", "install", "--quiet", "--python", python, "--constraint", CONSTRAINTS, package)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
    environment |= {"AIRFLOW_HOME": str(folder / "home"), "COLUMNS": "200"}

    def call(program: str, *arguments: str) -> str:
        return run(folder / "venv" / "bin" / program, *arguments, env=environment, cwd=folder)

    return call


def test_the_wheel_holds_the_package_and_nothing_else(distributions):
    (wheel,) = distributions.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"airflow_provider_veo", f"airflow_provider_veo-{__version__}.dist-info"}
    built = ("index.html", "help.html", "licenses.md", "assets/index.js", "assets/index.css", "assets/help.css")
    page = [f"ui/page/dist/{name}" for name in built]
    for needed in ("py.typed", "protocol/schemas/create_request.json", "sandbox/cli.py", *page):
        assert f"airflow_provider_veo/{needed}" in names
    assert sum(name.startswith("airflow_provider_veo/ui/page/") for name in names) == len(page)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_distribution_holds_what_it_is_built_and_tested_from(distributions):
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    for needed in ("pyproject.toml", "README.md", "LICENSE", "Makefile", "tests/conftest.py", "demo/run.py"):
        assert needed in names
    assert "airflow_provider_veo/ui/page/src/App.tsx" in names
    assert not any("node_modules" in name for name in names)
    assert not any(name.startswith((".venv", ".demo", ".ci")) for name in names)


def test_airflow_lists_the_provider(installed):
    listed = installed("airflow", "providers", "list")
    assert re.search(rf"airflow-provider-veo .*{re.escape(__version__)}", listed)


def test_airflow_lists_the_hook(installed):
    assert re.search(r"veo +\| airflow_provider_veo\.hooks\.VeoHook", installed("airflow", "providers", "hooks"))


def test_airflow_tells_everything_about_the_provider(installed):
    told = installed("airflow", "providers", "get", "airflow-provider-veo", "--full", "--output", "json")
    for part in ("airflow_provider_veo.operators", "allow_insecure_http", "Default model", "API key"):
        assert part in told


def test_the_operator_can_be_imported_without_any_extra(installed):
    code = "from airflow_provider_veo.operators import VeoCreateVideoOperator as O; print(O.__name__)"
    assert installed("python", "-c", code) == "VeoCreateVideoOperator\n"


@pytest.mark.skipif(LINE < (3, 0), reason="Airflow 2 has no airflow.sdk, and its own classes have other types")
def test_project_that_uses_the_wheel_type_checks_strictly(installed, tmp_path):
    pytest.importorskip("mypy", reason="only the environment of the newest Airflow line has mypy")
    python = installed("python", "-c", "import sys; print(sys.executable)").strip()
    options = ("--strict", "--config-file=", "--python-executable", python, "--cache-dir", tmp_path)
    # A copy: next to this project, mypy would read its source instead of the wheel.
    shutil.copytree(TYPED_PROJECT, tmp_path / "project")
    said = run(sys.executable, "-m", "mypy", *options, "film.py", cwd=tmp_path / "project")
    assert said == "Success: no issues found in 1 source file\n"


@pytest.mark.skipif(LINE < (3, 0), reason="Airflow 2 has no airflow.sdk")
def test_project_that_uses_the_wheel_is_a_valid_dag_file(installed):
    installed("python", TYPED_PROJECT / "film.py")


def test_the_environment_is_consistent(installed, tmp_path_factory):
    python = installed("python", "-c", "import sys; print(sys.executable)").strip()
    run(UV, "pip", "check", "--python", python)


def test_the_sandbox_says_which_extra_it_needs(installed):
    advice = r"(av|fastapi|uvicorn) is not installed: pip install 'airflow-provider-veo\[sandbox\]'"
    with pytest.raises(AssertionError, match=advice):
        installed("airflow-veo-sandbox", "--port", "0")
