"""
Build the distributions of a release, check them, and write the SBOM.

``python scripts/release_check.py`` needs the extra ``release``. It installs the wheel with its runtime dependencies
into an empty environment, as a user does, and imports it there. The SBOM describes that environment. All mistakes are
reported together. Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROJECT = Path(__file__).resolve().parents[1]
CONSTRAINTS = PROJECT / "constraints" / "airflow-3.3.txt"
PACKAGE = "airflow_provider_veo"
BIN = Path(sys.executable).parent
PAGE = f"{PACKAGE}/ui/page/"
NEEDED_IN_WHEEL = (
    f"{PACKAGE}/__init__.py",
    f"{PACKAGE}/py.typed",
    f"{PACKAGE}/get_provider_info.py",
    f"{PACKAGE}/protocol/schemas/create_request.json",
    f"{PACKAGE}/batch/report.html.jinja",
    f"{PACKAGE}/batch/report.css",
    f"{PAGE}dist/index.html",
    f"{PAGE}dist/licenses.md",
    f"{PAGE}dist/assets/index.js",
)
IN_DIST_INFO = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
SUFFIXES = {".py", ".pyi", ".typed", ".json", ".html", ".jinja", ".md", ".js", ".css"}
"""The file types of the package."""
TOPS_OF_SDIST = {
    *(PACKAGE, "bench", "constraints", "dags_examples", "demo", "docs", "scripts", "tests"),
    *("CHANGELOG.md", "CITATION.cff", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md"),
    *("LICENSE", "Makefile", "README.md", "SECURITY.md"),
    *("PKG-INFO", "mkdocs.yml", "pyproject.toml", ".gitignore"),
}
NEEDED_IN_SDIST = ("LICENSE", "README.md", "SECURITY.md", "PKG-INFO", "pyproject.toml", f"{PACKAGE}/__init__.py")
STRAY = re.compile(
    r"(^|/)(node_modules|__pycache__|\.venv|\.git|\.env[^/]*|\.netrc|\.pypirc|id_(rsa|ed25519)|[^/]+\.(pem|key|pyc|log))($|/)"
)
SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\r?\n[A-Za-z0-9+/]{40}|\bAKIA[0-9A-Z]{16}\b|\bpypi-AgEI[\w-]{20}"
)
METADATA = ("Name", "Version", "Summary", "License-Expression", "License-File", "Requires-Python", "Keywords")
LARGEST_FILE = 16 * 1024 * 1024
"""Bytes. All files of a release are much smaller."""


def mistakes_in_wheel(wheel: Path) -> list[str]:
    """Return the mistakes in a wheel: unexpected or missing files, secrets, and incomplete metadata."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {each.filename: each.file_size for each in archive.infolist() if not each.is_dir()}
        info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
        mistakes = list(_stray(sizes))
        for name in sizes:
            top = name.partition("/")[0]
            if top not in (PACKAGE, info):
                mistakes.append(f"{name}: does not belong in the wheel")
            elif top == PACKAGE and PurePosixPath(name).suffix not in SUFFIXES:
                mistakes.append(f"{name}: this kind of file does not belong in the wheel")
            elif name.startswith(PAGE) and not name.startswith(f"{PAGE}dist/"):
                mistakes.append(f"{name}: a source of the page does not belong in the wheel")
        needed = (*NEEDED_IN_WHEEL, *(f"{info}/{name}" for name in IN_DIST_INFO))
        mistakes += [f"{name}: is missing" for name in needed if name not in sizes]
        read = {name: archive.read(name) for name, size in sizes.items() if size <= LARGEST_FILE}
    mistakes += _secrets(read)
    return mistakes + _mistakes_in_metadata(read.get(f"{info}/METADATA", b""))


def mistakes_in_sdist(sdist: Path) -> list[str]:
    """Return the mistakes in a source distribution."""
    with tarfile.open(sdist) as archive:
        members = {each.name.partition("/")[2]: each for each in archive.getmembers() if not each.isdir()}
        mistakes = list(_stray({name: each.size for name, each in members.items()}))
        mistakes += [f"{name}: is not a regular file" for name, each in members.items() if not each.isfile()]
        tops = {name.partition("/")[0] for name in members}
        mistakes += [f"{top}: does not belong in the source distribution" for top in sorted(tops - TOPS_OF_SDIST)]
        mistakes += [f"{name}: is missing" for name in NEEDED_IN_SDIST if name not in members]
        files = {name: each for name, each in members.items() if each.isfile() and each.size <= LARGEST_FILE}
        return mistakes + _secrets({name: archive.extractfile(each).read() for name, each in files.items()})


def mistakes_in_sbom(text: str, version: str, private: Iterable[str]) -> list[str]:
    """
    Return the mistakes in an SBOM.

    :param private: Strings that it must not contain: paths of this machine and addresses of its package index.
    """
    document = json.loads(text)
    component = document.get("metadata", {}).get("component", {})
    mistakes = []
    if (component.get("name"), component.get("version")) != ("airflow-provider-veo", version):
        mistakes.append(f"SBOM: describes {component.get('name')!r} {component.get('version')!r}")
    names = {each["name"].lower() for each in document.get("components", [])}
    mistakes += [f"SBOM: lacks {name}" for name in ("apache-airflow", "requests", "aiohttp") if name not in names]
    mistakes += [f"SBOM: lists {name}, which users do not need" for name in ("pytest", "moto") if name in names]
    if "file:" in text:
        mistakes.append("SBOM: names a file of this machine")
    # The values themselves are not printed: an address may contain a password.
    mistakes += ["SBOM: names a path or an address of this machine" for value in private if value and value in text]
    return mistakes


def _stray(sizes: dict[str, int]) -> Iterator[str]:
    for name, size in sizes.items():
        if STRAY.search(name):
            yield f"{name}: must not be released"
        if size > LARGEST_FILE:
            yield f"{name}: has {size} bytes, expected at most {LARGEST_FILE}"


def _secrets(contents: dict[str, bytes]) -> list[str]:
    return [f"{name}: contains a secret" for name, content in contents.items() if SECRETS.search(content)]


def _mistakes_in_metadata(content: bytes) -> list[str]:
    metadata = message_from_bytes(content)
    return [f"METADATA: {name} is missing" for name in METADATA if not metadata.get(name)]


def private_values() -> list[str]:
    """Return the paths and package index addresses of this machine that a release must not contain."""
    paths = [str(PROJECT), str(Path.home()), tempfile.gettempdir()]
    names = re.compile(r"(UV|PIP)_.*(INDEX|URL|FIND_LINKS|HOST)")
    public = ("https://pypi.org/simple", "https://pypi.org/simple/")
    addresses = [part for name, value in os.environ.items() if names.match(name) for part in value.split()]
    return [value for value in (*(f"{path}/" for path in paths if path != "/"), *addresses) if value not in public]


def write_sbom(wheel: Path, folder: Path, version: str) -> str:
    """Install a wheel into an empty environment, import it there, and return the SBOM of that environment."""
    uv, python = BIN / "uv", folder / "venv" / "bin" / "python"
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    run(uv, "pip", "install", "--quiet", "--python", python, "--constraint", CONSTRAINTS, wheel)
    run(uv, "pip", "check", "--quiet", "--python", python)
    environment = {"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(folder / "home")}
    code = f"import {PACKAGE}.operators, {PACKAGE} as p; assert p.__version__ == {version!r}, p.__version__"
    run(python, "-c", code, cwd=folder, env=environment)
    raw = folder / "sbom.json"
    pyproject = ("--pyproject", PROJECT / "pyproject.toml", "--mc-type", "library")
    run(BIN / "cyclonedx-py", "environment", *pyproject, "--output-reproducible", "--output-file", raw, python)
    document = json.loads(raw.read_text())
    # The version is dynamic, so that pyproject.toml does not name it.
    document["metadata"]["component"]["version"] = version
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def run(*command: object, **options: object) -> None:
    """Run a command. Exit with its output if it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} exited with {done.returncode}\n{done.stdout}{done.stderr}")


def main() -> int:
    """Build, check and describe a release."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--dist", type=Path, default=PROJECT / "dist", help="output folder; emptied first")
    dist = parser.parse_args().dist
    shutil.rmtree(dist, ignore_errors=True)
    run(BIN / "uv", "build", "--quiet", "--out-dir", dist, "--build-constraint", CONSTRAINTS, PROJECT)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    version = wheel.name.split("-")[1]
    mistakes = mistakes_in_wheel(wheel) + mistakes_in_sdist(sdist)
    run(BIN / "twine", "check", "--strict", wheel, sdist)
    run(BIN / "check-wheel-contents", wheel)
    # The project has no e-mail address.
    run(BIN / "pyroma", "--min", "10", "--skip-tests", "AuthorEmail", sdist)
    with tempfile.TemporaryDirectory() as folder:
        sbom = write_sbom(wheel, Path(folder), version)
    mistakes += mistakes_in_sbom(sbom, version, private_values())
    if mistakes:
        print("The release is invalid:", *mistakes, sep="\n  ", file=sys.stderr)
        return 1
    target = dist / f"airflow-provider-veo-{version}.cdx.json"
    target.write_text(sbom)
    print(f"Checked {wheel.name} and {sdist.name}, and wrote {target.name}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
