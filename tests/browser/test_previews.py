"""What the page loads, and for whom: previews from storage, from other hosts, and from a storage that is slow."""

from __future__ import annotations

import http.server
import os
import threading
import time
from urllib.parse import quote

import pytest

from tests.browser.conftest import wait_until, wait_until_played
from tests.browser.test_page import card
from tests.system.gallery import HIDDEN, RUN

KITE = "A red kite over a harbour"


@pytest.fixture
def media_host(serve):
    """A host of videos that counts who requests them."""

    class Host(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requested.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    host = serve(Host)
    host.requested = []
    return host


def test_an_edited_xcom_shows_a_reader_no_film_of_another_dag(person):
    admin, ben = person("admin"), person("ben")
    film = admin.airflow.admin.ask(f"api/videos?dag_id={HIDDEN}").json()["videos"][0]
    assert ben.open("?text=red+kite").locator("img").first.get_attribute("src")
    with ben.airflow.ben.edited_xcom("veo_gallery", "wide", "veo_path", film["file"]):
        kite = card(ben.open("?text=red+kite"), KITE)
        kite.get_by_role("button", name="Play from the relay's host").wait_for()
        assert kite.locator("video, img").count() == 0
        refused = ben.context.request.get(f"{ben.airflow.url}/veo/api/files/veo_gallery/a_run%2B1%3A00/wide/-1")
        assert (refused.status, "video" in refused.headers["content-type"]) == (404, False)
    assert admin.context.request.get(f"{admin.airflow.url}/veo/{film['file_href']}").status == 200


def test_posters_are_loaded_and_a_video_only_when_it_is_played(person):
    anna = person()
    frame = anna.open(f"?batch={quote(f'veo_night/{quote(RUN)}/make/-1', safe='')}")
    frame.get_by_text("4 videos on this page").wait_for()
    frame.get_by_role("heading", level=3).last.scroll_into_view_if_needed()
    sizes = "all => all.map(each => [each.naturalWidth, each.naturalHeight])"
    wait_until(
        anna.page,
        lambda: frame.locator("img").evaluate_all(sizes) == [[640, 360], [360, 640], [640, 360]],
        what="three posters",
    )
    anna.page.wait_for_timeout(1000)
    assert [each.partition("/veo/api/")[2].partition("/")[0] for each in requested(anna)] == ["posters"] * 3
    card(frame, "first of the night").locator("img").hover()
    wait_until_played(card(frame, "first of the night").locator("video"), 0.2)
    assert {each for each in requested(anna) if "/api/files/" in each} == {
        f"{anna.airflow.url}/veo/api/files/veo_night/{quote(RUN)}/make/-1?key=one&at=0"
    }


def requested(anna):
    return [each for each in anna.requests if "/api/files/" in each or "/api/posters/" in each]


def test_the_help_says_what_turns_previews_on(person):
    anna = person()
    anna.page.goto(f"{anna.airflow.url}/veo/help#page-roots")
    anna.page.get_by_text("page_roots").first.wait_for()


def test_a_browser_requests_nothing_from_a_host_that_an_xcom_names(person, media_host):
    anna = person()
    url = f"http://127.0.0.1:{media_host.server_port}/tracker.mp4"
    video = {"id": "elsewhere", "prompt": "a video elsewhere", "state": "succeeded", "video_url": url}
    with anna.airflow.ben.edited_xcom("veo_gallery", "markup", "veo_video", video):
        frame = anna.open("?text=elsewhere")
        elsewhere = card(frame, "a video elsewhere")
        elsewhere.wait_for()
        elsewhere.hover()
        anna.page.wait_for_timeout(1000)
        assert elsewhere.locator("video").count() == 0
    assert media_host.requested == []
    assert [each for each in anna.requests if str(media_host.server_port) in each] == []


def test_a_named_host_is_requested_after_a_click(person):
    anna = person()
    frame = anna.open("?text=pwned")
    play = frame.get_by_role("button", name="Play from the relay's host")
    play.wait_for()
    files = f"{anna.airflow.relay.url}/files/"
    anna.page.wait_for_timeout(1000)
    assert [each for each in anna.requests if each.startswith(files)] == []
    with anna.page.expect_request(lambda request: request.url.startswith(files)):
        play.click()


def test_a_storage_that_hangs_leaves_page_and_server_responsive(person):
    anna = person()
    # A FIFO in the place of a file keeps whoever opens it waiting for somebody who writes.
    card_of_kite = anna.airflow.anna.cards()["wide"]
    path = card_of_kite["file"].removeprefix("file://")
    os.rename(path, f"{path}.kept")
    os.mkfifo(path)
    try:
        answers: list[int] = []

        def ask() -> None:
            answers.append(
                anna.airflow.anna.get(anna.airflow.anna.base + card_of_kite["file_href"], timeout=60).status_code
            )

        threads = [threading.Thread(target=ask) for _ in range(40)]
        for thread in threads:
            thread.start()
        frame = anna.open()
        frame.get_by_text("24 videos on this page").wait_for()
        began = time.monotonic()
        assert anna.context.request.get(f"{anna.airflow.url}/api/v2/monitor/health", timeout=60_000).ok
        assert time.monotonic() - began < 60  # it does not wait for the FIFO, which nobody ever writes
        for thread in threads:
            thread.join()
    finally:
        os.remove(path)
        os.rename(f"{path}.kept", path)
    assert set(answers) <= {404, 503}
