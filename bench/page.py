"""
A hundred previews at once from a storage that takes 0.3 s a call: does the rest of Airflow's API server answer?

A real API server on SQLite, with a video in S3. ``/api/v2/monitor/health`` is requested all the time: without any
other load, while 100 viewers request the video from the page at once, and while they request it from what a user would
write: a route of a plugin that looks the path up with Airflow's own session dependency, reads it through
``ObjectStoragePath`` and returns it.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from bench import show
from tests.system.conftest import DAGS, make_airflow
from tests.system.gallery import gallery

if TYPE_CHECKING:
    from types import SimpleNamespace

VIEWERS = 100
STORAGE_SECONDS = 0.3
IDLE_SECONDS = 5.0
TARGET_SECONDS = 1.0
"""The longest that the health endpoint may take while the page is requested."""

_PLUGIN = """\
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.xcom import XComModel
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import ObjectStoragePath
from fastapi import FastAPI, Response
from sqlalchemy import select

app = FastAPI()


@app.get("/{dag_id}/{task_id}")
def video(dag_id: str, task_id: str, session: SessionDep):
    wanted = select(XComModel.value).where(
        XComModel.dag_id == dag_id, XComModel.task_id == task_id, XComModel.key == "veo_path"
    )
    path = ObjectStoragePath(session.execute(wanted).scalar_one())
    size = path.stat().st_size
    return Response(path.fs.cat_file(path.path, start=0, end=size), media_type="video/mp4")


class Plain(AirflowPlugin):
    name = "plain"
    fastapi_apps = [{"app": app, "url_prefix": "/plain", "name": "plain"}]
"""


@dataclass
class Measured:
    """
    How the health endpoint did.

    :param seconds: of each of its answers.
    :param answers: of the viewers, by status.
    """

    seconds: list[float] = field(default_factory=list)
    answers: Counter[int | str] = field(default_factory=Counter)


def measure() -> dict[str, Measured]:
    """Measure all three."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # the S3 server's own
    with tempfile.TemporaryDirectory(prefix="veo-page-", ignore_cleanup_errors=True) as folder:
        template = Path(folder) / "template"
        template.mkdir()
        make_airflow(template, DAGS).run("db", "migrate")
        (template / "plugins").mkdir()
        (template / "plugins" / "plain.py").write_text(_PLUGIN)
        with gallery(template, Path(folder) / "airflow") as airflow:
            (card,) = airflow.admin.ask("api/videos", text="tram in the rain").json()["videos"]
            ours, plain = airflow.admin.base + card["file_href"], f"{airflow.url}/plain/veo_gallery/in_s3"
            for url in (ours, plain):
                airflow.admin.get(url, timeout=60).raise_for_status()
            airflow.objects.delay = STORAGE_SECONDS
            return {
                "nothing else": _measured(airflow, None),
                "the page": _measured(airflow, ours),
                "a route with Airflow's session": _measured(airflow, plain),
            }


def report(results: dict[str, Measured]) -> None:
    """Print them."""
    title = f"{VIEWERS} previews at once from a storage of {STORAGE_SECONDS} s a call: /api/v2/monitor/health meanwhile"
    table = show.table(title, "meanwhile", "median", "longest", "answers to viewers")
    for name, found in results.items():
        answers = ", ".join(f"{count} times {status}" for status, count in sorted(found.answers.items(), key=str))
        median, longest = statistics.median(found.seconds), max(found.seconds)
        table.add_row(name, f"{median * 1000:.0f} ms", f"{longest * 1000:.0f} ms", answers or "none")
    show.console.print(table)
    page, plain = (max(results[name].seconds) for name in ("the page", "a route with Airflow's session"))
    show.console.print(f"longest, the page over the route: {page / plain:.2f}")
    show.console.print(f"longest, the page: {show.verdict(page, TARGET_SECONDS, ' s')}")


def _measured(airflow: SimpleNamespace, url: str | None) -> Measured:
    found = Measured()
    done = threading.Event()
    watching = threading.Thread(target=_watch, args=(airflow, found, done))
    watching.start()
    try:
        if url is None:
            time.sleep(IDLE_SECONDS)
        else:
            with ThreadPoolExecutor(VIEWERS) as pool:
                found.answers.update(pool.map(lambda _: _view(airflow, url), range(VIEWERS)))
    finally:
        done.set()
        watching.join()
    return found


def _watch(airflow: SimpleNamespace, found: Measured, done: threading.Event) -> None:
    with requests.Session() as session:
        while not done.is_set():
            began = time.perf_counter()
            with contextlib.suppress(requests.RequestException):  # it took as long as it took
                session.get(f"{airflow.url}/api/v2/monitor/health", timeout=120)
            found.seconds.append(time.perf_counter() - began)
            time.sleep(0.02)


def _view(airflow: SimpleNamespace, url: str) -> int | str:
    try:
        return requests.get(url, cookies=airflow.admin.cookies, timeout=120).status_code
    except requests.RequestException as error:
        return type(error).__name__
