"""The report of a night in Chromium: it opens from a disk alone, and in light and dark."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_veo.operators import VeoVideoBatchOperator
from tests.browser.conftest import HEIGHT, IMAGES, WIDTH
from tests.browser.test_page import BRIGHTNESS
from tests.system.examples import EXAMPLES, PRICES
from tests.unit.conftest import ti  # noqa: F401

pytestmark = pytest.mark.timeout(300)

FAULTS = ("failed=the prompt names a person@prompt=pours tea", "failed=the prompt names a person@prompt=clock strikes")


def night(relay, connect, context, folder, jobs):
    """Run a batch, and return its report."""
    relay.configure(video_seconds=1)
    relay.set_faults(*FAULTS)
    connect(extra={"prices": PRICES})
    operator = VeoVideoBatchOperator(
        task_id="make_videos", jobs=jobs, model="veo3-fast", result_path=f"file://{folder}", poll_interval=0.2
    )
    with ThreadPoolExecutor(1) as pool:  # in this thread, Playwright's event loop is running
        pool.submit(operator.execute, context).result()
    return folder / "report.html"


@pytest.fixture
def report(relay, connect, ti, tmp_path):  # noqa: F811
    with (EXAMPLES / "veo_nightly.csv").open(encoding="utf-8", newline="") as manifest:
        rows = list(csv.DictReader(manifest))
    jobs = [{name: row[name] for name in ("key", "prompt", "model", "aspect_ratio") if row[name]} for row in rows]
    for job in jobs:
        job["prompt"] = job["prompt"].replace("{{ ds | default('today') }}", "2026-11-22")
        if "components" in job.get("model", ""):
            del job["model"]  # it requires images
    ti.dag_id, ti.task_id = "veo_nightly", "make_videos"
    return night(relay, connect, ti.context, tmp_path / "night", jobs)


@pytest.fixture
def opened(chromium):
    """Open a file, without a server. Nothing else is requested, and nothing violates the document's policy."""
    contexts = []

    def open_file(path, scheme="light"):
        context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.requests, page.said = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_a_disk_with_its_posters_and_links(report, opened, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(report, scheme)
    assert page.locator("img").evaluate_all("all => all.filter(each => each.naturalWidth > 0).length") == 22
    assert [url for url in page.requests if not url.startswith("data:")] == [report.as_uri()]
    assert page.said == []
    assert (page.locator("body").evaluate(BRIGHTNESS) < 80) == (scheme == "dark")
    page.get_by_text("the prompt names a person", exact=True).wait_for()
    page.get_by_text("raise attempts_per_video or change the job's request").wait_for()
    if IMAGES.name:
        page.screenshot(path=IMAGES / f"report{'-dark' * (scheme == 'dark')}.png")
    serious = [each for each in Axe().run(page).response["violations"] if each["impact"] in ("serious", "critical")]
    assert serious == []
    page.get_by_role("link", name="file").first.click()
    page.locator("video").wait_for()  # Chromium's own player
    assert page.url.startswith(f"{report.parent.as_uri()}/videos/boat-dawn-")


def test_markup_in_prompts_and_from_the_relay_is_text(relay, connect, ti, tmp_path, opened):  # noqa: F811
    from tests.system.dags_ui.veo_gallery import MARKUP

    relay.set_faults()
    path = night(relay, connect, ti.context, tmp_path / "<b>night", [MARKUP, {"prompt": MARKUP, "key": "<img src=x>"}])
    page = opened(path)
    assert page.get_by_text("</script><script>document.title='pwned'").count() == 2
    assert page.title() == "2 of 2 videos: veo"
    assert page.locator("img").count() == 2
    assert page.said == []
