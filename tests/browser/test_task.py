"""What Airflow's own pages say of a task that made a video: the link to it, and the story in the log."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.system.gallery import RUN

pytestmark = pytest.mark.timeout(300)

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
    tab.wait_for_timeout(1500)
    assert tab.locator("video").evaluate("video => video.currentTime") > 0.2
    anna.picture("task-link")


def test_the_log_tells_the_story_of_the_video_and_leads_to_it(person):
    anna = person()
    anna.page.goto(f"{anna.airflow.url}{RUN_PATH}/tasks/wide")
    last = anna.page.get_by_text("is ready: http").first
    last.wait_for()
    log = anna.page.locator("body").inner_text()
    story = ["Submitting a video to", "Accepted: video", "Deferred: polling", "is ready: http", "Storing", "Stored"]
    places = [log.find(each) for each in story]
    assert -1 not in places, dict(zip(story, places, strict=True))
    assert places == sorted(places)
    anna.picture("task-log")
    tab = opened(anna, anna.page.locator(f"a[href^='{anna.airflow.relay.url}/files/']").last)
    assert tab.locator("video").count() == 1
