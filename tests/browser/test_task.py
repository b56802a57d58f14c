"""What Airflow's own pages say of a task that made a video: the link to it, and the story in the log."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.browser.conftest import wait_until, wait_until_played
from tests.system.gallery import RUN

RUN_PATH = f"/dags/veo_gallery/runs/{quote(RUN, safe='')}"


def opened(person, link):
    """Click what opens a tab, and return the tab."""
    with person.context.expect_page() as found:
        link.click()
    return found.value


@pytest.mark.parametrize("way", ["grid", "page"])
def test_the_link_leads_to_the_video(person, way):
    anna = person()
    if way == "page":
        anna.page.goto(f"{anna.airflow.url}{RUN_PATH}/tasks/wide")
    else:
        anna.page.goto(f"{anna.airflow.url}{RUN_PATH}")
        anna.page.locator("a[href*='/runs/'][href*='/tasks/wide']").first.click()
    anna.page.get_by_role("link", name="Details", exact=True).click()
    tab = opened(anna, anna.page.get_by_role("link", name="Video", exact=True))
    assert tab.url.startswith(f"{anna.airflow.relay.url}/files/")
    wait_until_played(tab.locator("video"), 0.2)
    anna.picture("task-link")


def test_the_log_tells_the_story_of_the_video_and_leads_to_it(person):
    anna = person()
    anna.page.goto(f"{anna.airflow.url}{RUN_PATH}/tasks/wide")
    story = ["Submitting a video to", "Accepted: video", "Deferred: polling", "is ready: http", "Storing", "Stored"]
    body = anna.page.locator("body")
    wait_until(anna.page, lambda: all(each in body.inner_text() for each in story), what="the story")
    log = body.inner_text()
    places = [log.find(each) for each in story]
    assert -1 not in places, dict(zip(story, places, strict=True))
    assert places == sorted(places)
    anna.picture("task-log")
    tab = opened(anna, anna.page.locator(f"a[href^='{anna.airflow.relay.url}/files/']").last)
    tab.locator("video").wait_for()
