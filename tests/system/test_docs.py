"""The commands of the tutorial, and the DAGs of the page on migrating from HttpOperator."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from airflow_provider_veo import sandbox
from tests.system.conftest import PROJECT, make_airflow
from tests.system.examples import poll_often
from tests.system.supervised import free_port, launch

DOCS = PROJECT / "docs"
VIDEOS = "/tmp/veo-videos"
"""Where the DAGs of the documentation store files. The tests replace it."""
DATE = "2026-11-22"
PROMPT = f"A paper boat at dawn, {DATE}"


@pytest.fixture
def migrate(migrated_home, tmp_path):
    """Run one of the two DAGs against a relay that may fail; return its run's state, its log and the relay's count."""

    def run(dag_id: str, *faults: str) -> tuple[str, str, dict]:
        home, dags = tmp_path / "airflow", tmp_path / "dags"
        shutil.copytree(migrated_home, home)
        poll_often(home)
        dags.mkdir()
        code = (DOCS / "snippets" / f"{dag_id}.py").read_text("utf-8")
        (dags / f"{dag_id}.py").write_text(
            code.replace(VIDEOS, str(tmp_path / "videos")).replace("poke_interval=15", "poke_interval=0.2")
        )
        with sandbox.running(generation_seconds=0, faults=faults) as relay:
            veo = json.loads(relay.connection)
            http = {"conn_type": "http", "host": veo["host"], "extra": {"Authorization": f"Bearer {veo['password']}"}}
            airflow = make_airflow(
                home, dags, AIRFLOW_CONN_VEO_DEFAULT=relay.connection, AIRFLOW_CONN_RELAY=json.dumps(http)
            )
            log = airflow.run("dags", "test", dag_id, DATE, check=False)
            ((state,),) = airflow.query("SELECT state FROM dag_run WHERE dag_id = ?", dag_id)
            return state, log, relay.stats()

    pytest.importorskip("airflow.providers.http")
    return run


@pytest.mark.parametrize("dag_id", ["veo_before", "veo_after"])
def test_both_dags_store_one_video_if_the_relay_does_not_fail(migrate, tmp_path, dag_id):
    state, log, stats = migrate(dag_id)
    assert state == "success", log[-8000:]
    assert stats["accepted_by_prompt"] == {PROMPT: 1}
    assert len(list((tmp_path / "videos").rglob("*.mp4"))) == 1


def test_after_a_lost_answer_http_operator_is_billed_twice(migrate):
    state, log, stats = migrate("veo_before", "drop-after@1")
    assert state == "success", log[-8000:]
    assert stats["requests"]["create"] == 2
    assert stats["paid_twice"] == {PROMPT: 2}


def test_after_a_lost_answer_the_create_operator_does_not_resubmit(migrate):
    state, log, stats = migrate("veo_after", "drop-after@1")
    assert state == "failed"
    assert stats["requests"]["create"] == 1
    assert stats["accepted_by_prompt"] == {PROMPT: 1}
    assert "It can't be known whether the request was accepted: the video may be generated and billed." in log


def tutorial_script(port: str, videos: Path) -> str:
    """Return the tutorial's commands as one script, in which Airflow runs until its first scheduled run has ended."""
    page = (DOCS / "tutorial.md").read_text("utf-8")
    script = "\n".join(re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    # All packages are installed where the tests run. pip checks that.
    packages = json.dumps(sysconfig.get_path("purelib"))
    installed = (
        f"""echo 'import site; site.addsitedir({packages})' > "$(echo .venv/lib/python3*/site-packages)/all.pth\""""
    )
    changes = {
        "python3 -m venv .venv\n": f"python3 -m venv .venv\n{installed}\n",
        "8765": port,
        VIDEOS: str(videos),
        '"password": "YOUR_API_KEY"': f'"host": "http://127.0.0.1:{port}", "password": "sandbox-key"',
        "mkdir -p airflow/dags\n": "mkdir -p airflow/dags\ncp ../dags/* airflow/dags\n",
        "airflow standalone\n": "airflow standalone > airflow.log 2>&1 &\n"
        'until curl --silent --fail --output page.html "$AIRFLOW__API__BASE_URL"; do sleep 1; done\n',
        "airflow dags unpause --yes veo_tutorial\n": "airflow dags unpause --yes veo_tutorial\n"
        f"until [ -e {videos}/scheduled__*/summary.json ]; do sleep 1; done\n",
    }
    for old, new in changes.items():
        assert old in script, old
        script = script.replace(old, new)
    return f"set -eu\n{script}"


@pytest.mark.long
@pytest.mark.timeout(500)
@pytest.mark.skipif(sys.platform != "linux", reason="the tutorial is for Linux")
def test_every_command_of_the_tutorial(tmp_path):
    port, videos, dags = str(free_port()), tmp_path / "videos", tmp_path / "dags"
    poll_often(tmp_path / "veo-tutorial-settings")
    dags.mkdir()
    for name in ("prompts.csv", "veo_tutorial.py"):
        text = (DOCS / "snippets" / name).read_text("utf-8")
        (dags / name).write_text(text.replace(VIDEOS, str(videos)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PIP_"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "veo-tutorial-settings" / "config"),
        "PIP_NO_INDEX": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "COLUMNS": "500",
        "AIRFLOW__API__PORT": (api := str(free_port())),
        "AIRFLOW__API__BASE_URL": f"http://localhost:{api}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{api}/execution/",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
    }
    script, output = tmp_path / "tutorial.sh", tmp_path / "output"
    script.write_text(tutorial_script(port, videos))
    shell = launch(["bash", str(script)], output, cwd=tmp_path, environment=environment)
    try:
        shell.main.wait(450)
    finally:
        shell.end()
        said = output.read_text("utf-8", "replace")
    assert f"{script} ended with 0" in said, said[-8000:]
    assert "3 of 3 videos are ready, for 1.2" in said
    assert '"paid_twice": {}' in said
    assert "Connection success!" in said
    folders = sorted(path.name.partition("__")[0] for path in videos.iterdir())
    assert folders == ["manual", "scheduled"]
    assert len(list(videos.rglob("*.mp4"))) == 6
