"""The page *Veo videos* in Chromium: what it shows, and what users can do."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import pytest

from tests.browser.conftest import wait_until, wait_until_played
from tests.system.gallery import HIDDEN, RUN

BRIGHTNESS = """body => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = getComputedStyle(body).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return Math.max(...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3));
}"""


def card(frame, prompt: str):
    return frame.get_by_role("listitem").filter(has=frame.get_by_role("heading", name=prompt, exact=True))


def test_it_is_found_in_airflows_navigation(person):
    anna = person()
    anna.page.goto(anna.airflow.url)
    anna.page.get_by_role("button", name="Browse").click()
    anna.page.get_by_role("menuitem", name="Veo videos").click()
    anna.page.frame_locator("iframe").get_by_role("heading", name="Veo videos").wait_for()


@pytest.mark.parametrize(
    ("prompt", "size"), [("A red kite over a harbour", (640, 360)), ("A lantern rises over rice fields", (360, 640))]
)
def test_a_video_plays_when_it_is_pointed_at(person, prompt, size):
    anna = person()
    frame = anna.open("?text=" + prompt.replace(" ", "+"))
    card(frame, prompt).locator("img").hover()
    video = card(frame, prompt).locator("video")
    wait_until_played(video, 0.3)
    assert tuple(video.evaluate("video => [video.videoWidth, video.videoHeight]")) == size
    anna.page.mouse.move(0, 0)
    wait_until(anna.page, lambda: video.evaluate("video => video.paused && !video.ended"), what="the video to pause")


def test_what_a_card_says(person):
    anna = person()
    kite = card(anna.open("?text=red+kite"), "A red kite over a harbour")
    for text in "succeeded", "veo3-fast", "cost 0.4":
        kite.get_by_text(text, exact=True).wait_for()
    failed = card(anna.open("?state=failed"), "blocked")
    failed.get_by_text("too violent").first.wait_for()


def test_dark_is_dark(person):
    anna = person(dark=True)
    frame = anna.open("?state=succeeded")
    frame.get_by_role("heading", name="A red kite over a harbour").wait_for()
    around = anna.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--chakra-colors-bg')")
    assert frame.locator("html").evaluate("html => html.style.getPropertyValue('--bg')") == around.strip() != ""
    assert frame.locator("html").evaluate("html => html.className") == "dark"
    lit = frame.locator("body").evaluate(BRIGHTNESS)
    assert lit < 80
    assert person().open().locator("body").evaluate(BRIGHTNESS) > 200
    anna.picture("page-dark")


def test_filters_are_in_the_address_bar_and_can_be_shared(person):
    anna = person()
    frame = anna.open()
    frame.get_by_label("State").select_option("blocked")
    frame.get_by_role("heading", name="A red kite over a harbour").wait_for(state="detached")
    frame.get_by_label("Prompt contains").fill("sensor")
    address = "state=blocked&text=sensor"
    wait_until(anna.page, lambda: urlsplit(anna.page.url).query == address, what="the filters in the address bar")
    frame.get_by_text("1 video on this page").wait_for()
    for shared in (anna.page.url, f"{anna.airflow.url}/plugin/veo-videos?{address}"):
        other = person("admin")
        other.page.goto(shared)
        there = other.page.frame_locator("iframe")
        there.get_by_text("1 video on this page").wait_for()
        there.get_by_role("heading", name="blocked, as a sensor sees it").wait_for()


def test_pages_follow_each_other(person):
    anna = person()
    frame = anna.open()
    frame.get_by_text("24 videos on this page").wait_for()
    first = frame.get_by_role("heading", level=3).all_text_contents()
    frame.get_by_role("link", name="Older").click()
    frame.get_by_text("15 videos on this page").wait_for()
    assert not set(frame.get_by_role("heading", level=3).all_text_contents()) & {t for t in first if "veo_" not in t}
    frame.get_by_role("link", name="Newer").click()
    frame.get_by_text("24 videos on this page").wait_for()


def test_a_prompt_full_of_markup_is_text(person):
    anna = person()
    frame = anna.open("?text=pwned")
    heading = frame.get_by_role("heading", name="</script><script>")
    heading.wait_for()
    assert heading.text_content().startswith("</script><script>document.title='pwned'</script><img src=x")
    assert anna.page.title() != "pwned"
    assert frame.locator("img").count() == 0
    assert anna.dialogs == []


def test_a_batch_appears_video_by_video_while_it_runs(person):
    anna = person()
    anna.airflow.relay.configure(generation_seconds=1e6)
    frame = anna.open("?view=batches")
    anna.airflow.services.trigger("veo_night", "tonight")
    batch = frame.get_by_role("listitem").filter(has=frame.get_by_role("link", name="tonight"))
    batch.get_by_text("4 generating").wait_for()
    batch.get_by_role("link", name="4 videos").click()
    frame.get_by_text("4 videos on this page").wait_for()
    frame.locator(".card .badge").get_by_text("generating").first.wait_for()
    anna.picture("page-generating")
    anna.airflow.relay.configure(generation_seconds=0)
    card(frame, "first of the night").locator("img").wait_for()  # without a click
    frame.get_by_text("too violent").first.wait_for()
    anna.airflow.services.wait_for("veo_night", "tonight")
    frame.get_by_text("3 succeeded").wait_for()
    anna.picture("page-batch")


def test_links_lead_into_airflow(person):
    anna = person()
    frame = anna.open("?text=red+kite")
    kite = card(frame, "A red kite over a harbour")
    kite.get_by_role("link", name="wide").click()
    anna.page.wait_for_url(re.compile(r"/dags/veo_gallery/runs/[^/]+/tasks/wide"))
    anna.page.get_by_role("heading", name="wide").or_(anna.page.get_by_text("wide", exact=True)).first.wait_for()


def test_a_file_opens_in_a_tab_of_its_own(person):
    anna = person()
    frame = anna.open("?text=red+kite")
    with anna.context.expect_page() as opened:
        card(frame, "A red kite over a harbour").get_by_role("link", name="file").click()
    tab = opened.value
    assert "/veo/api/files/veo_gallery/" in tab.url
    wait_until_played(tab.locator("video"), 0.2)


def test_by_keyboard_alone(person):
    anna = person()
    frame = anna.open("?text=red+kite")
    play = frame.get_by_role("button", name="Play A red kite over a harbour")
    play.wait_for()
    frame.get_by_label("Prompt contains").focus()
    for _ in range(10):
        anna.page.keyboard.press("Tab")
        if play.evaluate("button => button === document.activeElement"):
            break
    else:
        pytest.fail("the play button was not reached")
    anna.page.keyboard.press("Enter")
    wait_until_played(card(frame, "A red kite over a harbour").locator("video").first, 0.2)
    details = frame.get_by_role("button", name="Details of A red kite over a harbour")
    details.focus()
    anna.page.keyboard.press("Enter")
    frame.get_by_role("dialog").wait_for()
    anna.picture("page-details")
    anna.page.keyboard.press("Escape")
    frame.get_by_role("dialog").wait_for(state="detached")
    wait_until(
        anna.page, lambda: details.evaluate("button => button === document.activeElement"), what="the focus to return"
    )


def test_who_may_not_read_a_dag_sees_none_of_its_videos(person):
    admin, anna = person("admin"), person("anna")
    frame = admin.open(f"?dag_id={HIDDEN}")
    card(frame, "Nobody may know of this").wait_for()
    poster = card(frame, "Nobody may know of this").locator("img").get_attribute("src")
    src = card(frame, "Nobody may know of this").get_by_role("link", name="file").get_attribute("href")
    frame = anna.open("?text=nobody")
    frame.get_by_text("No videos match these filters.").wait_for()
    assert HIDDEN not in frame.get_by_label("DAG").inner_text()
    frame = anna.open(f"?dag_id={HIDDEN}")
    frame.get_by_role("alert").wait_for()
    for path in poster, src:
        url = urljoin(f"{anna.airflow.url}/veo/", path)
        assert anna.context.request.get(url).status == 403
        assert admin.context.request.get(url).status == 200


def test_nothing_is_requested_from_other_hosts(person):
    anna = person()
    frame = anna.open("?state=succeeded")
    frame.get_by_role("heading", name="A red kite over a harbour").wait_for()
    anna.page.wait_for_timeout(1000)
    elsewhere = [url for url in anna.requests if not url.startswith((anna.airflow.url, "data:", "blob:"))]
    assert elsewhere == []


@pytest.mark.parametrize(
    "search", ["", "?view=batches", f"?batch=veo_night%2F{RUN.replace('+', '%252B').replace(':', '%253A')}%2Fmake%2F-1"]
)
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(person, search, dark):
    from axe_playwright_python.sync_playwright import Axe

    anna = person(dark=dark)
    anna.page.goto(f"{anna.airflow.url}/veo/{search}")
    anna.page.get_by_role("progressbar").first.wait_for()
    found = Axe().run(anna.page).response["violations"]
    serious = [
        f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
