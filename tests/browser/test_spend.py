"""The tab *Spend* in Chromium: a chart, a table and a file with the same numbers."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.system.gallery import HIDDEN, RUN

pytestmark = pytest.mark.timeout(300)

MODELS = (("veo3-fast", 0.4), ("veo3.1", 1.2), ("veo3", 6))
NIGHTS = 30
SPEND = f"?view=spend&dag_id=veo_night&run_id={quote(RUN, safe='')}"
"""Without the runs of other tests."""


def rows(count: int) -> list[dict]:
    """Return what a task has spent in that number of nights; in some of them, an answer was lost."""
    today = datetime.now(timezone.utc).date()
    return [
        {
            "day": (today - timedelta(days=night)).isoformat(),
            "model": model,
            "videos": (videos := 3 + (night * (7 + index)) % 11),
            "unpriced": 0,
            "unknown": int(night % 9 == 4),
            "cost": round(videos * price, 2),
            "possible_cost": price if night % 9 == 4 else 0,
        }
        for night in range(count)
        for index, (model, price) in enumerate(MODELS)
    ]


@pytest.fixture
def nights(airflow):
    found = rows(NIGHTS)
    with airflow.ben.edited_xcom("veo_night", "make", "veo_spend", found):
        yield found


def heights(day, bar: int) -> list[float]:
    """Return the heights in pixels of the parts of a bar."""
    return day.locator(".bar").nth(bar).locator("span").evaluate_all("all => all.map(each => each.clientHeight)")


@pytest.mark.parametrize("dark", [False, True])
def test_the_chart_the_table_and_the_file_agree(person, nights, dark):
    anna = person(dark=dark)
    frame = anna.open(SPEND)
    table = frame.get_by_role("table", name="Spend by day, DAG and model")
    table.wait_for()
    if dark:
        anna.picture("page-spend")
    cost = sum(round(row["cost"] * 100) for row in nights) / 100
    possible = sum(round(row["possible_cost"] * 100) for row in nights) / 100
    total = table.locator("tfoot td").all_text_contents()
    assert (total[1], total[4]) == (f"{cost:,.10g}", f"{possible:.10g}")
    assert frame.get_by_text(f"cost {total[1]} for {sum(row['videos'] for row in nights)} videos").count() == 1
    assert table.locator("tbody tr").count() == len(nights)
    frame.get_by_role("img", name="Bar chart: cost by day and model").wait_for()
    days = frame.locator(".day")
    assert days.count() == NIGHTS
    fourth = days.nth(NIGHTS - 1 - 4)
    parts, (unknown,) = heights(fourth, 0), heights(fourth, 1)
    expected = {row["model"]: row["cost"] for row in nights[4 * 3 : 5 * 3]}
    series = frame.locator(".legend li").all_text_contents()
    per_pixel = sum(expected.values()) / sum(parts)
    assert [height * per_pixel for height in parts] == pytest.approx([expected[name] for name in series[:3]], abs=1.5)
    assert unknown * per_pixel == pytest.approx(7.6, abs=1.5)
    assert series[3] == "may have been billed, not part of the cost"


def test_the_file_has_the_rows_of_the_table(person, nights):
    anna = person()
    frame = anna.open(SPEND)
    downloads = []

    def keep(download):
        downloads.append(download)

    anna.context.on("page", lambda page: page.on("download", keep))
    anna.page.on("download", keep)
    frame.get_by_role("link", name="Download CSV").click()
    for _ in range(100):
        if downloads:
            break
        anna.page.wait_for_timeout(100)
    assert downloads[0].suggested_filename.startswith("veo-spend-")
    with Path(downloads[0].path()).open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [(row["day"], row["model"], float(row["cost"])) for row in written] == sorted(
        ((row["day"], row["model"], row["cost"]) for row in nights),
        key=lambda row: (-int(row[0].replace("-", "")), row[1]),
    )


def test_how_it_is_stacked_is_in_the_address(person, nights):
    anna = person()
    frame = anna.open("?view=spend")
    frame.get_by_label("Stack by").select_option("DAG")
    frame.get_by_role("img", name="Bar chart: cost by day and DAG").wait_for()
    assert "by=dag_id" in anna.page.url
    assert "veo_night" in frame.locator(".legend li").all_text_contents()
    assert HIDDEN not in frame.locator("main").inner_text()
    admin = person("admin").open("?view=spend")
    admin.get_by_role("cell", name=HIDDEN).first.wait_for()


def test_the_table_scrolls_by_keyboard(person, nights):
    anna = person()
    frame = anna.open("?view=spend")
    region = frame.get_by_role("region", name="Spend")
    region.focus()
    anna.page.keyboard.press("End")
    anna.page.wait_for_timeout(500)
    assert region.evaluate("region => region.scrollTop") > 0


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(person, nights, dark):
    from axe_playwright_python.sync_playwright import Axe

    anna = person(dark=dark)
    anna.page.goto(f"{anna.airflow.url}/veo/?view=spend")
    anna.page.get_by_role("table").wait_for()
    found = Axe().run(anna.page).response["violations"]
    serious = [
        f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
