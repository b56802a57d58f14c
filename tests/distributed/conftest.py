from __future__ import annotations

import pytest

from tests.distributed import report, servers
from tests.system.conftest import migrated_home  # noqa: F401


def pytest_terminal_summary(terminalreporter):
    if report.LINES:
        terminalreporter.section("what the distributed tests did")
        for line in report.LINES:
            terminalreporter.line(line)


@pytest.fixture(scope="module")
def postgresql():
    with servers.PostgreSQL("postgresql") as server:
        report.tell(f"PostgreSQL was up within {server.seconds_to_start:.1f} s")
        yield server


@pytest.fixture(scope="module")
def redis():
    with servers.Redis("redis") as server:
        report.tell(f"Redis was up within {server.seconds_to_start:.1f} s")
        yield server


@pytest.fixture(scope="module")
def mariadb():
    with servers.MariaDB("mariadb") as server:
        report.tell(f"MariaDB was up within {server.seconds_to_start:.1f} s")
        yield server
