"""What must not be released is found: faults planted into a wheel, a source distribution and an SBOM."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from airflow_provider_veo import __version__
from tests.airflow_lines import CONSTRAINTS

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "scripts" / "release_check.py"
KEY = "-----BEGIN " + "PRIVATE KEY-----\n" + "A" * 64

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("release_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "build", "--quiet", "--out-dir", folder, "--build-constraint", CONSTRAINTS, PROJECT]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def wheel(dist, tmp_path):
    """Copy the wheel with changes: new contents by name, or nothing for a file that is left out."""
    (original,) = dist.glob("*.whl")

    def change(**contents):
        changes = {
            name.replace("INFO", f"airflow_provider_veo-{__version__}.dist-info"): text
            for name, text in contents.items()
        }
        copy = tmp_path / original.name
        with zipfile.ZipFile(original) as old, zipfile.ZipFile(copy, "w") as new:
            for name in old.namelist():
                if name not in changes:
                    new.writestr(name, old.read(name))
            for name, text in changes.items():
                if text is not None:
                    new.writestr(name, text)
        return copy

    return change


def test_distributions_as_built_are_valid(check, dist, wheel):
    (sdist,) = dist.glob("*.tar.gz")
    assert check.mistakes_in_wheel(wheel()) == []
    assert check.mistakes_in_sdist(sdist) == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tests/test_x.py", "", "does not belong"),
        ("setup.cfg", "", "does not belong"),
        ("airflow_provider_veo/.env", "KEY=x", "must not be released"),
        ("airflow_provider_veo/notes.txt", "", "kind of file"),
        ("airflow_provider_veo/ui/page/src/App.js", "", "source of the page"),
        ("airflow_provider_veo/ui/page/dist/node_modules/x.js", "", "must not be released"),
        ("airflow_provider_veo/extra.py", KEY, "contains a secret"),
        ("airflow_provider_veo/py.typed", None, "is missing"),
        ("INFO/licenses/LICENSE", None, "is missing"),
        ("INFO/METADATA", "Metadata-Version: 2.4\nName: x\nVersion: 1\n", "License-Expression is missing"),
    ],
)
def test_fault_in_a_wheel_is_found(check, wheel, name, content, says):
    mistakes = check.mistakes_in_wheel(wheel(**{name: content}))
    assert any(says in each for each in mistakes), mistakes


@pytest.mark.parametrize(
    ("name", "says"), [(".pypirc", "must not be"), ("notes/x", "does not belong"), ("docs/k", "secret")]
)
def test_fault_in_a_source_distribution_is_found(check, dist, tmp_path, name, says):
    (original,) = dist.glob("*.tar.gz")
    copy = tmp_path / original.name
    with tarfile.open(original) as old, tarfile.open(copy, "w:gz") as new:
        for member in old.getmembers():
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
        planted = tarfile.TarInfo(f"airflow_provider_veo-{__version__}/{name}")
        planted.size = len(KEY)
        new.addfile(planted, io.BytesIO(KEY.encode()))
    mistakes = check.mistakes_in_sdist(copy)
    assert any(says in each and name.partition("/")[0] in each for each in mistakes), mistakes


def sbom(**changes):
    names = changes.pop("names", ["apache-airflow", "requests", "aiohttp"])
    component = {"name": "airflow-provider-veo", "version": __version__, **changes}
    return json.dumps({"metadata": {"component": component}, "components": [{"name": name} for name in names]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (sbom(version="0"), "describes"),
        (sbom(names=["requests", "aiohttp"]), "lacks apache-airflow"),
        (sbom(names=["apache-airflow", "requests", "aiohttp", "pytest"]), "lists pytest"),
        (sbom(purl="file:///x"), "names a file"),
        (sbom(purl="https://user:canary@index.example/simple/x"), "names a path or an address"),
    ],
)
def test_fault_in_an_sbom_is_found(check, text, says):
    mistakes = check.mistakes_in_sbom(text, __version__, ["https://user:canary@index.example/simple"])
    assert any(says in each for each in mistakes), mistakes
    assert "canary" not in str(mistakes)
    assert check.mistakes_in_sbom(sbom(), __version__, ["https://user:canary@index.example/simple"]) == []
