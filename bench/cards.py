"""
A page of 24 cards in Chromium: how many requests for videos and posters, and how many bytes?

A real API server on SQLite and a night of 24 videos of 8 s at 720p in a folder, opened in Chromium with an empty cache
and scrolled to its end, and opened again; and beside it what a user would write: 24 video elements with
``preload="metadata"``, which show the same pictures.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_veo import sandbox
from bench import show
from bench.airflows import with_dags
from tests.distributed.machine import program
from tests.system.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable

CARDS = 24
SETTLED_SECONDS = 2.0
"""The page has loaded everything when nothing was received for this long."""
TARGET_REQUESTS = CARDS

_DAG = f"""
from datetime import datetime, timezone

from airflow.sdk import DAG

from airflow_provider_veo.operators import VeoVideoBatchOperator

with DAG("night", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    VeoVideoBatchOperator(
        task_id="make",
        jobs=[{{"prompt": f"Card {{n}}", "enable_upsample": True}} for n in range({CARDS})],
        model="veo3-fast",
        result_path="{{folder}}",
        max_in_flight={CARDS},
        poll_interval=1,
    )
"""
_ELEMENTS = """hrefs => {
    document.body.innerHTML = hrefs.map(href => `<video preload="metadata" src="${href}"></video>`).join("");
}"""


@dataclass
class Loaded:
    """What a browser has requested of videos and posters."""

    requests: Counter[str] = field(default_factory=Counter)
    """By route, ``files`` or ``posters``; ``cache``: those that the browser's cache served."""
    bytes: int = 0
    at: float = field(default_factory=time.monotonic)
    """When the last byte came."""


def measure() -> dict[str, Loaded]:
    """Measure all of them."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="veo-cards-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        videos = (folder / "videos").as_uri()
        with sandbox.running(generation_seconds=0, video_seconds=8) as relay:
            sources = {"night": _DAG.replace("{folder}", videos)}
            airflow = with_dags(folder, relay, sources, AIRFLOW__VEO__PAGE_ROOTS=json.dumps([videos]))
            airflow.run("dags", "test", "night", timeout=1200)
        (run_id,) = {run_id for (run_id,) in airflow.query("SELECT run_id FROM dag_run")}
        place = f"night/{quote(run_id, safe='')}/make/-1"
        with Services(airflow, ("api-server",), users={"admin": "admin"}) as services, sync_playwright() as playwright:
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            chromium = playwright.chromium.launch(executable_path=program("chromium"), args=arguments)
            try:
                return _measured(chromium, services, place)
            finally:
                chromium.close()


def _measured(chromium: Any, services: Services, place: str) -> dict[str, Loaded]:
    def opened() -> Any:
        context = chromium.new_context(viewport={"width": 1440, "height": 1000})
        context.add_cookies([{"name": "_token", "value": services.token("admin"), "url": services.url}])
        return context.new_page()

    def shown(page: Any) -> None:
        page.goto(f"{services.url}/veo/?batch={quote(place, safe='')}")
        page.get_by_text(f"{CARDS} videos on this page").wait_for()
        for heading in page.get_by_role("heading", level=3).all():
            heading.scroll_into_view_if_needed()

    page = opened()
    first = _loaded(page, lambda: shown(page))
    again = _loaded(page, lambda: shown(page))
    answer = page.evaluate(f"fetch('api/batches/{place}/videos').then(answer => answer.json())")
    hrefs = [card["file_href"] for card in answer["videos"]]
    plain = opened()
    plain.goto(f"{services.url}/veo/help")
    elements = _loaded(plain, lambda: plain.evaluate(_ELEMENTS, hrefs))
    return {"the page": first, "the page, opened again": again, "24 video elements": elements}


def _loaded(page: Any, act: Callable[[], None]) -> Loaded:
    """Count what is requested until nothing comes any more."""
    loaded = Loaded()
    counted: dict[str, str] = {}

    def requested(event: dict[str, Any]) -> None:
        route = urlsplit(event["request"]["url"]).path.partition("/veo/api/")[2].partition("/")[0]
        if route in ("files", "posters"):
            counted[event["requestId"]] = route
            loaded.requests[route] += 1
            loaded.at = time.monotonic()

    def cached(event: dict[str, Any]) -> None:
        if route := counted.pop(event["requestId"], None):
            loaded.requests[route] -= 1
            loaded.requests["cache"] += 1

    def received(event: dict[str, Any]) -> None:
        if event["requestId"] in counted:
            loaded.bytes += event["dataLength"]
            loaded.at = time.monotonic()

    session = page.context.new_cdp_session(page)
    session.on("Network.requestWillBeSent", requested)
    session.on("Network.requestServedFromCache", cached)
    session.on("Network.dataReceived", received)
    session.send("Network.enable")
    act()
    while time.monotonic() < loaded.at + SETTLED_SECONDS:
        page.wait_for_timeout(200)
    session.detach()
    return loaded


def report(results: dict[str, Loaded]) -> None:
    """Print them."""
    title = f"A page of {CARDS} cards in Chromium, whose videos have 8 s at 720p: requests, and bytes received"
    table = show.table(title, "", "for videos", "for posters", "from the cache", "bytes")
    for name, found in results.items():
        counts = (str(found.requests[each]) for each in ("files", "posters", "cache"))
        table.add_row(name, *counts, f"{found.bytes / 1e6:.2f} MB")
    show.console.print(table)
    page, elements = results["the page"], results["24 video elements"]
    show.console.print(f"bytes, the page over the elements: {page.bytes / elements.bytes:.3f}")
    requests = page.requests["files"] + page.requests["posters"]
    show.console.print(f"requests of the page: {show.verdict(requests, TARGET_REQUESTS)}")
    show.console.print(f"of them for videos: {show.verdict(page.requests['files'], 0)}")
