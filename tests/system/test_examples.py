"""The DAGs that users copy, run in a real Airflow, and the demo."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import av
import pytest

from airflow_provider_veo import sandbox
from tests.airflow_lines import ASSET, LINE, NEWEST
from tests.conftest import CANARY
from tests.protocol.test_payload import SEED_REQUEST
from tests.system.conftest import PROJECT, make_airflow

README = PROJECT / "README.md"
EXAMPLES = PROJECT / "dags_examples"
DAG_IDS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
ALONE = [dag_id for dag_id in DAG_IDS if dag_id not in ("veo_approval", "veo_files_in_s3")]
"""The others wait for a person, and start another DAG: test_announcements.py runs them."""
PRICES = {"veo3-fast": 0.4, "veo3.1-fast": 0.4, "veo3.1-components": 0.6, "veo3-pro-frames": 2, "veo2-fast-frames": 0.3}
"""The nightly example has a budget, which needs them."""
OFTEN = """
def task_policy(task):
    if hasattr(task, "poll_interval"):
        task.poll_interval = 0.5
"""
"""For the sandbox, whose videos are there at once: a cluster policy, so that the examples run as they are."""
DEMO = [sys.executable, str(PROJECT / "demo" / "run.py")]


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """All examples, run once."""
    home = tmp_path_factory.mktemp("examples") / "airflow"
    shutil.copytree(migrated_home, home)
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "airflow_local_settings.py").write_text(OFTEN)
    with sandbox.running(generation_seconds=0, api_key=CANARY) as relay:
        airflow = make_airflow(
            home,
            EXAMPLES,
            AIRFLOW_CONN_VEO_DEFAULT=json.dumps({**json.loads(relay.connection), "extra": {"prices": PRICES}}),
            AIRFLOW_VAR_VEO_DESTINATION=f"{home.as_uri()}/videos/",
        )
        airflow.learn_of_assets()
        outputs = {dag_id: airflow.run("dags", "test", dag_id, "2026-11-22") for dag_id in ALONE}
        bodies = [json.loads(request["body"]) for request in relay.requests()]
        return airflow, outputs, bodies, relay.stats()


def parse(file: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a DAG file as Airflow does, where no connection is known, and each warning about it is an error."""
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "PYTHONWARNINGS": "error:::__main__"}
    environment.pop("AIRFLOW_CONN_VEO_DEFAULT", None)
    return subprocess.run([sys.executable, str(file)], env=environment, capture_output=True, text=True, timeout=60)


def about_us(said: str) -> list[str]:
    """Return the lines that are not of what older lines of Airflow say and warn of in each of their programs."""
    ours = ("airflow_provider_veo", "dags_examples", "nightly_video")
    return [line for line in said.splitlines() if LINE >= NEWEST or any(name in line for name in ours)]


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_each_example_parses_without_warnings_and_without_a_connection(dag_id, migrated_home, tmp_path):
    home = shutil.copytree(migrated_home, tmp_path / "airflow")  # Airflow 2.11 looks up what an alias stands for
    parsed = parse(EXAMPLES / f"{dag_id}.py", home)
    assert (parsed.returncode, about_us(parsed.stderr)) == (0, [])
    assert "warning" not in parsed.stdout.lower()


def test_the_dag_in_the_readme_parses(tmp_path):
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "@dag" in block]
    if LINE < (3, 0):  # as its comment says
        code = code.replace("from airflow.sdk import dag, task", "from airflow.decorators import dag, task")
    (tmp_path / "nightly_video.py").write_text(code)
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "nightly_video.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, about_us(done.stderr)) == (0, [])


def test_airflow_lists_no_import_errors(ran):
    assert "No data found" in ran[0].run("dags", "list-import-errors")


@pytest.mark.parametrize("dag_id", ALONE)
def test_each_example_succeeds(ran, dag_id):
    states = ran[0].states(dag_id)
    assert states
    assert {state for state, _ in states.values()} == {"success"}
    assert f"DagRun Finished: dag_id={dag_id}" in ran[1][dag_id]


def test_the_id_reaches_the_next_task(ran):
    airflow, outputs, _, _ = ran
    veo_task_id = airflow.xcoms("veo_create_video")["create", "return_value", -1]
    assert f"The relay is making video {veo_task_id}" in outputs["veo_create_video"]


def test_the_reference_images_example_sends_the_seeds_request(ran):
    airflow, _, bodies, _ = ran
    assert SEED_REQUEST in bodies
    xcoms = airflow.xcoms("veo_reference_images")
    assert xcoms["show", "return_value", -1] == xcoms["create", "video_url", -1]


def test_the_nightly_example_makes_every_prompt_of_its_spreadsheet_once(ran):
    airflow, outputs, _, stats = ran
    with (EXAMPLES / "veo_nightly.csv").open(encoding="utf-8", newline="") as manifest:
        rows = list(csv.DictReader(manifest))
    prompts = [re.sub(r"\{\{.*?\}\}", "2026-11-22", row["prompt"]) for row in rows]
    assert len(prompts) == 24
    assert any("2026-11-22" in prompt for prompt in prompts)
    assert {prompt: stats["accepted_by_prompt"].get(prompt) for prompt in prompts} == dict.fromkeys(prompts, 1)

    night = airflow.xcoms("veo_nightly")["make_videos", "return_value", -1]
    assert (night["total"], night["succeeded"]) == (24, 24)
    assert night["cost"] == pytest.approx(sum(PRICES[row["model"] or "veo3-fast"] for row in rows))
    results = path_of(night["results"])
    assert results.parents[1] == airflow.home / "videos" / "veo_nightly" / "2026-11-22"
    made = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    assert [video["key"] for video in made] == [row["key"] for row in rows]
    assert [video["request"]["prompt"] for video in made] == prompts
    assert {video["request"]["aspect_ratio"] for video in made} == {"16:9", "9:16"}
    assert [video["request"].get("images", []) for video in made] == [
        row["images"].split("|") if row["images"] else [] for row in rows
    ]
    for video in made:
        assert path_of(video["file"]).stat().st_size == video["bytes"]
        assert f"{video['key']}: {video['file']}, {video['bytes']} bytes\n" in outputs["veo_nightly"]
    assert "24 of 24 videos are there, for 15.2\nnothing went wrong\n" in outputs["veo_nightly"]
    ((announced,),) = airflow.query(f"SELECT extra FROM {ASSET}_event WHERE source_dag_id = 'veo_nightly'")
    assert night["results"] in announced


def path_of(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def processes_of_the_demo() -> list[str]:
    """The demo's children are told by where they run: their home, or the sandbox that they started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"AIRFLOW_HOME={PROJECT}/.demo/" in path.read_text(errors="replace"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_the_demo_can_be_stopped_and_then_run():
    folder = PROJECT / ".demo"
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, start_new_session=True) as stopped:
        for line in stopped.stdout:
            if "airflow dags test" in line:
                break
        deadline = time.monotonic() + 60
        while not processes_of_the_demo() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_of_the_demo()
        os.killpg(stopped.pid, signal.SIGINT)
        rest = stopped.stdout.read()
    assert stopped.returncode == 130
    assert "Traceback" not in rest
    assert not processes_of_the_demo()
    assert not (folder / "airflow").exists()

    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 videos accepted, 0 of them twice" in done.stdout
    assert not processes_of_the_demo()
    assert not (folder / "airflow").exists()
    files = sorted((folder / "videos").rglob("*.mp4"))
    sizes = set()
    for file in files:
        with av.open(str(file)) as video:
            assert sum(1 for _ in video.decode(video=0)) > 24
            sizes.add((video.streams.video[0].width, video.streams.video[0].height))
    assert len(files) == 24
    assert sizes == {(640, 360), (360, 640), (1280, 720), (720, 1280)}
