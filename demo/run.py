"""Run the nightly DAG in a real Airflow against the sandbox, until MP4 files that play lie on disk.

Everything it writes is under ``.demo/``: the videos and Airflow's log stay, Airflow's home is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import av
from rich.console import Console
from rich.table import Table

from airflow_provider_veo import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / ".demo"
HOME = FOLDER / "airflow"
LOG = FOLDER / "airflow.log"
VIDEOS = FOLDER / "videos"
GENERATION_SECONDS = 5

STARTING = re.compile(r"\[DAG TEST\] starting task_id=(\S+) map_index=(-?\d+)")
SAID = re.compile(
    r"\[(?:info|warning|error) *\] (.*?)\s*\[(?:airflow\.task\.(?:operators|hooks)\.)?airflow_provider_veo\."
)

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


def main() -> int:
    """Run the demo; the exit code says how it went."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(FOLDER)
    VIDEOS.mkdir(parents=True)
    started = time.monotonic()
    try:
        with sandbox.running(generation_seconds=GENERATION_SECONDS) as relay:
            say("sandbox", f"{relay.url} is a relay on this machine: no key is needed, nothing is paid")
            run_airflow(relay.connection)
            show(read_result(), relay.stats())
        say("done", f"in {time.monotonic() - started:.0f} s; the videos are in {VIDEOS}, Airflow's log is {LOG}")
    except KeyboardInterrupt:
        say("stopped", "everything that was started has ended")
        return 130
    except subprocess.CalledProcessError as error:
        say("failed", f"{' '.join(error.cmd[1:])} ended with {error.returncode}; see {LOG}, which ends with:")
        print("\n".join(LOG.read_text(encoding="utf-8").splitlines()[-15:]))
        return 1
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
    return 0


def run_airflow(connection: str) -> None:
    """Make a database, and run the DAG as ``airflow dags test`` does: every task for real, in one process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags_examples"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_VEO_DEFAULT": connection,
        "AIRFLOW_VAR_VEO_DESTINATION": f"{VIDEOS.as_uri()}/",
        "NO_PROXY": "127.0.0.1",
    }
    say("airflow", f"preparing its database in {HOME}")
    for _ in airflow("db", "migrate", environment=environment):
        pass
    today = datetime.now().astimezone().date().isoformat()
    say("airflow", f"airflow dags test veo_nightly {today}")
    for line in airflow("dags", "test", "veo_nightly", today, environment=environment):
        if starting := STARTING.search(line):
            name, index = starting.groups()
            console.print(f"  [bold]{name}{'' if index == '-1' else f'[{index}]'}", markup=True)
        elif (said := SAID.search(line)) and said.group(1) != "Success criteria met. Exiting.":
            console.print(f"      {said.group(1)}", markup=False, soft_wrap=True)


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


def read_result() -> list[tuple[dict, dict, dict]]:
    """Return each video as it was submitted and as it ended, and its file, from the XComs that the DAG left."""
    with contextlib.closing(sqlite3.connect(HOME / "airflow.db")) as database:

        def xcoms(task: str, key: str) -> list:
            query = "SELECT value FROM xcom WHERE task_id = ? AND key = ? ORDER BY map_index"
            return [json.loads(value) for (value,) in database.execute(query, (task, key))]

        kinds = ("create", "veo_video"), ("wait", "return_value"), ("store", "return_value")
        return list(zip(*(xcoms(*kind) for kind in kinds), strict=True))


def show(result: list[tuple[dict, dict, dict]], stats: dict) -> None:
    """Play the files, and end with the table."""
    table = Table(title="What the night made", show_lines=True)
    table.add_column("prompt", ratio=4)
    table.add_column("id", ratio=3, overflow="fold")
    table.add_column("status", ratio=2, overflow="fold")
    table.add_column("video URL", ratio=5, overflow="fold")
    table.add_column("seconds", justify="right", min_width=7)
    for before, after, stored in result:
        file = Path(url2pathname(urlsplit(stored["uri"]).path))
        say("file", f"{file} ({play(file)})")
        took = datetime.fromisoformat(after["updated_at"]) - datetime.fromisoformat(before["updated_at"])
        seconds = f"{took.total_seconds():.1f}"
        table.add_row(before["prompt"], after["id"], after["status"], after["video_url"], seconds)
    console.print(table)
    twice = len(stats["paid_twice"])
    say("relay", f"{stats['accepted']} videos accepted, {twice} of them twice; {stats['requests']['query']} polls")


def play(path: Path) -> str:
    """Decode every frame, and say what it is."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        seconds = frames / float(stream.average_rate or 1)
        return f"{stream.width}x{stream.height}, {seconds:.1f} s, {path.stat().st_size / 1000:.0f} kB, plays"


def say(what: str, text: str) -> None:
    """Print a step."""
    console.print(f"[bold cyan]{what:<8}[/] ", end="")
    console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
