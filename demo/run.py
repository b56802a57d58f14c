"""Run the nightly DAG in a real Airflow against the sandbox, until MP4 files that play lie on disk.

Everything it writes is under ``.demo/``: the videos and Airflow's log stay, Airflow's home is removed.
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

from night import Night
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

# The sandbox's videos take seconds, and those of a relay minutes: a cluster policy has it asked more often.
# A wait that is over in a moment Airflow may take for the end of its task, and tries that again: soon, here.
def task_policy(task):
    if hasattr(task, "poll_interval"):
        task.poll_interval = 1
        task.retry_delay = timedelta(seconds=2)
        task.retries = max(task.retries or 0, 6)
"""

STARTING = re.compile(r"\[DAG TEST\] starting task_id=(\S+) map_index=(-?\d+)")
SAID = re.compile(
    r"\[(?:info|warning|error) *\] (.*?)\s*\[(?:airflow\.task\.(?:operators|hooks)\.)?airflow_provider_veo\."
)
LOGGED = re.compile(r"\d{4}-\d\d-\d\dT")

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


def main() -> int:
    """Run the demo; the exit code says how it went."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(FOLDER)
    VIDEOS.mkdir(parents=True)
    started = time.monotonic()
    try:
        with sandbox.running(generation_seconds=GENERATION_SECONDS, video_seconds=VIDEO_SECONDS) as relay:
            say("sandbox", f"{relay.url} is a relay on this machine: no key is needed, nothing is paid")
            run_airflow(relay)
            stats = relay.stats()
        (results,) = VIDEOS.rglob("results.jsonl")
        show(console, results)
        twice = len(stats["paid_twice"])
        say("relay", f"{stats['accepted']} videos accepted, {twice} of them twice; {stats['requests']['query']} polls")
        say("files", f"{near(results.parent / 'videos')}, with results.jsonl and summary.json beside it")
        say("done", f"in {time.monotonic() - started:.0f} s; Airflow's log is {near(LOG)}")
    except KeyboardInterrupt:
        say("stopped", "everything that was started has ended")
        return 130
    except subprocess.CalledProcessError as error:
        say("failed", f"{' '.join(error.cmd[1:])} ended with {error.returncode}; see {near(LOG)}, which ends with:")
        print("\n".join(LOG.read_text(encoding="utf-8").splitlines()[-15:]))
        return 1
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
    return 0


def prepared(home: Path, videos: Path, relay: Sandbox) -> dict[str, str]:
    """Make an Airflow home with the examples, the connection and the page's settings; return its environment."""
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
    """Make a database, and run the DAG as ``airflow dags test`` does: every task for real, in one process."""
    environment = prepared(HOME, VIDEOS, relay)
    say("airflow", f"preparing its database in {near(HOME)}")
    for _ in airflow("db", "migrate", environment=environment):
        pass
    with (DAGS / "veo_nightly.csv").open(encoding="utf-8", newline="") as manifest:
        total = sum(1 for _ in csv.DictReader(manifest))
    today = datetime.now().astimezone().date().isoformat()
    say("airflow", f"airflow dags test veo_nightly {today}")
    with Night(console, relay, VIDEOS, total):
        tell(airflow("dags", "test", "veo_nightly", today, environment=environment))


def tell(lines: Iterator[str]) -> None:
    """Print what a person wants to know of Airflow's log."""
    task = None
    for line in lines:
        if starting := STARTING.search(line):
            if task != starting.group(1):
                task = starting.group(1)
                console.print(f"  [bold]{task}")
        elif said := SAID.search(line):
            console.print(f"      {said.group(1)}", markup=False, soft_wrap=True)
        elif task == "report" and not LOGGED.match(line):
            console.print(f"      {line.rstrip()}", markup=False, soft_wrap=True)


def airflow(*arguments: str, environment: dict[str, str]) -> Iterator[str]:
    """Run an ``airflow`` command, and yield its lines as they come. It doesn't outlive this process."""
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


def near(path: Path) -> str:
    """Return a path as it is seen from here, if it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def say(what: str, text: str) -> None:
    """Print a step."""
    console.print(f"[bold cyan]{what:<8}[/] ", end="")
    console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    for stop in signal.SIGTERM, signal.SIGINT:  # that one too: a shell starts what is in its background without it
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
