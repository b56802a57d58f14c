"""The report and the chat message: complete, bounded, and safe whatever prompts and relays contain."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import re
import resource
import time
import tracemalloc
from html.parser import HTMLParser

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from PIL import Image

from airflow_provider_veo.batch import report as reports
from airflow_provider_veo.batch.failures import ADVICE, Failures
from airflow_provider_veo.batch.report import REPORT, Report, summary_text
from airflow_provider_veo.batch.results import STATES, SUCCEEDED, Results
from airflow_provider_veo.journal.batch_journal import SupersededError
from airflow_provider_veo.journal.submission import REFUSED
from airflow_provider_veo.protocol import VeoError
from airflow_provider_veo.storage.poster import _marked
from tests.unit.batch.conftest import ACCOUNT, accepted, intended, job, video
from tests.unit.batch.test_results import RECORDS, results
from tests.unit.conftest import LOG

ABOUT = {
    "dag_id": "nightly",
    "task_id": "make",
    "run_id": "scheduled__2026-11-22",
    "map_index": -1,
    "try_number": 2,
    "account": "veo_default",
}
REASONS = ("no luck", "blocked by the safety filter", "bad image", "cut off", "too late")
HOSTILE = "</style></p><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} & \"quotes' \u202e\x00\ud83d"
EMPTY = frozenset(("meta", "img", "br"))


class Document(HTMLParser):
    """A document: its elements with their attributes, and the text of each kind of element."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(content.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.text += f"{data.strip()} " if data.strip() else ""

    def all(self, tag):
        return [attributes for each, attributes in self.elements if each == tag]


def poster(color="red") -> bytes:
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 36), color).save(jpeg, "JPEG")
    return _marked(jpeg.getvalue(), "ab" * 32)


def stored(key="boat", poster_name=None, **fields):
    """Return a job and its record; its file is in the folder ``videos``."""
    file = {"uri": f"s3://bucket/night/videos/{key}.mp4", "bytes": 7, "sha256": "ab", "duration_seconds": 8.0}
    if poster_name:
        file["poster"] = f"s3://bucket/night/videos/{poster_name}"
    url, price = fields.pop("url", "https://media.example.com/x.mp4?signature=a&b=c"), fields.pop("price", 0.4)
    return job(key, **fields), accepted(key, price=price, **fields).ended(video(video_url=url)).stored(file)


def of(*pairs, **arguments):
    jobs = [each for each, _ in pairs]
    records = {each.key: record for each, record in pairs if record}
    return Results(jobs, records, ACCOUNT, **{"download": True, **arguments})


def written(tmp_path, found, about=ABOUT, link=None) -> Document:
    folder = ObjectStoragePath(f"file://{tmp_path}/night 1")
    uri = Report(found, Failures(found.rows()), folder, about, link).write(lambda: None, LOG)
    assert uri == f"file://{tmp_path}/night 1/{REPORT}"
    return Document((tmp_path / "night 1" / REPORT).read_bytes())


def text(found, about=ABOUT, report="s3://bucket/night/report.html") -> str:
    return summary_text(found, Failures(found.rows()), about, report)


# --- what it says ----------------------------------------------------------------------------------------------------


def test_every_state_but_success_says_what_to_do():
    assert ADVICE.keys() == set(STATES) - {SUCCEEDED}


def test_it_says_what_became_of_the_jobs_and_what_to_do(tmp_path):
    document = written(tmp_path, results(), link="https://airflow.example.com/dags/nightly")
    for part in ("nightly", "try 2", "scheduled__2026-11-22", "veo_default", f"of {len(RECORDS)}", "cost 2.8"):
        assert part in document.text
    for advice in ADVICE.values():
        assert advice.what_to_do in document.text
        assert advice.billed in document.text
    for reason in (*REASONS, "out of money", "disk full"):
        assert reason in document.text
    for key, (state, _, _) in RECORDS.items():
        assert key in document.text, state
    assert {"href": "https://airflow.example.com/dags/nightly", "rel": "noopener noreferrer"} in document.all("a")


def test_what_may_have_been_billed_is_apart(tmp_path):
    assert "may have been billed in addition" not in written(tmp_path, results()).text
    found = of((job("a"), intended("a", price=0.4)), stored())
    document = written(tmp_path, found)
    assert "cost 0.4 may have been billed in addition 0.4" in document.text
    unpriced = of(stored(price=None))
    assert "cost unknown" in written(tmp_path, unpriced).text


def test_a_night_in_which_everything_went_well_has_no_advice(tmp_path):
    document = written(tmp_path, of(stored("a"), stored("b")))
    assert "What went wrong" not in document.text
    assert "succeeded 2 of 2" in document.text


def test_a_video_has_its_poster_and_links(tmp_path):
    (tmp_path / "night 1" / "videos").mkdir(parents=True)
    (tmp_path / "night 1" / "videos" / "boat.jpg").write_bytes(poster())
    document = written(tmp_path, of(stored("boat", "boat.jpg"), stored("cow & calf", aspect_ratio="9:16")))
    (image,) = document.all("img")
    assert base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,")) == poster()
    links = [each["href"] for each in document.all("a")]
    url = "https://media.example.com/x.mp4?signature=a&b=c"
    assert links == ["videos/boat.mp4", url, "videos/cow%20%26%20calf.mp4", url]
    assert [each["class"] for each in document.all("div") if "picture" in (each.get("class") or "")] == [
        "picture",
        "picture tall",
    ]
    for part in ("prompt of boat", "8.0 s", "cost 0.4"):
        assert part in document.text


def test_a_job_without_a_key_is_named_by_its_place(tmp_path):
    unnamed = dataclasses.replace(job("auto-0123456789abcdef", "a boat"), source="jobs[6]")
    document = written(tmp_path, of((unnamed, None)))
    assert "jobs[6]" in document.text
    assert "auto-" not in document.text


def test_reasons_that_differ_in_ids_and_numbers_are_one():
    pairs = []
    for number in range(30):
        key = f"k{number}"
        error = VeoError(f"got HTTP 400, “bad image”, request id 20261128101953{number}qsUomSkqfMZN8sl")
        pairs.append((job(key), intended(key).not_accepted(REFUSED, error, "1")))
    found = of(*pairs)
    (reason,) = Failures(found.rows()).reasons
    assert (reason.count, len(reason.jobs)) == (30, 10)
    assert reason.text.endswith("request id 202611281019530qsUomSkqfMZN8sl")


# --- whatever is in it -----------------------------------------------------------------------------------------------


def hostile_batch():
    failed = accepted("bad").ended(video("veo3:2", "failed", error=HOSTILE))
    record = accepted("boat").ended(video(video_url="javascript:alert(1)"))
    file = {"uri": f"s3://b/videos/{HOSTILE}.mp4", "bytes": 7, "sha256": "a", "poster": f"../../{HOSTILE}"}
    odd = job("odd" + HOSTILE, prompt="x")
    odd.body["prompt"] = HOSTILE
    pairs = [(job("boat"), record.stored(file)), (odd, None), (job("bad"), failed)]
    for each, _ in pairs:
        each.body["prompt"] = HOSTILE
    return Results([each for each, _ in pairs], {r.key: r for _, r in pairs if r}, None, download=True, stopped=HOSTILE)


def test_nothing_from_outside_is_markup(tmp_path):
    about = dict.fromkeys(ABOUT, HOSTILE) | {"map_index": 3}
    document = written(tmp_path, hostile_batch(), about, link=f"javascript:{HOSTILE}")
    assert {tag for tag, _ in document.elements}.isdisjoint({"script", "img", "iframe", "object", "base", "form"})
    assert [name for _, found in document.elements for name in found if name.startswith("on")] == []
    (link,) = document.all("a")
    assert re.fullmatch(r"videos/[\w.%-]+", link["href"], re.ASCII)
    assert "</script>" in document.text
    assert "{{ 7*7 }}" in document.text
    content = (tmp_path / "night 1" / REPORT).read_bytes()
    assert b"\x00" not in content
    content.decode("utf-8")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//host/x",
        "file:///etc/passwd",
        "https://",
        "http://[",
        "https://a b/",
    ],
)
def test_only_web_addresses_are_links(tmp_path, url):
    document = written(tmp_path, of(stored("boat", url=url)), link=url)
    assert [each["href"] for each in document.all("a")] == ["videos/boat.mp4"]


def test_the_policy_allows_its_own_style_and_inlined_pictures_only(tmp_path):
    document = written(tmp_path, results())
    (policy,) = [
        each["content"] for each in document.all("meta") if each.get("http-equiv") == "Content-Security-Policy"
    ]
    style = re.search(r"<style>(.*?)</style>", (tmp_path / "night 1" / REPORT).read_text(), re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert [found for _, found in document.elements if "style" in found] == []
    assert "url(" not in style
    assert "prefers-color-scheme: dark" in style


@pytest.mark.parametrize("content", [b"", b"<script>", poster()[2:], poster() + bytes(100_000), None])
def test_only_posters_are_inlined(tmp_path, content):
    (tmp_path / "night 1" / "videos").mkdir(parents=True)
    path = tmp_path / "night 1" / "videos" / "boat.jpg"
    path.mkdir() if content is None else path.write_bytes(content)
    document = written(tmp_path, of(stored("boat", "boat.jpg"), stored("gone", "gone.jpg")))
    assert document.all("img") == []
    assert len(document.all("a")) == 4


def test_a_poster_outside_the_folder_is_not_read(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(poster())
    (tmp_path / "night 1" / "videos").mkdir(parents=True)
    for name in ("../../secret.jpg", "..", ".", ""):
        assert written(tmp_path, of(stored("boat", name))).all("img") == []


# --- however large ---------------------------------------------------------------------------------------------------


def test_pictures_are_inlined_up_to_a_limit(tmp_path, monkeypatch):
    size = len(base64.b64encode(poster()))
    monkeypatch.setattr(reports, "MAX_PICTURE_BYTES", 3 * size + 1)
    (tmp_path / "night 1" / "videos").mkdir(parents=True)
    pairs = [stored(f"k{number}", f"k{number}.jpg") for number in range(50)]
    for number in range(50):
        (tmp_path / "night 1" / "videos" / f"k{number}.jpg").write_bytes(poster())
    document = written(tmp_path, of(*pairs))
    assert len(document.all("img")) == 3
    assert "k49" in document.text


@pytest.mark.slow
def test_a_hundred_thousand_jobs_make_a_small_report_in_little_memory(tmp_path):
    count = 100_000
    record = accepted("x").ended(video(video_url="https://media.example.com/x.mp4"))
    file = {"uri": "s3://bucket/night/videos/x.mp4", "bytes": 7, "sha256": "ab"}
    one, failed = job("x"), accepted("x").ended(video("veo3:1", "failed", error="z"))
    jobs, records = [], {}
    for number in range(count):
        key = f"k{number:06}"
        jobs.append(dataclasses.replace(one, key=key))
        if number % 2:
            records[key] = record.stored(file)
        else:
            error = "".join(chr(ord("a") + int(digit)) for digit in str(number))
            records[key] = dataclasses.replace(failed, video={**failed.video, "error": f"reason {error}"})
    found = Results(jobs, records, None, download=True)
    tracemalloc.start()
    document = written(tmp_path, found)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 1024**2, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (tmp_path / "night 1" / REPORT).stat().st_size < 1_000_000
    assert len([each for each in document.all("div") if each.get("class") == "picture"]) == reports.MAX_CARDS
    assert f"And {count // 2 - reports.MAX_CARDS} more videos, in results.jsonl." in document.text
    assert f"failed {count // 2}" in document.text
    assert len(text(found).encode()) < 2000


# --- how it is written -----------------------------------------------------------------------------------------------


def test_a_report_that_can_not_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "night 1" / REPORT).mkdir(parents=True)
    folder = ObjectStoragePath(f"file://{tmp_path}/night 1")
    assert Report(results(), Failures([]), folder, ABOUT).write(lambda: None, LOG) is None
    assert f"Could not write file://{tmp_path}/night 1/{REPORT}: IsADirectoryError" in caplog.text
    assert [path.name for path in (tmp_path / "night 1").iterdir()] == [REPORT]


def test_a_process_that_was_superseded_writes_none(tmp_path):
    def superseded():
        raise SupersededError("another process")

    folder = ObjectStoragePath(f"file://{tmp_path}/night 1")
    with pytest.raises(SupersededError):
        Report(results(), Failures([]), folder, ABOUT).write(superseded, LOG)
    assert list((tmp_path / "night 1").iterdir()) == []


def test_an_object_has_the_content_type_that_opens_it(s3_server, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_MY_S3", s3_server.connection)
    bucket = s3_server.bucket()
    bucket.client.put_object(Bucket=bucket.name, Key="night/videos/boat.jpg", Body=poster())
    found = of(stored("boat", "boat.jpg"))
    folder = ObjectStoragePath(f"s3://my_s3@{bucket.name}/night")
    uri = Report(found, Failures(found.rows()), folder, ABOUT).write(lambda: None, LOG)
    assert uri == f"s3://{bucket.name}/night/{REPORT}"
    assert bucket.get(f"night/{REPORT}")["ContentType"] == "text/html; charset=utf-8"
    assert len(Document(bucket.content(f"night/{REPORT}")).all("img")) == 1


# --- the chat message ------------------------------------------------------------------------------------------------


def test_the_message_has_five_lines():
    assert text(results(), ABOUT | {"map_index": 3}).split("\n") == [
        "nightly, make [3], run scheduled__2026-11-22",
        "1 of 13 videos succeeded, 1 not stored, 2 failed, 1 blocked, 1 refused, 3 unknown, 1 timed out, "
        "3 not submitted",
        "Cost: 2.8",
        "Most frequent reason: 2 failed: no luck",
        "Report: s3://bucket/night/report.html",
    ]


def test_the_message_of_a_night_without_failures_and_prices():
    assert text(of(stored(price=None)), report=None).split("\n") == [
        "nightly, make, run scheduled__2026-11-22",
        "1 of 1 videos succeeded",
        "Cost: unknown, a price is missing",
        "Nothing went wrong",
        "Report: could not be written, see the log",
    ]


def test_the_message_shows_what_may_have_been_billed_apart():
    found = of((job("a"), intended("a", price=0.4)), stored())
    assert text(found).split("\n")[2] == "Cost: 0.4; may have been billed in addition: 0.4"


def test_reasons_of_one_long_word_take_no_minutes():
    row = {"key": "a", "source": "a", "state": "failed", "request": {"prompt": "a"}}
    begun = time.process_time()
    failures = Failures({**row, "error": f"{chr(0x4E00 + index) * 499}"} for index in range(4000))
    assert time.process_time() - begun < 3
    assert len(failures.reasons) == 1001


@pytest.mark.parametrize(
    "said",
    [
        *("@everyone", "<!channel> a", "<@U123>\nCost: 0", "a\r\n\u2028b\x85c", "x" * 100_000, HOSTILE),
        *("<https://a|b>", "![a](https://a) [b](https://b)"),
    ],
)
def test_a_relay_can_not_add_lines_or_mention_anybody(said):
    found = of((job("a"), accepted("a").ended(video("veo3:1", "failed", error=said))))
    message = text(found, ABOUT | {"run_id": said})
    assert len(message.splitlines()) == 5
    assert re.findall(r"@\w|[<>]|\]\(", message) == []
    assert len(message) < 2500
