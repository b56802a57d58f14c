"""An Airflow in which videos of all kinds were made, with its API server running, and people who log in to it."""

from __future__ import annotations

import contextlib
import json
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import requests

from airflow_provider_veo import sandbox
from tests.airflow_lines import LINE, NEWEST, TASK_INSTANCES, XCOM_TABLE
from tests.conftest import CANARY
from tests.system.conftest import PROJECT, make_airflow
from tests.system.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAGS = PROJECT / "tests" / "system" / "dags_ui"
HIDDEN = "veo_secret"
"""The DAG that only an admin may read."""
RUN = "a_run+1:00"
PRICES = {"veo3-fast": 0.4, "veo3.1-fast": 0.5}
FAULTS = [
    "failed=Rejected_by  Google@prompt=as a sensor sees it",
    "failed=too violent@prompt=blocked",
    "unknown-status@prompt=slow",
    "drop-after@prompt=lost",
]
ROOTS = ("wide/{dag_id}", "tall/{dag_id}", "secret/{dag_id}", "night", "secret_batch")
"""Below these the page may read. Folders of batches say themselves whose they are."""
SECRET = "the text of a file that is not a video\n" * 100
REFUSALS = ("22P02", "22P05", "54001")
"""PostgreSQL's codes for what is not JSON, for a character that it can't store, and for what is nested too deeply."""


class Session(requests.Session):
    """Someone who has logged in, as a browser does: with a cookie."""

    def __init__(self, services: Services, user: str) -> None:
        super().__init__()
        self.base = f"{services.url}/veo/"
        self._services = services
        self.cookies.set("_token", services.token(user))

    def ask(self, path: str, **parameters) -> requests.Response:
        return self._services.patiently(lambda: self.get(self.base + path, params=parameters, timeout=60))

    @contextlib.contextmanager
    def edited_xcom(self, dag_id: str, task_id: str, key: str, value: object) -> Iterator[None]:
        """Put a value in the place of an XCom for a while, as Airflow's UI does."""
        before = self._services.airflow.xcoms(dag_id, RUN)[task_id, key, -1]
        self._edit(dag_id, task_id, key, value)
        try:
            yield
        finally:
            self.put_xcom(dag_id, task_id, key, json.dumps(before))

    def _edit(self, dag_id: str, task_id: str, key: str, value: object) -> None:
        if LINE < NEWEST:  # whose API makes a string of each value that it is given
            self.put_xcom(dag_id, task_id, key, json.dumps(value))
            return
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(RUN, safe='')}/taskInstances/{task_id}/xcomEntries/{key}"
        headers = {"Authorization": f"Bearer {self.cookies['_token']}"}
        document = {"value": value, "map_index": -1}
        address = self._services.url + path
        edited = self._services.patiently(lambda: self.patch(address, json=document, headers=headers, timeout=60))
        # It stores half of a surrogate pair, and then fails to say so.
        assert edited.status_code in (200, 500), edited.text

    def put_xcom(self, dag_id: str, task_id: str, key: str, content: str) -> None:
        """Put a text into the database in the place of an XCom, valid JSON or not."""
        from sqlalchemy.exc import DBAPIError

        where = "dag_id = ? AND run_id = ? AND task_id = ?"
        if LINE >= (3, 4):
            where = f"task_instance_id = (SELECT id FROM {TASK_INSTANCES} ti WHERE {where})"
        statement = f'UPDATE {XCOM_TABLE} SET value = ? WHERE {where} AND "key" = ?'
        try:
            self._services.airflow.query(statement, content, dag_id, RUN, task_id, key)
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) not in REFUSALS:
                raise
            pytest.skip(f"This database refuses it: {error.orig}")

    def cards(self, **parameters) -> dict[str, dict]:
        found = self.ask("api/videos", **{"limit": 100, **parameters}).json()["videos"]
        return {f"{each['task_id']}[{each['map_index']}]".replace("[-1]", ""): each for each in found}


@contextlib.contextmanager
def gallery(migrated_home: Path, home: Path) -> Iterator[SimpleNamespace]:
    """Run it."""
    from tests.unit.storage import s3

    shutil.copytree(migrated_home, home)
    secrets = home / "secrets.txt"
    secrets.write_text(SECRET)
    with (
        sandbox.running(generation_seconds=0.5, video_seconds=3, api_key=CANARY, faults=FAULTS) as relay,
        s3.serving() as objects,
    ):
        connection = {**json.loads(relay.connection), "extra": {"prices": PRICES}}
        bucket = f"s3://my_s3@{objects.bucket().name}"
        airflow = make_airflow(
            home,
            DAGS,
            AIRFLOW_CONN_VEO_DEFAULT=json.dumps(connection),
            VEO_GALLERY=f"{home.as_uri()}/videos",
            AIRFLOW_CONN_MY_S3=objects.connection,
            VEO_GALLERY_BUCKET=bucket,
            AIRFLOW__VEO__PAGE_ROOTS=json.dumps(
                [f"{home.as_uri()}/videos/{each}" for each in ROOTS] + [f"{bucket}/videos/{{dag_id}}"]
            ),
            AIRFLOW__VEO__PAGE_MEDIA_HOSTS=relay.url,
            VEO_GALLERY_SECRETS=str(secrets),
        )
        with Services(
            airflow,
            users={"admin": "admin", "anna": "viewer", "ben": "user"},
            AIRFLOW__CORE__AUTH_MANAGER="tests.system.auth_manager.AuthManagerWithDagRights",
            AIRFLOW__CORE__TEST_CONNECTION="Enabled",
        ) as services:
            runs = {dag_id: services.trigger(dag_id, RUN) for dag_id in ("veo_gallery", "veo_night", HIDDEN)}
            states = {dag_id: services.wait_for(dag_id, run_id, timeout=240) for dag_id, run_id in runs.items()}
            yield SimpleNamespace(
                airflow=airflow,
                services=services,
                states=states,
                url=services.url,
                admin=Session(services, "admin"),
                anna=Session(services, "anna"),
                ben=Session(services, "ben"),
                relay=relay,
                objects=objects,
            )
