"""
Worker processes and worker seconds of fifty waits, by the way of waiting, in one run of a real Airflow.

A scheduler with a ``LocalExecutor``, an API server, a DAG processor and a triggerer run against one sandbox. Each way
is a DAG of its own, whose first task submits the videos, and whose other tasks wait for one of them each.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_veo import sandbox
from bench import show
from tests.system.conftest import make_airflow
from tests.system.services import Services

GENERATION_SECONDS = 60
POLL_INTERVAL = 5

OURS = "from airflow_provider_veo.sensors import VeoVideoSensor"
THEIRS = """
from airflow.providers.http.sensors.http import HttpSensor

def is_completed(response):
    return response.json()["status"] == "completed"
"""
DAG = '''
from datetime import datetime, timezone

from airflow.sdk import DAG, task

{imports}

with DAG("{dag_id}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), max_active_tasks={slots}):

    @task(multiple_outputs=True)
    def submit():
        from airflow_provider_veo.hooks import VeoHook
        from airflow_provider_veo.protocol import payload

        hook = VeoHook()
        body = payload.build("{dag_id}", "veo3-fast")
        return {{f"v{{n}}": hook.create_video(body).id for n in range({waits})}}

    ids = submit()
    for n in range({waits}):
        {sensor}
'''


class Way(NamedTuple):
    dag_id: str
    waits: int
    slots: int
    arguments: str

    def source(self):
        ours = self.dag_id.startswith("veo")
        if ours:
            sensor = 'VeoVideoSensor(task_id=f"wait_{n}", veo_task_id=ids[f"v{n}"], poll_interval=5, ' + self.arguments + ")"
        else:
            sensor = 'HttpSensor(task_id=f"wait_{n}", http_conn_id="relay", endpoint="v1/video/query", request_params={"id": ids[f"v{n}"]}, poke_interval=5, ' + self.arguments + ")"
        return DAG.format(imports=OURS if ours else THEIRS, dag_id=self.dag_id, slots=self.slots, waits=self.waits, sensor=sensor)

import sys
N = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 4
WAYS = [
    Way("veo_poke", 2, 2, 'mode="poke"'),
    Way("veo_reschedule", 2, 2, 'mode="reschedule"'),
    Way("veo_deferrable", N, 2, "deferrable=True"),
    Way("veo_start", N, 2, "deferrable=True, start_from_trigger=True"),
    Way("veo_start_end", N, 2, "deferrable=True, start_from_trigger=True, end_from_trigger=True"),
    Way("http_poke", 2, 2, 'mode="poke", response_check=is_completed'),
    Way("http_reschedule", 2, 2, 'mode="reschedule", response_check=is_completed'),
    Way("http_deferrable_check", 2, 2, "deferrable=True, response_check=is_completed"),
    Way("http_deferrable_404", N, 2, "deferrable=True"),
]

def main():
    home = Path(tempfile.mkdtemp(prefix="w-"))
    print(home)
    dags = home / "dags"; dags.mkdir()
    for way in WAYS:
        (dags / f"{way.dag_id}.py").write_text(way.source())
    t = time.monotonic()
    with sandbox.running(generation_seconds=20, faults=["not-found-first=4@prompt=http_deferrable_404"]) as relay:
        conn = {"conn_type": "http", "host": relay.url, "extra": {"Authorization": f"Bearer {relay.api_key}"}}
        (home / "a").mkdir(); airflow = make_airflow(home / "a", dags, AIRFLOW_CONN_VEO_DEFAULT=relay.connection, AIRFLOW_CONN_RELAY=json.dumps(conn))
        airflow.run("db", "migrate")
        print("migrated", time.monotonic() - t)
        with Services(airflow, parallelism=12) as services:
            print("up", time.monotonic() - t, services.seconds_to_start)
            for way in WAYS:
                t1 = time.monotonic()
                run_id = services.trigger(way.dag_id)
                print(way.dag_id, services.wait_for(way.dag_id, run_id, 200), time.monotonic() - t1)
            print(services.airflow.query("SELECT dag_id, count(*) FROM log WHERE event = 'running' AND task_id LIKE 'wait%' GROUP BY 1"))
            time.sleep(1)
            for line in services.log("scheduler").splitlines():
                if "Workload finished" in line: print(line)

if __name__ == "__main__":
    main()
