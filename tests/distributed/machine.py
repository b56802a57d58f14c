"""
The machine's own servers: where their programs are, and how they get there where they are missing.

``python -m tests.distributed.machine`` installs what is missing, and what the Python client of MariaDB is built with;
with names, ``chromium`` for one, what of these is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "initdb": "postgresql",
    "redis-server": "redis-server",
    "mariadbd": "mariadb-server",
    "mariadb_config": "libmariadb-dev",
    "pkg-config": "pkg-config",
    "cc": "gcc",
    "chromium": "chromium",
}
"""The package of Debian and Ubuntu that each program is in."""
SERVERS = tuple(name for name in PACKAGES if name != "chromium")


class MissingError(AssertionError):
    """A program is not there, and can't be installed from here."""


def program(name: str) -> str:
    """Return the path of a program; install it if it is missing."""
    found = find(name)
    if not found:
        install(name)
        found = find(name)
    if not found:
        raise MissingError(f"{name} is still missing after the package {PACKAGES[name]} was installed.")
    return found


def find(name: str) -> str | None:
    """Return the path of a program, also of one that only an administrator has on the path."""
    # The newest PostgreSQL first.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which(name, path=path)


def install(*names: str) -> None:
    """Install the packages of programs."""
    packages = sorted({PACKAGES[name] for name in names})
    sudo: tuple[str, ...] = () if os.geteuid() == 0 else ("sudo", "-n")
    may = not sudo or (shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0)
    if not shutil.which("apt-get") or not may:
        raise MissingError(
            f"These tests need {', '.join(names)}. Install it; on Debian and Ubuntu: "
            f"sudo apt-get install {' '.join(packages)}"
        )
    apt = (*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y")
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "install", "--no-install-recommends", *packages], check=True)


if __name__ == "__main__":
    if missing := [name for name in sys.argv[1:] or SERVERS if not find(name)]:
        install(*missing)
