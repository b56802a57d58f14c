"""The same connection from every kind of place that Airflow takes one from."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.distributed.report import tell
from tests.system.conftest import make_airflow

pytestmark = pytest.mark.timeout(300)

DAGS = Path(__file__).parent / "dags_secrets"
DAG_ID = "veo_secrets"
EXTRA = {"default_model": "veo3-fast", "prices": {"veo3-fast": 0.4}, "read_timeout": 33}


def places(folder, connection):
    """Put a connection into each place, and return the environment that leads Airflow there."""
    (folder / "connections.json").write_text(json.dumps({"veo_default": connection}))
    (folder / "secrets").mkdir()
    (folder / "secrets" / "veo_default").write_text(json.dumps(connection))

    def backend(path, **arguments):
        return {"AIRFLOW__SECRETS__BACKEND": path, "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(arguments)}

    return {
        "environment": {"AIRFLOW_CONN_VEO_DEFAULT": json.dumps(connection)},
        "local files": backend(
            "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            connections_file_path=str(folder / "connections.json"),
        ),
        "custom": backend("tests.distributed.secrets_backend.FolderBackend", folder=str(folder / "secrets")),
        "nowhere": {},
    }


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """The DAG with each of the places, and with none; by the place's name."""
    root = tmp_path_factory.mktemp("secrets")
    with sandbox.running(generation_seconds=1, api_key=CANARY) as relay:
        connection = {**json.loads(relay.connection), "extra": EXTRA}

        def run(place, variables):
            home = root / f"airflow from {place}"
            shutil.copytree(migrated_home, home)
            airflow = make_airflow(home, DAGS, **variables)
            output = airflow.run("dags", "test", DAG_ID, "2026-11-22", check=False)
            return SimpleNamespace(
                xcoms=airflow.xcoms(DAG_ID),
                states=airflow.states(DAG_ID),
                output=output,
                written=airflow.everything_it_wrote() + output,
            )

        with ThreadPoolExecutor(2) as two:
            begun = {place: two.submit(run, place, vars_) for place, vars_ in places(root, connection).items()}
            ended = {place: run.result() for place, run in begun.items()}
        tell(f"a connection was read from {', '.join(ended)}")
        yield SimpleNamespace(by=ended, url=relay.url, videos=relay.videos(), stats=relay.stats())


PLACES = pytest.mark.parametrize("place", ["environment", "local files", "custom"])


@PLACES
def test_each_place_gives_the_same_settings(ran, place):
    settings = ran.by[place].xcoms["settings", "return_value", -1]
    assert settings == ran.by["environment"].xcoms["settings", "return_value", -1]
    for said in (ran.url, "default_model='veo3-fast'", "read_timeout=33"):
        assert said in settings


@PLACES
def test_each_place_gives_the_key_to_worker_and_trigger(ran, place):
    assert ran.by[place].states["create", -1] == ("success", 1)
    video = ran.by[place].xcoms["create", "veo_video", -1]
    assert (video["state"], video["model"]) == ("succeeded", "veo3-fast")
    assert video["id"] in {made["id"] for made in ran.videos}


def test_each_is_billed_once_and_none_uses_another_key(ran):
    assert ran.stats["answers"]["create"] == {"200": 3}
    assert set(ran.stats["answers"]["query"]) == {"200"}


def test_without_a_place_nothing_is_sent(ran):
    assert ran.by["nowhere"].states["settings", -1] == ("failed", 1)
    assert "veo_default" in ran.by["nowhere"].output


@PLACES
def test_the_key_stays_where_it_was(ran, place):
    assert ran.by[place].xcoms["create", "return_value", -1] in ran.by[place].written
    assert CANARY not in ran.by[place].written
