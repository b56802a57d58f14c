"""
Run Airflow's UI with the sandbox, the connection, the examples and a finished night of videos.

It runs until it is stopped (Ctrl-C). Everything it writes is under ``.ui-demo/``, which is removed at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import requests
from run import PROJECT, prepared, short_path, show_step

from airflow_provider_veo import sandbox

FOLDER = PROJECT / ".ui-demo"
HOME = FOLDER / "airflow"
LOG = FOLDER / "airflow.log"
USER = "admin"
RUNS = ("veo_nightly", "veo_reference_images", "veo_wait_with_sensor", "veo_decorator")
GENERATION_SECONDS = 20
"""Airflow on a busy machine may mistake a very short deferral for the end of the task."""
FAULTS = ("failed=the prompt names a person@prompt=pours tea",)
"""One of the videos fails. Its card shows the reason."""
START_SECONDS, NIGHT_SECONDS, STOP_SECONDS = 180, 1200, 30


class Airflow:
    """
    A standalone Airflow on a free port, and a client of its API.

    :param environment: the environment to run it in.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.password = secrets.token_urlsafe(12)
        passwords = HOME / "passwords.json"
        passwords.write_text(json.dumps({USER: self.password}), encoding="utf-8")
        self._environment = environment | {
            # `airflow standalone` calls the command `airflow`.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # run only what is triggered
        }
        self._session = requests.Session()

    @contextlib.contextmanager
    def running(self):
        """Run it. Stop it with all its processes at the end."""
        command = [str(Path(sys.executable).with_name("airflow")), "standalone"]
        with LOG.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command, env=self._environment, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_for(self._is_up, START_SECONDS, "to start", process)
            yield process
        finally:
            self._end(process)

    def run(self, *dag_ids: str) -> None:
        """Run DAGs, and wait until they have ended."""
        now = datetime.now(timezone.utc).isoformat()
        for dag_id in dag_ids:
            self._wait_for(
                lambda path=f"dags/{dag_id}": self._call("GET", path).ok, START_SECONDS, f"to parse {dag_id}"
            )
            self._call("PATCH", f"dags/{dag_id}", {"is_paused": False}).raise_for_status()
            self._call("POST", f"dags/{dag_id}/dagRuns", {"dag_run_id": "demo", "logical_date": now}).raise_for_status()
        for dag_id in dag_ids:
            self._wait_for(lambda dag_id=dag_id: self._state(dag_id) in ("success", "failed"), NIGHT_SECONDS, "to end")
            show_step("run", f"{dag_id}: {self._state(dag_id)}")

    def _is_up(self) -> bool:
        try:
            answer = requests.post(
                f"{self.url}/auth/token", json={"username": USER, "password": self.password}, timeout=30
            )
        except requests.ConnectionError:
            return False
        if answer.ok:
            self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer.ok

    def _state(self, dag_id: str) -> str:
        return str(self._call("GET", f"dags/{dag_id}/dagRuns/demo").json().get("state"))

    def _call(self, method: str, path: str, document: object = None) -> requests.Response:
        return self._session.request(method, f"{self.url}/api/v2/{path}", json=document, timeout=60)

    def _wait_for(self, happened, seconds, what, process=None) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline or (process and process.poll() is not None):
                raise RuntimeError(f"waited for Airflow {what}; see {short_path(LOG)}")
            time.sleep(1)

    def _end(self, process: subprocess.Popen) -> None:
        for stop in signal.SIGINT, signal.SIGTERM, signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def main() -> int:
    """Show it until it is stopped; the exit code says how it went."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "videos").mkdir(parents=True)
    try:
        with sandbox.running(generation_seconds=GENERATION_SECONDS, video_seconds=4, faults=FAULTS) as relay:
            show_step("sandbox", f"{relay.url} is a local relay: no key is needed, nothing is billed")
            airflow = Airflow(prepared(HOME, FOLDER / "videos", relay))
            show_step("airflow", f"starting; its log is {short_path(LOG)}")
            with airflow.running() as process:
                show_step("open", f"{airflow.url}/plugin/veo-videos")
                show_step("log in", f"user {USER}, password {airflow.password}")
                airflow.run(*RUNS)
                show_step("ready", "all runs have ended: open the page to see the videos. Ctrl-C stops everything")
                process.wait()
    except KeyboardInterrupt:
        show_step("stopped", "all started processes have ended")
        return 0
    except RuntimeError as error:
        show_step("failed", str(error))
        print("\n".join(LOG.read_text(encoding="utf-8").splitlines()[-15:]))
        return 1
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    return 1


if __name__ == "__main__":
    for stop in signal.SIGTERM, signal.SIGINT:  # a shell ignores SIGINT in background jobs
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
