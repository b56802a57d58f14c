"""What all tests share: an Airflow home of their own, and a relay to talk to over real HTTP."""

from __future__ import annotations

import json
import os
import tempfile

# Before anything imports Airflow: it makes its home when it is imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="veo-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)

import pytest

from airflow_provider_veo import sandbox

CANARY = "sk-canary-7f3b9c21e8d64a05"
"""The key of every relay in the tests. It must turn up nowhere but in its connection."""


@pytest.fixture(scope="session")
def relay_process():
    with sandbox.running(generation_seconds=0, api_key=CANARY) as relay:
        yield relay


@pytest.fixture
def relay(relay_process, monkeypatch):
    """A relay without faults that makes videos at once, and the connection ``veo_default`` to it."""
    relay_process.reset()
    monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", relay_process.connection)
    return relay_process


@pytest.fixture
def connect(relay, monkeypatch):
    """Change the connection ``veo_default``: its own fields, and those of its extra."""

    def change(*, extra=None, **fields):
        connection = {**json.loads(relay.connection), **fields, "extra": extra or {}}
        monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", json.dumps(connection))

    return change


@pytest.fixture
def logged(capfd, caplog):
    """What was logged so far: Airflow 2 logs it and prints it, Airflow 3 prints it."""
    caplog.set_level("INFO")
    return lambda: caplog.text or capfd.readouterr().out
