"""Chromium before a real Airflow in which videos of all kinds were made."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.airflow_lines import LINE, NEWEST
from tests.distributed.machine import program
from tests.system.conftest import migrated_home  # noqa: F401
from tests.system.gallery import gallery

IMAGES = Path(os.environ.get("VEO_IMAGES", ""))
"""Where pictures for the documents go, where somebody has said so."""
WIDTH, HEIGHT = 1440, 1000
MILLISECONDS = 120_000
"""A deadline, not a duration: what a busy machine may need until something is there."""


def wait_until(page, predicate, what: str) -> None:
    """Wait until a predicate is true that asks more of a page than its locators can wait for."""
    deadline = time.monotonic() + MILLISECONDS / 1000
    while not predicate():
        assert time.monotonic() < deadline, f"waited for {what}"
        page.wait_for_timeout(50)


def wait_until_played(video, seconds: float) -> None:
    """Wait until a video has been played up to this second."""
    wait_until(video.page, lambda: video.evaluate("video => video.currentTime") > seconds, what="the video to play")


@pytest.fixture(scope="session")
def airflow(migrated_home, tmp_path_factory):  # noqa: F811
    with gallery(migrated_home, tmp_path_factory.mktemp("browser") / "airflow") as found:
        yield found


@pytest.fixture(scope="session")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # As root it has no sandbox of its own; what it opens is on this machine.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=arguments)
        yield browser
        browser.close()


class Person:
    """
    Someone who is logged in to Airflow, before a browser.

    :param chromium: the browser.
    :param airflow: where to.
    :param user: who.
    :param dark: whether it is dark.
    """

    def __init__(self, chromium, airflow, user: str, *, dark: bool = False) -> None:
        self.airflow = airflow
        scheme = "dark" if dark else "light"
        self.context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
        self.context.set_default_timeout(MILLISECONDS)
        self.context.add_init_script(f"localStorage.setItem('theme', '{scheme}')")
        self.context.add_cookies([{"name": "_token", "value": airflow.services.token(user), "url": airflow.url}])
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.dialogs: list[str] = []
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))

    def open(self, search: str = ""):
        """Open the page, and return what is in Airflow's frame."""
        self.page.goto(f"{self.airflow.url}/plugin/veo-videos{search}")
        frame = self.page.frame_locator("iframe")
        frame.get_by_role("heading", name="Veo videos").wait_for()
        return frame

    def picture(self, name: str) -> None:
        """Take a picture for the documents."""
        if IMAGES.name and LINE >= NEWEST:
            self.page.screenshot(path=IMAGES / f"{name}.png")


@pytest.fixture
def person(chromium, airflow):
    """Return how a person logs in."""
    people = []

    def log_in(user: str = "anna", *, dark: bool = False) -> Person:
        people.append(Person(chromium, airflow, user, dark=dark))
        return people[-1]

    yield log_in
    for each in people:
        each.context.close()
