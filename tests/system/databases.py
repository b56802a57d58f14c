"""
The metadata databases of the system tests: a SQLite file in each home, or a database for each home on a server.

The server is the one that ``VEO_TESTS_DATABASE`` names, a URL of SQLAlchemy's without a database. Whatever it is,
times come as SQLAlchemy writes them to SQLite or as ``datetime``, and JSON comes as text.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sqlite3
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import URL, Engine

SERVER = "VEO_TESTS_DATABASE"
_TEMPLATE = "database-template"
"""A file in a migrated home, and so in its copies: the name of the database that theirs begin as."""


def url_of(home: Path) -> str:
    """Return the URL of a home's own database; on a server it is made first if need be."""
    if SERVER not in os.environ:
        return f"sqlite:///{home}/airflow.db"
    from sqlalchemy import make_url

    url = make_url(os.environ[SERVER]).set(database=f"veo_{hashlib.sha256(str(home).encode()).hexdigest()[:16]}")
    template = home / _TEMPLATE
    create(url, template.read_text() if template.exists() else None)
    return _text_of(url)


def make_template(home: Path, url: str) -> None:
    """Let the databases of a migrated home's copies begin as this one: to migrate one takes a while."""
    if SERVER in os.environ:
        from sqlalchemy import make_url

        (home / _TEMPLATE).write_text(str(make_url(url).database))
        _engine(url).dispose()  # PostgreSQL copies no database that somebody is connected to


def create(url: URL, template: str | None = None) -> None:
    """Create a database unless it exists, as a copy of another one if that is given."""
    from sqlalchemy import inspect

    postgresql = url.get_backend_name() == "postgresql"
    engine = _engine(_text_of(url.set(database="postgres" if postgresql else "")))
    names = "SELECT datname FROM pg_database" if postgresql else "SHOW DATABASES"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if url.database in {name for (name,) in connection.exec_driver_sql(names)}:
            return
        if not postgresql:
            how = " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
        elif template:
            how = f' TEMPLATE "{template}"'
        else:
            how = ""
        connection.exec_driver_sql(f'CREATE DATABASE "{url.database}"{how}')
    if template and not postgresql:
        assert not inspect(_engine(_text_of(url))).get_table_names()
        _copy(url, template)


def _copy(url: URL, template: str) -> None:
    """Copy a database of MariaDB or MySQL, which can't do that themselves."""
    options = ["--no-defaults", f"--host={url.host}", f"--port={url.port}", f"--user={url.username}"]
    environment = {**os.environ, "MYSQL_PWD": str(url.password)}
    with subprocess.Popen(
        ["mariadb-dump", *options, "--single-transaction", template], env=environment, stdout=subprocess.PIPE
    ) as dump:
        subprocess.run(["mariadb", *options, str(url.database)], env=environment, stdin=dump.stdout, check=True)
    assert dump.returncode == 0


def query(url: str, statement: str, parameters: tuple[object, ...]) -> list[tuple]:
    """Run a statement of standard SQL, with ``?`` for each parameter."""
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:///").partition("?")[0]
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as database, database:
            return database.execute(statement, parameters).fetchall()
    with _engine(url).begin() as connection:
        found = connection.exec_driver_sql(statement.replace("%", "%%").replace("?", "%s"), parameters)
        return [tuple(row) for row in found] if found.returns_rows else []


def tables(url: str) -> list[str]:
    """Return the names of all tables."""
    if url.startswith("sqlite:"):
        return [name for (name,) in query(url, "SELECT name FROM sqlite_master WHERE type = 'table'", ())]
    from sqlalchemy import inspect

    return inspect(_engine(url)).get_table_names()


@functools.cache
def _engine(url: str) -> Engine:
    from sqlalchemy import create_engine

    # So that names are quoted in MariaDB as everywhere else; "key" is one that has to be.
    arguments = {"sql_mode": "ANSI_QUOTES,STRICT_TRANS_TABLES"} if url.startswith("mysql") else {}
    return create_engine(url, pool_pre_ping=True, connect_args=arguments, json_deserializer=lambda text: text)


def _text_of(url: URL) -> str:
    return url.render_as_string(hide_password=False)
