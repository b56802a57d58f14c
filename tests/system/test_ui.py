"""What the server of the page *Veo videos* returns in a real Airflow: the videos, and who may see which."""

from __future__ import annotations

import base64
import csv
import io
import json
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import av
import pytest
import requests
from PIL import Image

from tests.conftest import CANARY
from tests.system.gallery import HIDDEN, PRICES, RUN, gallery


@pytest.fixture(scope="module")
def page(migrated_home, tmp_path_factory):
    with gallery(migrated_home, tmp_path_factory.mktemp("ui") / "airflow") as found:
        yield found


def batch_path(dag_id: str = "veo_night", task_id: str = "make") -> str:
    return f"api/batches/{dag_id}/{quote(RUN, safe='')}/{task_id}/-1"


def test_the_page_is_in_airflows_navigation(page):
    token = page.admin.cookies["_token"]
    answer = requests.get(
        f"{page.url}/api/v2/plugins", headers={"Authorization": f"Bearer {token}"}, timeout=60, params={"limit": 100}
    )
    (plugin,) = [each for each in answer.json()["plugins"] if each["name"] == "veo"]
    (view,) = plugin["external_views"]
    assert (view["name"], view["url_route"], view["href"]) == ("Veo videos", "veo-videos", "veo/")


def test_each_video_is_a_card_with_what_became_of_it(page):
    cards = page.anna.cards()
    states = {name: card["state"] for name, card in cards.items() if not name.startswith("many")}
    assert states == {
        "wide": "succeeded",
        "tall": "succeeded",
        "in_s3": "succeeded",
        "markup": "succeeded",
        "blocked": "failed",
        "refused_later": "blocked",
        "slow": "timed_out",
        "leaves_what_it_should_not": "succeeded",
        "leaves_what_is_no_text": "timed_out",
    }
    assert cards["leaves_what_is_no_text"]["prompt"] == '{"a": ["list"]}'.replace('"', "'")
    assert cards["leaves_what_is_no_text"]["cost"] is None
    assert {card["state"] for name, card in cards.items() if name.startswith("many[")} == {"submitted"}
    assert sum(name.startswith("many[") for name in cards) == 30
    wide, tall = cards["wide"], cards["tall"]
    assert (wide["prompt"], wide["model"], wide["aspect_ratio"]) == ("A red kite over a harbour", "veo3-fast", "16:9")
    assert (wide["cost"], tall["cost"], cards["markup"]["cost"]) == (0.4, 0.5, None)
    assert (tall["aspect_ratio"], tall["width"], tall["height"]) == ("9:16", 360, 640)
    assert wide["enhanced_prompt"]
    assert wide["submitted_at"] <= wide["finished_at"]
    assert "too violent" in cards["blocked"]["error"]
    assert "blocked by the safety filter" in cards["refused_later"]["error"]
    assert cards["slow"]["error"]
    assert cards["slow"]["finished_at"] is None


def test_prompts_are_handed_on_as_they_are(page):
    assert page.anna.cards()["markup"]["prompt"].startswith("</script><script>")
    answer = page.anna.ask("api/videos")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"text": "RED KITE"}, {"wide"}),
        ({"text": "100%_"}, set()),
        ({"state": "failed"}, {"blocked"}),
        ({"state": "blocked"}, {"refused_later"}),
        ({"state": "timed_out", "model": "veo3-fast"}, {"slow"}),
        ({"state": "succeeded", "text": "r", "model": "veo3"}, {"markup"}),
        ({"state": "submitted", "text": "many 7"}, {"many[7]"}),
        ({"state": "generating"}, set()),
        ({"model": "veo3.1-fast"}, {"tall"}),
        ({"model": "veo3.1-fast", "state": "failed"}, set()),
        ({"run_id": "another"}, set()),
        ({"dag_id": "veo_gallery", "run_id": RUN, "text": "lantern"}, {"tall"}),
        ({"from": "2000-01-01", "to": "2001-01-01"}, set()),
        ({"from": "2000-01-01", "text": "lantern"}, {"tall"}),
    ],
)
def test_filters(page, asked, found):
    assert set(page.anna.cards(**asked)) == found


def test_pages_follow_each_other_in_both_directions(page):
    seen, pages, cursor = [], [], None
    while True:
        answer = page.anna.ask("api/videos", limit=10, cursor=cursor).json()
        pages.append(answer)
        seen += [each["key"] for each in answer["videos"]]
        cursor = answer["older"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 39
    assert [len(each["videos"]) for each in pages] == [10, 10, 10, 9]
    assert pages[0]["newer"] is None
    back = page.anna.ask("api/videos", limit=10, cursor=pages[-1]["newer"]).json()
    assert back["videos"] == pages[-2]["videos"]
    assert page.anna.ask("api/videos", limit=10, cursor=back["older"]).json()["videos"] == pages[-1]["videos"]


def test_invalid_requests_are_refused(page):
    for parameters in {"cursor": "nonsense"}, {"from": "yesterday"}, {"limit": 0}, {"limit": 10**6}:
        assert page.anna.ask("api/videos", **parameters).status_code == 422


def test_files_play_and_are_served_in_parts(page):
    for name in "wide", "tall", "in_s3":
        card = page.anna.cards()[name]
        assert card["preview"] == "file"
        whole = page.anna.ask(card["file_href"])
        assert (whole.status_code, whole.headers["Content-Type"]) == (200, "video/mp4")
        assert len(whole.content) == card["bytes"]
        with av.open(io.BytesIO(whole.content)) as video:
            assert sum(1 for _ in video.decode(video=0))
        part = page.anna.get(page.anna.base + card["file_href"], headers={"Range": "bytes=100-199"}, timeout=60)
        assert (part.status_code, part.content) == (206, whole.content[100:200])
        assert part.headers["Content-Range"] == f"bytes 100-199/{card['bytes']}"
        last = page.anna.get(page.anna.base + card["file_href"], headers={"Range": "bytes=-100"}, timeout=60)
        assert (last.status_code, last.content) == (206, whole.content[-100:])
        beyond = page.anna.get(
            page.anna.base + card["file_href"], headers={"Range": f"bytes={card['bytes']}-"}, timeout=60
        )
        assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{card['bytes']}")


def test_posters_are_small_pictures_that_a_browser_may_keep_for_a_while(page):
    batch = page.anna.ask(f"{batch_path()}/videos").json()["videos"]
    cards = [*(page.anna.cards()[name] for name in ("wide", "tall", "in_s3")), batch[0], batch[1], batch[3]]
    for card in cards:
        answer = page.anna.ask(card["poster_href"])
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/jpeg")
        assert len(answer.content) < 61_000
        assert answer.headers["Cache-Control"] == "private, max-age=300"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.size == (card["width"], card["height"])
        known = {"If-None-Match": answer.headers["ETag"]}
        again = page.anna.get(page.anna.base + card["poster_href"], headers=known, timeout=60)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["Cache-Control"] == "private, max-age=300"
    assert batch[2]["poster_href"] is None
    assert page.anna.cards()["markup"]["poster_href"] is None


def test_a_picture_that_is_not_a_poster_is_not_served(page):
    with Image.open(io.BytesIO(page.anna.ask(page.anna.cards()["wide"]["poster_href"]).content)) as picture:
        another = io.BytesIO()
        picture.save(another, "JPEG")
    poster = Path(page.anna.cards()["wide"]["file"].removeprefix("file://")).with_suffix(".jpg")
    content = poster.read_bytes()
    try:
        for wrong in another.getvalue(), content + bytes(10_000_000), b"", content[100:]:
            poster.write_bytes(wrong)
            refused = page.anna.ask(page.anna.cards()["wide"]["poster_href"])
            assert (refused.status_code, refused.json()) == (404, {"detail": "There is nothing to show here."})
    finally:
        poster.write_bytes(content)


def test_a_video_that_was_not_stored_is_loaded_from_named_hosts_only(page):
    card = page.anna.cards()["markup"]
    assert (card["file_href"], card["remote_src"], card["preview"]) == (None, card["video_url"], "remote")
    assert requests.get(card["video_url"], timeout=60).headers["Content-Type"] == "video/mp4"
    policy = page.anna.ask("").headers["Content-Security-Policy"]
    assert f"media-src 'self' {page.relay.url};" in policy
    video = {
        "id": "elsewhere",
        "prompt": "markup",
        "state": "succeeded",
        "video_url": "http://videos.example.com/x.mp4",
    }
    with page.ben.edited_xcom("veo_gallery", "markup", "veo_video", video):
        card = page.anna.cards()["markup"]
    assert (card["remote_src"], card["preview"]) == (None, None)
    assert card["video_url"] == video["video_url"]


def test_an_edited_xcom_shows_no_file_of_another_dag(page):
    film = page.admin.ask(f"api/videos?dag_id={HIDDEN}").json()["videos"][0]
    assert film["preview"] == "file"
    assert page.admin.ask(film["file_href"]).status_code == 200
    with page.ben.edited_xcom("veo_gallery", "wide", "veo_path", film["file"]):
        assert page.ben.cards()["wide"]["file_href"] is None
        assert page.ben.cards()["wide"]["poster_href"] is None
        for route in "files", "posters":
            assert page.ben.ask(f"api/{route}/veo_gallery/{quote(RUN, safe='')}/wide/-1").status_code == 404
    assert page.ben.cards()["wide"]["preview"] == "file"


def test_an_edited_xcom_shows_no_batch_of_another_dag(page):
    (batch,) = page.admin.ask(f"api/batches?dag_id={HIDDEN}").json()["batches"]
    secret = page.admin.ask(f"{batch_path(HIDDEN, 'batch')}/videos").json()["videos"]
    assert [each["prompt"] for each in secret] == ["nor of this"]
    folder = secret[0]["file"].rpartition("/videos/")[0]
    progress = {"total": 1, "done": 1, "failed": 0, "generating": 0, "to_submit": 0, "folder": folder}
    with page.ben.edited_xcom("veo_night", "make", "progress", progress):
        answer = page.ben.ask(f"{batch_path()}/videos")
        file = page.ben.ask(f"api/files/veo_night/{quote(RUN, safe='')}/make/-1", key=secret[0]["name"], at=0)
        name = secret[0]["poster_href"].partition("?name=")[2]
        poster = page.ben.ask(f"api/posters/veo_night/{quote(RUN, safe='')}/make/-1?name={name}")
    for refused in answer, file, poster:
        assert (refused.status_code, refused.json()) == (404, {"detail": "There is nothing to show here."})
    assert batch["preview"] is None


@pytest.mark.parametrize(
    ("task_id", "key", "value"),
    [
        ("wide", "veo_video", {"id": "x", "prompt": "p", "cost": 10**400, "state": "succeeded"}),
        ("wide", "veo_video", {"id": {"a": 1}, "prompt": "half \ud800 of one\x00", "state": ["x"], "model": "\udfff"}),
        (
            "make",
            "progress",
            {"folder": "f", "to_submit": 0, "total": 1, "done": 0, "failed": 0, "generating": 0, "since": 1e300},
        ),
        (
            "make",
            "progress",
            {"folder": "f", "to_submit": 10**400, "total": 1, "done": 0, "failed": 0, "generating": 0, "since": None},
        ),
    ],
)
def test_one_hostile_xcom_leaves_the_lists_to_all_readers(page, task_id, key, value):
    dag_id = "veo_gallery" if task_id == "wide" else "veo_night"
    with page.ben.edited_xcom(dag_id, task_id, key, {}):
        page.ben.put_xcom(dag_id, task_id, key, json.dumps(value))
        videos = page.anna.ask("api/videos", limit=100)
        batches = page.anna.ask("api/batches", limit=100)
        assert (videos.status_code, batches.status_code) == (200, 200)
        assert "tall" in page.anna.cards()
        shown = batches.json()["batches"] if key == "progress" else videos.json()["videos"]
        (card,) = [each for each in shown if (each["dag_id"], each["task_id"]) == (dag_id, task_id)]
        assert card.get("broken") or card["cost"] is None


@pytest.mark.parametrize("content", ['{"id": "x", "prompt": NaN}', "{", "", "[" * 100_000, '"text"', "7"])
@pytest.mark.parametrize(
    ("dag_id", "task_id", "key"), [("veo_gallery", "wide", "veo_video"), ("veo_night", "make", "progress")]
)
def test_a_value_that_is_not_an_object_leaves_the_lists_to_all_readers(page, dag_id, task_id, key, content):
    with page.ben.edited_xcom(dag_id, task_id, key, {}):
        page.ben.put_xcom(dag_id, task_id, key, content)
        for path in "api/videos", "api/batches", "api/filters":
            assert page.anna.ask(path).status_code == 200
        assert page.anna.ask("api/videos", state="succeeded", model="veo3-fast", text="a").status_code == 200
        assert "tall" in page.anna.cards()


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("api/videos", {"to": "9999-12-31"}),
        ("api/videos", {"cursor": "W1tbW1tbW1tbW10="}),
        ("api/videos", {"cursor": base64.b64encode(b'[true, "2026-01-01T00:00:00+00:00", 1e999, "x", 1]').decode()}),
        ("api/videos", {"cursor": base64.b64encode(b"[" * 6_000).decode()}),
        ("api/videos", {"text": "\x00"}),
        (f"api/batches/veo_night/{quote(RUN, safe='')}/make/{10**30}", {}),
        (f"api/files/veo_night/{quote(RUN, safe='')}/make/{10**30}", {}),
        (f"api/batches/veo_night/{quote(RUN, safe='')}/make/-1/videos", {"cursor": "9" * 5000}),
        (f"api/files/veo_night/{quote(RUN, safe='')}/make/-1", {"key": "one", "at": "9" * 5000}),
        (f"api/posters/veo_night/{quote(RUN, safe='')}/make/{10**30}", {}),
        (f"api/posters/veo_night/{quote(RUN, safe='')}/make/-1", {"name": "\x00"}),
        (f"api/posters/veo_night/{quote(RUN, safe='')}/make/-1", {"name": "x" * 1000}),
        (f"api/posters/veo_night/{quote(RUN, safe='')}/make/-1", {"name": ""}),
    ],
)
def test_no_crafted_parameter_is_an_error_of_the_server(page, path, parameters):
    assert page.anna.ask(path, **parameters).status_code in (200, 404, 422)


def test_a_range_of_thousands_of_digits_is_the_whole_file(page):
    card = page.anna.cards()["wide"]
    headers = {"Range": f"bytes=0-{'9' * 5000}"}
    answer = page.anna.get(page.anna.base + card["file_href"], headers=headers, timeout=60)
    assert (answer.status_code, len(answer.content)) == (200, card["bytes"])


def test_batches_open_into_their_videos(page):
    (batch,) = [each for each in page.anna.ask("api/batches").json()["batches"] if each["dag_id"] == "veo_night"]
    assert (batch["task_state"], batch["total"], batch["done"], batch["failed"]) == ("success", 4, 3, 1)
    assert (batch["counts"]["succeeded"], batch["counts"]["failed"]) == (3, 1)
    assert batch["cost"] == pytest.approx(1.6)
    assert page.anna.ask(batch_path()).json() == batch
    videos = page.anna.ask(f"{batch_path()}/videos").json()
    assert [each["name"] for each in videos["videos"]] == ["one", "two", "three", "four <b>"]
    assert [each["state"] for each in videos["videos"]] == ["succeeded", "succeeded", "failed", "succeeded"]
    for card in videos["videos"]:
        if card["file_href"]:
            assert len(page.anna.ask(card["file_href"]).content) == card["bytes"]
    failed = page.anna.ask(f"{batch_path()}/videos", state="failed").json()["videos"]
    assert [each["name"] for each in failed] == ["three"]
    first = page.anna.ask(f"{batch_path()}/videos", limit=3).json()
    rest = page.anna.ask(f"{batch_path()}/videos", limit=3, cursor=first["older"]).json()
    assert [each["name"] for each in first["videos"] + rest["videos"]] == ["one", "two", "three", "four <b>"]
    assert page.anna.ask(f"{batch_path()}/videos", limit=3, cursor=rest["newer"]).json() == first


def test_a_batch_that_runs_shows_its_videos_one_by_one(page):
    page.relay.configure(generation_seconds=1e6)
    page.services.trigger("veo_night", "tonight")
    path = "api/batches/veo_night/tonight/make/-1"

    def submitted():
        return page.anna.ask(path).json().get("generating") == 4

    page.services.wait_until(submitted, what="four videos to be submitted")
    states = {each["name"]: each["state"] for each in page.anna.ask(f"{path}/videos").json()["videos"]}
    assert set(states.values()) == {"generating"}
    assert page.anna.ask(path).json()["counts"] is None
    page.relay.configure(generation_seconds=0)
    assert page.services.wait_for("veo_night", "tonight") == "success"
    time.sleep(5)  # what was just read is cached for this long
    states = {each["name"]: each["state"] for each in page.anna.ask(f"{path}/videos").json()["videos"]}
    assert states == {"one": "succeeded", "two": "succeeded", "three": "failed", "four <b>": "succeeded"}


def test_the_spend_is_what_the_relay_accepted(page):
    spend = page.admin.ask("api/spend").json()
    accepted = Counter(video["model"] for video in page.relay.videos())
    cost = sum((Decimal(str(PRICES[model])) * count for model, count in accepted.items() if model in PRICES), Decimal())
    lost = Decimal(str(PRICES["veo3.1-fast"]))
    total = spend["total"]
    assert (total["videos"] + 1, total["unknown"], total["unpriced"]) == (accepted.total(), 1, accepted["veo3"])
    assert (Decimal(total["cost"]), total["possible_cost"]) == (cost - lost, str(lost))
    assert (spend["complete_after"], spend["unreadable"], spend["more_rows"]) == (None, 0, 0)
    assert {row["dag_id"] for row in spend["rows"]} == {"veo_gallery", "veo_night", HIDDEN}
    assert sum(Decimal(day["cost"]) for day in spend["days"]) == Decimal(total["cost"])
    assert len(spend["days"]) == 30
    assert page.admin.ask("api/spend", by="dag_id").json()["series"][0] == "veo_gallery"


def test_the_spend_of_some_days_of_a_dag_with_a_model(page):
    night = page.anna.ask("api/spend", dag_id="veo_night", model="veo3-fast").json()
    assert {(row["dag_id"], row["model"]) for row in night["rows"]} == {("veo_night", "veo3-fast")}
    assert page.anna.ask("api/spend", model="veo2").json()["rows"] == []
    early = page.anna.ask("api/spend", **{"from": "2000-01-01", "to": "2001-01-01"}).json()
    assert (early["from"], len(early["days"]), early["rows"]) == ("2000-01-02", 366, [])
    for day in "0001-01-01", "9999-12-31":
        assert page.anna.ask("api/spend", **{"from": day, "to": day}).json()["rows"] == []
    assert page.anna.ask("api/spend", by="task_id").status_code == 422


def test_the_spend_of_a_dag_is_shown_to_those_who_may_read_it(page):
    everything, annas = (user.ask("api/spend").json() for user in (page.admin, page.anna))
    assert Decimal(everything["total"]["cost"]) - Decimal(annas["total"]["cost"]) == Decimal("0.8")
    for path in "api/spend", "api/spend.csv":
        assert HIDDEN not in page.anna.ask(path).text
        assert page.admin.ask(path, dag_id=HIDDEN).status_code == 200
        assert page.anna.ask(path, dag_id=HIDDEN).status_code == 403


def test_the_file_of_the_spend_has_the_rows_of_the_page(page):
    answer = page.anna.ask("api/spend.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    today = datetime.now(timezone.utc).date()
    name = f"veo-spend-{today - timedelta(days=29)}-to-{today}.csv"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    shown = page.anna.ask("api/spend").json()["rows"]
    assert rows == [{name: str(value) for name, value in row.items()} for row in shown]


def test_a_hostile_record_changes_the_spend_of_its_dag_only(page):
    def others():
        return [row for row in page.anna.ask("api/spend").json()["rows"] if row["dag_id"] != "veo_night"]

    before, today = others(), datetime.now(timezone.utc).date().isoformat()
    row = {"day": today, "model": "=cmd|' /C calc'!A0", "videos": 1, "unpriced": 0, "unknown": 0}
    with page.ben.edited_xcom("veo_night", "make", "veo_spend", []):
        for amount in ("1e400", "NaN", "-1", "9" * 5000, '"5"', "1E+999999999", "null", "[" * 50_000):
            content = json.dumps([{**row, "possible_cost": 0, "cost": "AMOUNT"}]).replace('"AMOUNT"', amount)
            page.ben.put_xcom("veo_night", "make", "veo_spend", content)
            answer = page.anna.ask("api/spend")
            assert (answer.status_code, answer.json()["unreadable"]) == (200, 1), amount[:20]
            assert others() == before
        page.ben.put_xcom("veo_night", "make", "veo_spend", json.dumps([{**row, "possible_cost": 0, "cost": 0.1}]))
        assert others() == before
        (written,) = [row for row in csv.reader(io.StringIO(page.anna.ask("api/spend.csv").text)) if "calc" in row[2]]
        assert written[:3] == [today, "veo_night", "'=cmd|' /C calc'!A0"]


PATHS = (
    "",
    "help",
    "assets/index.js",
    "api/filters",
    "api/videos",
    "api/batches",
    "api/spend",
    "api/spend.csv",
    batch_path(),
    f"{batch_path()}/videos",
    f"api/files/veo_gallery/{quote(RUN, safe='')}/wide/-1",
    f"api/files/veo_night/{quote(RUN, safe='')}/make/-1?key=one&at=0",
    f"api/posters/veo_gallery/{quote(RUN, safe='')}/wide/-1",
)


@pytest.mark.parametrize("path", PATHS)
def test_nobody_sees_anything_without_logging_in(page, path):
    assert page.admin.ask(path).status_code == 200
    assert requests.get(f"{page.url}/veo/{path}", timeout=60).status_code == 401
    forged = requests.get(f"{page.url}/veo/{path}", timeout=60, cookies={"_token": "forged"})
    assert forged.status_code in (401, 403)


def test_every_route_is_among_those():
    from airflow_provider_veo.ui.app import data_routes, page_routes

    asked = [f"/{path.partition('?')[0]}" for path in PATHS]
    routes = [*page_routes.routes, *data_routes.routes]
    assert routes
    assert [route.path for route in routes if not any(map(route.path_regex.match, asked))] == []


def test_the_videos_of_a_dag_are_shown_to_those_who_may_read_it(page):
    assert page.states[HIDDEN] == "success"
    everything = page.admin.cards(dag_id=HIDDEN)
    assert {each["prompt"] for each in everything.values()} == {"Nobody may know of this"}
    assert len(page.admin.cards()) == len(page.anna.cards()) + 1
    texts = [page.anna.ask(path).text for path in ("api/videos?limit=100", "api/batches?limit=100", "api/filters")]
    assert not [text for text in texts if HIDDEN in text or "know of this" in text]
    assert HIDDEN in page.admin.ask("api/filters").json()["dag_ids"]


def test_what_a_user_may_not_read_is_refused(page):
    card = page.admin.cards(dag_id=HIDDEN)["film"]
    in_batch = page.admin.ask(f"{batch_path(HIDDEN, 'batch')}/videos").json()["videos"][0]
    for path in (
        card["file_href"],
        in_batch["file_href"],
        card["poster_href"],
        in_batch["poster_href"],
        batch_path(HIDDEN, "batch"),
        f"{batch_path(HIDDEN, 'batch')}/videos",
        f"api/videos?dag_id={HIDDEN}",
        f"api/batches?dag_id={HIDDEN}",
    ):
        assert page.admin.ask(path).status_code == 200
        refused = page.anna.ask(path)
        assert (refused.status_code, refused.headers["Content-Type"]) == (403, "application/json"), path


@pytest.mark.parametrize("route", ["files", "posters"])
@pytest.mark.parametrize(
    "path",
    [
        "veo_gallery/{run}/..%2F..%2Fveo_secret/-1",
        "veo_gallery%2F..%2Fveo_secret/{run}/film/-1",
        "veo_gallery/{run}/film/-1",
        "veo_gallery/../veo_secret/{run}/film/-1",
        "~/{run}/film/-1",
        "veo_night/{run}/make/-1?key=../../../secrets.txt",
        "veo_night/{run}/make/-1?key=three",
        "veo_night/{run}/make/-1?name=../../../wide/veo_gallery/x.jpg",
        "veo_night/{run}/make/-1?name=..%252F..%252Fresults.jsonl",
        "veo_night/{run}/make/-1?name=..",
    ],
)
def test_no_path_leads_elsewhere(page, path, route):
    address = f"{page.anna.base}api/{route}/{path.format(run=quote(RUN, safe=''))}"
    prepared = requests.Request("GET", address, cookies=page.anna.cookies).prepare()
    prepared.url = address  # as it is: a client would normalize it
    answer = page.anna.send(prepared, timeout=60)
    assert answer.status_code in (403, 404, 422)
    assert answer.headers["Content-Type"] == "application/json"


def test_what_a_task_should_not_have_recorded_is_not_served(page):
    card = page.anna.cards()["leaves_what_it_should_not"]
    assert card["video_url"] is None
    assert (card["file_href"], card["preview"]) == (None, "off")
    for route in "files", "posters":
        answer = page.anna.ask(f"api/{route}/veo_gallery/{quote(RUN, safe='')}/leaves_what_it_should_not/-1")
        assert (answer.status_code, answer.json()) == (404, {"detail": "There is nothing to show here."})


def test_the_document_forbids_scripts_from_data(page):
    policy = page.anna.ask("").headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "sandbox" in page.anna.ask("api/videos").headers["Content-Security-Policy"]


def test_the_key_is_nowhere(page):
    answers = [page.admin.ask(path) for path in PATHS]
    assert not [answer.url for answer in answers if CANARY in answer.text or CANARY in str(answer.headers)]
    assert CANARY not in page.services.log("api-server")
