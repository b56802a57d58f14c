"""
PostgreSQL, Redis and MariaDB, each a process of its own with a port, a password and a folder of its own.

None outlives the ``with`` block, nor the test process. Where the tests run as root, which these servers refuse to be,
they run as the user ``nobody``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal as signals
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.distributed import machine
from tests.system.supervised import free_port, launch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.system.supervised import Supervised

_SECONDS_TO_START = 180
_SECONDS_TO_STOP = 30
_MANY_CONNECTIONS = 300


class Server:
    """
    A server that can be restarted; where it is and what it knows stay the same then.

    :param name: for its folder, its log and for people.
    """

    stop_signal = signals.SIGTERM

    def __init__(self, name: str) -> None:
        self.port = free_port()
        self.name = name
        self.password = secrets.token_urlsafe(16)
        self.seconds_to_start = 0.0
        # Not a folder of pytest's, which no other user may enter.
        self.folder = Path(tempfile.mkdtemp(prefix=f"veo-{name}-"))
        self.data = self.folder / "data"
        self._running: Supervised | None = None

    def __enter__(self) -> Server:
        with contextlib.ExitStack() as stack:
            stack.callback(self._clean_up)
            begun = time.monotonic()
            _give_away(self.folder)
            self.prepare()
            self.start()
            self.seconds_to_start = time.monotonic() - begun
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up()

    @property
    def url(self) -> str:
        """Where clients connect."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the data folder."""

    def command(self) -> Sequence[str]:
        """Return what starts it, in the foreground."""
        raise NotImplementedError

    def ping(self) -> None:
        """Raise an error unless it answers."""
        raise NotImplementedError

    def start(self) -> None:
        self._running = launch(_unprivileged(self.command()), self.folder / "log", cwd=self.folder)
        deadline = time.monotonic() + _SECONDS_TO_START
        while True:
            try:
                return self.ping()
            except Exception as error:  # each client has errors of its own
                if time.monotonic() > deadline or not self._running.main.is_running():
                    raise AssertionError(f"{self.name} did not start:\n{self.log()}") from error
                time.sleep(0.1)

    def stop(self) -> None:
        """Let it end as its administrator would, and kill what is still there after a while."""
        if self._running:
            self._running.send(self.stop_signal, main_only=True)
            psutil.wait_procs([self._running.main], timeout=_SECONDS_TO_STOP)
            self._running.end()
            self._running = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def run(self, *command: str) -> None:
        """Run a command that has to succeed, as the server's user."""
        done = subprocess.run(
            _unprivileged(command), cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        assert done.returncode == 0, done.stdout.decode("utf-8", "replace")

    def _clean_up(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder)


class PostgreSQL(Server):
    """It disconnects everyone and ends when it is stopped: what ``pg_ctl stop -m fast`` does."""

    stop_signal = signals.SIGINT

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://airflow:{self.password}@127.0.0.1:{self.port}/airflow"

    def prepare(self) -> None:
        password = self.folder / "password"
        password.write_text(self.password)
        password.chmod(0o600)
        _give_away(password)
        initdb = machine.program("initdb")
        options = ("--username=airflow", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync")
        self.run(initdb, f"--pgdata={self.data}", "--locale=C", *options)

    def command(self) -> Sequence[str]:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "max_connections": _MANY_CONNECTIONS,
            "fsync": "off",  # what is written outlives the server all the same, if not the machine
        }
        postgres = str(Path(machine.program("initdb")).with_name("postgres"))
        return [postgres, "-D", str(self.data), *(f"--{name}={value}" for name, value in settings.items())]

    def ping(self) -> None:
        import psycopg2

        account = {"user": "airflow", "password": self.password, "host": "127.0.0.1", "port": self.port}
        with contextlib.closing(psycopg2.connect(dbname="postgres", **account)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = 'airflow'")
                if not cursor.fetchone():
                    cursor.execute("CREATE DATABASE airflow")


class Redis(Server):
    """All commands that it ever got are in a file of its folder."""

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        self.data.mkdir()
        _give_away(self.data)

    def command(self) -> Sequence[str]:
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.data,
            "requirepass": self.password,
            "save": "",
            "appendonly": "yes",
            "auto-aof-rewrite-percentage": 0,
        }
        options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        return [machine.program("redis-server"), *options]

    def ping(self) -> None:
        import redis

        with redis.Redis.from_url(self.url) as client:
            client.ping()

    def everything_it_was_told(self) -> bytes:
        return b"\n".join(path.read_bytes() for path in sorted(self.data.rglob("*")) if path.is_file())


class MariaDB(Server):
    """A server of databases for Airflow, which wants full Unicode."""

    @property
    def url(self) -> str:
        return f"mysql+mysqldb://airflow:{self.password}@127.0.0.1:{self.port}"

    def prepare(self) -> None:
        install = machine.find("mariadb-install-db")
        if not install:
            machine.install("mariadbd")
            install = machine.program("mariadb-install-db")
        self.run(install, "--no-defaults", f"--datadir={self.data}", "--auth-root-authentication-method=normal")

    def command(self) -> Sequence[str]:
        account = self.folder / "account.sql"
        account.write_text(
            f"CREATE USER IF NOT EXISTS airflow@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            "GRANT ALL ON *.* TO airflow@'127.0.0.1';\n"
        )
        account.chmod(0o600)
        _give_away(account)
        settings = {
            "datadir": self.data,
            "port": self.port,
            "bind-address": "127.0.0.1",
            "socket": self.folder / "socket",
            "pid-file": self.folder / "pid",
            "init-file": account,
            "character-set-server": "utf8mb4",
            "collation-server": "utf8mb4_unicode_ci",
            "max-connections": _MANY_CONNECTIONS,
            "innodb-flush-log-at-trx-commit": 0,
            "innodb-file-per-table": 0,  # there are many small databases
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [machine.program("mariadbd"), "--no-defaults", "--skip-name-resolve", *options]

    def ping(self) -> None:
        import MySQLdb

        account = {"user": "airflow", "password": self.password, "host": "127.0.0.1", "port": self.port}
        MySQLdb.connect(**account).close()


def _unprivileged(command: Sequence[str]) -> list[str]:
    if os.geteuid() != 0:
        return list(command)
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *command]


def _give_away(path: Path) -> None:
    """Make a file or folder the server's, which may be another user."""
    if os.geteuid() == 0:
        shutil.chown(path, "nobody")
