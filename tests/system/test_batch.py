"""The batch operator in a real Airflow: what it makes, pushes, writes and announces, how it fails, what it pays for."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from airflow_provider_veo import sandbox
from tests.airflow_lines import ASSET
from tests.conftest import CANARY
from tests.system.conftest import DAGS, make_airflow

DAG_ID = "veo_batches"
MANIFEST = """\
key,prompt,model,images,aspect_ratio\r
boat,"A paper boat on {{ ds }}, slow",,,\r
cow,牛飞上天了,veo3.1-components,https://example.com/a.png | https://example.com/b.png,\r
tall,A lighthouse,,,9:16\r
,Nobody named me,,,\r
,"Nobody named me, either",,,\r
,A market,,,\r
"""
BAD = """\
key,prompt,model,aspect_ratio
a,One,veo9,16:9
a,Two,veo3-fast,4:3
b,{{ nothing.here }},veo3-fast,16:9
c,,veo3-fast,16:9
"""
FILES = {
    "prompts.csv": ("\ufeff" + MANIFEST).encode(),
    "bad.csv": BAD.encode(),
    "empty.csv": b"",
    "wrong_encoding.csv": "prompt\nMönch\n".encode("latin-1"),
    "broken.jsonl": b'{"prompt": "One"}\n{"prompt": "Two\n{"promt": "Three"}\n',
}
REFUSED = {
    "bad_csv": (
        "'veo9' is not a known model",
        "2 rows have the key 'a'",
        "'4:3'",
        "uses 'nothing', which is not available",
        "line 5",
    ),
    "empty_csv": ("contains no jobs",),
    "wrong_encoding_csv": ("UTF-8",),
    "broken_jsonl": ("broken.jsonl, line 2", "did you mean prompt"),
    "missing_csv": ("does not exist",),
    "too_many": ("at most 1",),
    "too_dear": ("max_cost", "0.8", "0.5"),
    "without_price": ("max_cost", "veo3", '"prices": {"veo3": 0.4}'),
    "no_list": ("expected a list of jobs",),
    "shared": ("belongs to another task instance",),
}
BOTH = pytest.mark.parametrize("task_id", ["here", "deferred"])


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """All batches, run once."""
    root = tmp_path_factory.mktemp("batches")
    shutil.copytree(migrated_home, root / "airflow")
    for name, content in FILES.items():
        (root / name).write_bytes(content)
    with sandbox.running(
        generation_seconds=0.5, video_seconds=0.5, api_key=CANARY, faults=["failed=too violent@prompt=blocked"]
    ) as relay:
        connection = {**json.loads(relay.connection), "extra": {"prices": {"veo3-fast": 0.4, "veo3.1-components": 1}}}
        airflow = make_airflow(
            root / "airflow", DAGS, AIRFLOW_CONN_VEO_DEFAULT=json.dumps(connection), VEO_BATCHES=str(root)
        )
        airflow.learn_of_assets()
        # A DAG with failed tasks is a failed command: what the tasks did is asserted below.
        output = airflow.run("dags", "test", DAG_ID, "2026-11-22", check=False)
        return SimpleNamespace(
            root=root,
            output=output,
            xcoms=airflow.xcoms(DAG_ID),
            states=airflow.states(DAG_ID),
            accepted=relay.stats()["accepted_by_prompt"],
            bodies=[json.loads(request["body"]) for request in relay.requests()],
            events=airflow.query(
                f"SELECT it.uri, event.extra FROM {ASSET}_event event JOIN {ASSET} it ON {ASSET}_id = it.id"
            ),
            written=airflow.everything_it_wrote() + relay.output() + output,
            files={str(path): path.read_text() for path in root.rglob("*.json*") if "airflow" not in path.parts},
        )


def rows(ran, folder):
    return [json.loads(line) for line in (ran.root / folder / "results.jsonl").read_text().splitlines()]


def summary(ran, folder):
    return json.loads((ran.root / folder / "summary.json").read_text())


def local(uri):
    return Path(urlsplit(uri).path)


@BOTH
def test_every_video_of_a_manifest_is_made_once_and_stored(ran, task_id):
    assert ran.states[task_id, -1] == ("success", 1)
    made = rows(ran, f"{task_id}/2026-11-22")
    assert [row["state"] for row in made] == ["succeeded"] * 6
    assert [row["source"] for row in made] == [f"prompts.csv, line {line}" for line in range(2, 8)]
    assert [row["key"] for row in made][:3] == ["boat", "cow", "tall"]
    for row in made:
        content = local(row["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (row["bytes"], row["sha256"])
        assert row["enhanced_prompt"]
    assert local(made[0]["file"]).name.startswith("boat-veo3-fast_")
    assert (made[2]["width"], made[2]["height"]) == (360, 640)


@BOTH
def test_the_requests_are_what_the_manifest_and_the_defaults_say(ran, task_id):
    boat, cow, *_ = rows(ran, f"{task_id}/2026-11-22")
    assert boat["request"] == {
        "prompt": "A paper boat on 2026-11-22, slow",
        "model": "veo3-fast",
        "enhance_prompt": True,
        "enable_upsample": False,
        "aspect_ratio": "16:9",
    }
    assert cow["request"]["images"] == ["https://example.com/a.png", "https://example.com/b.png"]
    assert boat["request"] in ran.bodies
    assert cow["request"] in ran.bodies
    assert ran.accepted["牛飞上天了"] == 2  # once for each of the two tasks


@BOTH
def test_what_it_returns_and_sums_up(ran, task_id):
    returned = dict(ran.xcoms[task_id, "return_value", -1])
    report = ran.root / task_id / "2026-11-22" / "report.html"
    assert returned.pop("report") == report.as_uri()
    assert ran.xcoms[task_id, "report_path", -1] == str(report)  # the folder is given as a path
    assert report.read_text().count("data:image/jpeg;base64,") == 6
    assert ran.xcoms[task_id, "summary_text", -1].split("\n")[1:3] == ["6 of 6 videos succeeded", "Cost: 3"]
    assert returned == {
        "results": (ran.root / task_id / "2026-11-22" / "results.jsonl").as_uri(),
        "summary": (ran.root / task_id / "2026-11-22" / "summary.json").as_uri(),
        "total": 6,
        "succeeded": 6,
        **dict.fromkeys(("not_stored", "failed", "blocked", "refused", "unknown", "timed_out", "not_submitted"), 0),
        "cost": pytest.approx(5 * 0.4 + 1),
        "possible_cost": 0.0,
    }
    said = summary(ran, f"{task_id}/2026-11-22")
    assert {name: said[name] for name in returned} == returned
    assert said["models"] == {"veo3-fast": {"succeeded": 5}, "veo3.1-components": {"succeeded": 1}}
    assert (said["dag_id"], said["task_id"], said["try_number"]) == (DAG_ID, task_id, 1)


@BOTH
def test_the_progress_can_be_seen_from_outside(ran, task_id):
    progress = ran.xcoms[task_id, "progress", -1]
    assert progress.pop("since")
    assert progress.pop("folder").endswith(f"/{task_id}/2026-11-22")
    assert progress.pop("cost") == pytest.approx(5 * 0.4 + 1)
    assert progress == {"total": 6, "done": 6, "failed": 0, "generating": 0, "to_submit": 0}


@BOTH
def test_each_file_is_announced_and_the_batch_as_a_whole(ran, task_id):
    extras = {uri: json.loads(extra) for uri, extra in ran.events}
    assert extras[f"x-test://{task_id}"]["succeeded"] == 6
    for row in rows(ran, f"{task_id}/2026-11-22"):
        assert extras[row["file"]]["sha256"] == row["sha256"]


@pytest.mark.parametrize(("task_id", "reasons"), REFUSED.items())
def test_what_is_wrong_is_said_and_nothing_is_sent(ran, task_id, reasons):
    assert ran.states[task_id, -1] == ("failed", 1)
    for reason in reasons:
        assert reason in ran.output
    prompts = {body["prompt"] for body in ran.bodies}
    assert prompts.isdisjoint({"One", "Two", "Three", "Mönch", "a", "b", "not mine"})
    assert not list((ran.root / task_id).rglob("*.jsonl"))


def test_jobs_from_an_xcom(ran):
    assert ran.states["from_xcom", -1] == ("success", 1)
    one, two = rows(ran, "from_xcom")
    assert (one["request"]["prompt"], one["file"]) == ("listed one", None)
    assert (two["key"], two["request"]["aspect_ratio"], two["source"]) == ("two", "9:16", "jobs[1]")


def test_a_batch_for_each_campaign(ran):
    for index in range(3):
        assert ran.states["mapped", index] == ("success", 1)
        assert [row["request"]["prompt"] for row in rows(ran, f"mapped/{index}")] == [
            f"campaign {index} film 0",
            f"campaign {index} film 1",
        ]
        assert ran.accepted[f"campaign {index} film 0"] == 1


def test_a_function_lists_the_jobs(ran):
    assert ran.states["decorated", -1] == ("success", 1)
    assert [row["request"]["prompt"] for row in rows(ran, "decorated/2026-11-22")] == [
        f"decorated {number} on 2026-11-22" for number in range(3)
    ]
    assert [ran.accepted[f"decorated {number} on 2026-11-22"] for number in range(3)] == [1] * 3


def test_failed_video_fails_the_batch_only_if_requested(ran):
    assert ran.states["partial", -1] == ("success", 1)
    assert ran.states["partial_fails", -1] == ("failed", 1)
    assert ran.states["all_fail", -1] == ("failed", 1)
    for folder in ("partial", "partial_fails"):
        fine, blocked = rows(ran, folder)
        assert (fine["state"], blocked["state"]) == ("succeeded", "failed")
        assert "too violent" in blocked["error"]
        assert summary(ran, folder)["reasons"] == ["1 failed: too violent"]
    assert "1 of 2 jobs succeeded" in ran.output
    assert ran.accepted["blocked two"] == 1


def test_the_key_is_nowhere(ran):
    assert "Bearer" not in "".join(ran.files.values())
    assert CANARY not in ran.written + "".join(ran.files.values())
