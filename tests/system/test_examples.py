"""The DAGs that users copy, run by a real scheduler, workers and a triggerer; and the key, which is nowhere then."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from airflow_provider_veo import sandbox
from tests.airflow_lines import ASSET, LINE, NEWEST, RENDERED_FIELDS, XCOM_TABLE
from tests.conftest import CANARY
from tests.system.conftest import PROJECT, make_airflow
from tests.system.examples import ALONE, EXAMPLES, HAS_NOTIFIERS, NIGHT, PRICES, settings_of
from tests.system.services import SERVICES, Services
from tests.unit.protocol.test_payload import SEED_REQUEST

README = PROJECT / "README.md"
RUNS = RUN, FAILS = ("night", "fails")
SMALLEST = "veo_create_video"
NOTIFYING = {"veo_morning_report"}
PROMPT = "A paper boat drifts down a canal at dawn"


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """
    All examples, run once by a scheduler; and one of them again, whose relay repeats the key in a refusal.

    What is left when all has ended.
    """
    home = tmp_path_factory.mktemp("examples") / "airflow"
    shutil.copytree(migrated_home, home)
    with sandbox.running(generation_seconds=0, api_key=CANARY) as relay:
        airflow = make_airflow(
            home,
            EXAMPLES,
            **settings_of(home, relay, poll_interval=2),
        )
        # DAGs with a schedule run only when they are triggered.
        with Services(airflow, AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE="False") as services:
            runs = {dag_id: services.trigger(dag_id, RUN, logical_date=NIGHT) for dag_id in ALONE}
            states = {dag_id: services.wait_for(dag_id, run_id, timeout=300) for dag_id, run_id in runs.items()}
            videos, stats = relay.videos(), relay.stats()
            bodies = [json.loads(request["body"]) for request in relay.requests()]
            relay.set_faults("echo-key")
            services.wait_for(SMALLEST, services.trigger(SMALLEST, FAILS))
            processes = services.processes()
        return SimpleNamespace(
            airflow=airflow,
            states=states,
            bodies=bodies,
            stats=stats,
            videos=videos,
            outputs={dag_id: "".join(services.task_logs(dag_id, RUN).values()) for dag_id in ALONE},
            tasks={
                (run, task.task_id): task for run in (RUN, "fails") for task in services.task_instances(SMALLEST, run)
            },
            task_logs={run: services.task_logs(SMALLEST, run) for run in (RUN, "fails")},
            logs={name: services.log(name) for name in SERVICES},
            tables=airflow.tables(),
            processes=processes,
            relay_output=relay.output(),
        )


def parse(home: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run DAG files as Airflow does, where no connection is known, and each warning about them is an error."""
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "PYTHONWARNINGS": "error:::__main__"}
    environment.pop("AIRFLOW_CONN_VEO_DEFAULT", None)
    code = "import runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path, run_name='__main__')"
    command = [sys.executable, "-c", code, *map(str, files)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def about_us(said: str) -> list[str]:
    """Return the lines that are not of what older lines of Airflow say and warn of in each of their programs."""
    ours = ("airflow_provider_veo", "dags_examples", "nightly_video")
    return [line for line in said.splitlines() if LINE >= NEWEST or any(name in line for name in ours)]


def test_the_examples_parse_without_warnings_and_without_a_connection(migrated_home, tmp_path):
    home = shutil.copytree(migrated_home, tmp_path / "airflow")  # Airflow 2.11 looks up what an alias stands for
    parsed = parse(home, *(path for path in EXAMPLES.glob("*.py") if HAS_NOTIFIERS or path.stem not in NOTIFYING))
    assert (parsed.returncode, about_us(parsed.stderr)) == (0, [])
    assert "warning" not in parsed.stdout.lower()


def test_the_dag_in_the_readme_parses(tmp_path):
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "@dag" in block]
    if LINE < (3, 0):  # as its comment says
        code = code.replace("from airflow.sdk import dag", "from airflow.decorators import dag")
    (tmp_path / "nightly_video.py").write_text(code)
    parsed = parse(tmp_path, tmp_path / "nightly_video.py")
    assert (parsed.returncode, about_us(parsed.stderr)) == (0, [])


def test_airflow_lists_no_import_errors(ran):
    failed = {Path(path).stem for (path,) in ran.airflow.query("SELECT filename FROM import_error")}
    assert failed == (set() if HAS_NOTIFIERS else NOTIFYING)


@pytest.mark.parametrize("dag_id", ALONE)
def test_each_example_succeeds(ran, dag_id):
    assert ran.states[dag_id] == "success"
    assert {task.state for task in ran.airflow.task_instances(dag_id, RUN)} == {"success"}


def test_the_reference_images_example_sends_the_seeds_request(ran):
    assert SEED_REQUEST in ran.bodies
    xcoms = ran.airflow.xcoms("veo_reference_images")
    assert xcoms["show", "return_value", -1] == xcoms["create", "video_url", -1]


def test_the_nightly_example_makes_every_prompt_of_its_spreadsheet_once(ran):
    airflow, output = ran.airflow, ran.outputs["veo_nightly"]
    with (EXAMPLES / "veo_nightly.csv").open(encoding="utf-8", newline="") as manifest:
        rows = list(csv.DictReader(manifest))
    prompts = [re.sub(r"\{\{.*?\}\}", "2026-11-22", row["prompt"]) for row in rows]
    assert len(prompts) == 24
    assert any("2026-11-22" in prompt for prompt in prompts)
    assert {prompt: ran.stats["accepted_by_prompt"].get(prompt) for prompt in prompts} == dict.fromkeys(prompts, 1)

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
        assert f"{video['key']}: {video['file']}, {video['bytes']} bytes" in output
    assert "24 of 24 videos are ready, for 15.2" in output
    assert "nothing went wrong" in output
    ((announced,),) = airflow.query(f"SELECT extra FROM {ASSET}_event WHERE source_dag_id = 'veo_nightly'")
    assert night["results"] in announced


def path_of(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def test_the_id_reaches_the_next_task(ran):
    veo_task_id = ran.airflow.xcoms(SMALLEST, RUN)["create", "return_value", -1]
    (video,) = [video for video in ran.videos if video["id"] == veo_task_id]
    assert video["prompt"].startswith(PROMPT)
    assert f"The relay is making video {video['id']}" in ran.task_logs[RUN]["task_id=use_the_id/attempt=1.log"]


def test_a_refused_create_fails_the_run_for_good(ran):
    assert ran.airflow.run_state(SMALLEST, FAILS) == "failed"
    # Airflow 3 pushes an empty text for a link that a task doesn't know.
    pushed = {("create", "_link_VideoLink", -1): ""} if LINE >= (3, 0) else {}
    assert ran.airflow.xcoms(SMALLEST, FAILS) == pushed
    assert {task_id: (task.state, task.try_number) for (run, task_id), task in ran.tasks.items() if run == FAILS} == {
        "create": ("failed", 1),
        "use_the_id": ("upstream_failed", 0),
    }


def test_each_task_ran_in_a_process_of_its_own(ran):
    ran_there = [task for task in ran.tasks.values() if task.pid]
    assert len({task.pid for task in ran_there}) == len(ran_there) == 3
    assert not {task.pid for task in ran_there} & {process.pid for process in ran.processes}


def test_no_process_outlives_the_services(ran):
    assert len(ran.processes) > len(SERVICES)
    assert not [process for process in ran.processes if process.is_running()]


def test_the_key_is_in_no_table(ran):
    assert PROMPT in ran.tables[XCOM_TABLE]
    assert SMALLEST in ran.tables["serialized_dag"]
    assert {name for name, rows in ran.tables.items() if CANARY in rows} == set()


def test_the_key_is_in_no_rendered_field(ran):
    rows = ran.airflow.query(
        f"SELECT run_id, rendered_fields FROM {RENDERED_FIELDS} fields WHERE dag_id = ? AND task_id = 'create'",
        SMALLEST,
    )
    assert {run_id for run_id, _ in rows} >= set(RUNS)
    for _, rendered in rows:
        assert json.loads(rendered)["prompt"].startswith(PROMPT)
        assert CANARY not in rendered


def test_the_key_is_in_no_service_log(ran):
    said = {
        "scheduler": "Submitting a video to" if LINE >= (3, 2) else SMALLEST,
        "api-server": f"/execution/xcoms/{SMALLEST}/{RUN}/create/return_value",
        "dag-processor": f"{SMALLEST}.py",
        "triggerer": "Starting the triggerer",
    }
    assert [name for name, log in ran.logs.items() if said[name] not in log] == []
    assert [name for name, log in ran.logs.items() if CANARY in log] == []


def test_the_key_is_in_no_task_log_though_the_relay_repeats_it(ran):
    log = ran.task_logs[FAILS]["task_id=create/attempt=1.log"]
    assert "AirflowFailException" in log
    assert "VeoRequestRejectedError" in log
    assert "***" in log
    assert not [name for logs in ran.task_logs.values() for name, text in logs.items() if CANARY in text]


def test_the_key_is_in_no_file_of_the_home(ran):
    written = ran.airflow.everything_it_wrote()
    assert PROMPT in written
    assert CANARY not in written


def test_the_sandbox_prints_the_key_only_where_it_announces_the_connection(ran):
    assert CANARY not in ran.relay_output
    lines = [line for line in ran.relay_output.splitlines() if "(hidden)" in line]
    assert [line.partition("=")[0] for line in lines] == ["export AIRFLOW_CONN_VEO_DEFAULT"]
