"""Run the nightly DAG in a real Airflow against the sandbox, until playable MP4 files are on disk.

Everything it writes is under ``.demo/``. The videos and Airflow's log are kept, Airflow's home is removed.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from progress import ProgressDisplay
from results import show
from rich.console import Console

from airflow_provider_veo import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_veo.sandbox import Sandbox

PROJECT = Path(__file__).resolve().parent.parent
DAGS = PROJECT / "dags_examples"
FOLDER = PROJECT / ".demo"
HOME = FOLDER / "airflow"
LOG = FOLDER / "airflow.log"
VIDEOS = FOLDER / "videos"
GENERATION_SECONDS = 5
VIDEO_SECONDS = 2
PRICES = {"veo3-fast": 0.4, "veo3.1-fast": 0.4, "veo3.1-components": 0.6, "veo3-pro-frames": 2, "veo2-fast-frames": 0.3}
POLICY = """
from datetime import timedelta

# The sandbox's videos take seconds, those of a real relay minutes: this cluster policy shortens the poll interval.
# Airflow may mistake a very short deferral for the end of the task and retry it: this also shortens the retry delay.
def task_policy(task):
    if hasattr(task, "poll_interval"):
        task.poll_interval = 1
        task.retry_delay = timedelta(seconds=2)
        task.retries = max(task.retries or 0, 6)
"""

STARTING = re.compile(r"\[DAG TEST\] starting task_id=(\S+) map_index=(-?\d+)")
MESSAGE = re.compile(
    r"\[(?:info|warning|error) *\] (.*?)\s*\[(?:airflow\.task\.(?:operators|hooks)\.)?airflow_provider_veo\."
)
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT")

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


def main() -> int:
    """Run the demo, and return the exit code."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(FOLDER)
    VIDEOS.mkdir(parents=True)
    started = time.monotonic()
    try:
        with sandbox.running(generation_seconds=GENERATION_SECONDS, video_seconds=VIDEO_SECONDS) as relay:
            show_step("sandbox", f"{relay.url} is a local relay: no key is needed, nothing is billed")
            run_airflow(relay)
            stats = relay.stats()
        (results,) = VIDEOS.rglob("results.jsonl")
        show(console, results)
        twice, polls = len(stats["paid_twice"]), stats["requests"]["query"]
        show_step("relay", f"{stats['accepted']} videos accepted, {twice} of them twice; {polls} polls")
        show_step("files", f"{short_path(results.parent / 'videos')}, with results.jsonl and summary.json beside it")
        show_step("report", f"open it in a browser: {results.with_name('report.html').as_uri()}")
        show_step("done", f"in {time.monotonic() - started:.0f} s; Airflow's log is {short_path(LOG)}")
    except KeyboardInterrupt:
        show_step("stopped", "all started processes have ended")
        return 130
    except subprocess.CalledProcessError as error:
        show_step("failed", f"{' '.join(error.cmd[1:])} exited with {error.returncode}; the end of {short_path(LOG)}:")
        print("\n".join(LOG.read_text(encoding="utf-8").splitlines()[-15:]))
        return 1
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
    return 0


def prepared(home: Path, videos: Path, relay: Sandbox) -> dict[str, str]:
    """Create an Airflow home with the examples, the connection and the page's settings. Return its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_VEO_DEFAULT": json.dumps({**json.loads(relay.connection), "extra": {"prices": PRICES}}),
        "AIRFLOW_VAR_VEO_DESTINATION": videos.as_uri(),
        "AIRFLOW__VEO__PAGE_ROOTS": json.dumps([videos.as_uri()]),
        "AIRFLOW__VEO__PAGE_MEDIA_HOSTS": json.dumps([relay.url]),
        "NO_PROXY": "127.0.0.1",
    }
    policy = home / "config" / "airflow_local_settings.py"
    policy.parent.mkdir(parents=True)
    policy.write_text(POLICY, encoding="utf-8")
    return environment


def run_airflow(relay: Sandbox) -> None:
    """Create the database, and run the DAG with ``airflow dags test``, which runs every task in one process."""
    environment = prepared(HOME, VIDEOS, relay)
    show_step("airflow", f"preparing its database in {short_path(HOME)}")
    for _ in airflow("db", "migrate", environment=environment):
        pass
    with (DAGS / "veo_nightly.csv").open(encoding="utf-8", newline="") as manifest:
        total = sum(1 for _ in csv.DictReader(manifest))
    today = datetime.now().astimezone().date().isoformat()
    show_step("airflow", f"airflow dags test veo_nightly {today}")
    with ProgressDisplay(console, relay, VIDEOS, total):
        print_log(airflow("dags", "test", "veo_nightly", today, environment=environment))


def print_log(lines: Iterator[str]) -> None:
    """Print the relevant lines of Airflow's log."""
    task = None
    for line in lines:
        if starting := STARTING.search(line):
            if task != starting.group(1):
                task = starting.group(1)
                console.print(f"  [bold]{task}")
        elif message := MESSAGE.search(line):
            console.print(f"      {message.group(1)}", markup=False, soft_wrap=True)
        elif task == "report" and not LOG_LINE.match(line):
            console.print(f"      {line.rstrip()}", markup=False, soft_wrap=True)


def airflow(*arguments: str, environment: dict[str, str]) -> Iterator[str]:
    """Run an ``airflow`` command, and yield its output line by line. Kill it if the caller stops reading."""
    command = [str(Path(sys.executable).with_name("airflow")), *arguments]
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            env=environment,
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                log.write(line)
                log.flush()
                yield line
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def short_path(path: Path) -> str:
    """Return a path relative to the working directory, if it is inside it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def show_step(what: str, text: str) -> None:
    """Print a step."""
    console.print(f"[bold cyan]{what:<8}[/] ", end="")
    console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    for stop in signal.SIGTERM, signal.SIGINT:  # a shell ignores SIGINT in background jobs
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
