"""
What a night of 200 videos costs in workers: processes that are started, and seconds that slots are held.

It takes about seven minutes: ``python -m bench night`` runs it alone.

One real Airflow runs one DAG for each way, all at the same time, against one sandbox whose videos take a minute. At
most fifty videos are under way at a time in each DAG, and everyone polls every five seconds. Submits and waits count.

The batch operator makes all 200 in one task. The others are mapped: a task group for each video, of a task that submits
and one that waits. These pairs are independent of each other, so fifty of them are measured, and the numbers are scaled
to 200. Those that hold a slot while they wait are fewer still.

The counterparts are ``HttpOperator`` and ``HttpSensor``. With a ``response_check``, which Veo's status needs, the
sensor pokes although it is deferrable. Without one it defers until an answer is not a 404: that is what the others are
compared with, its best case, with a relay made for it. :mod:`bench.workers` describes how the numbers are measured.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_veo import sandbox
from airflow_provider_veo.protocol import payload
from bench import airflows, show
from bench.workers import Cost, cost
from tests.system.services import Services

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox import Sandbox

VIDEOS = 200
IN_FLIGHT = 50
FEWER = 5
"""Videos of the way that holds a slot for each."""
GENERATION_SECONDS = 60
POLL_INTERVAL = 5
SLOTS = 2
"""Tasks of a mapped way that are in a worker at a time, where they don't hold it."""
TIMEOUT = 1500
RUN_ID = "measured"

_DAG = """\
import json
from datetime import datetime, timezone

from airflow.sdk import DAG, task_group
{imports}

with DAG(
    "{dag_id}",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    max_active_tasks={slots},
    # Who waits goes before who submits: videos are waited for as soon as they are submitted.
    default_args={{"weight_rule": "upstream"}},
):
    prompts = [f"{dag_id} {{n}}" for n in range({videos})]
{tasks}
"""
_BATCH = """\
    VeoVideoBatchOperator(
        task_id="make",
        jobs=prompts,
        model="veo3-fast",
        result_path="{folder}/{dag_id}",
        max_in_flight={in_flight},
        poll_interval={poll_interval},
        download=False,
        {arguments},
    )
"""
_OURS = """\
    @task_group
    def make(prompt):
        created = VeoCreateVideoOperator(task_id="create", prompt=prompt, model="veo3-fast")
        VeoVideoSensor(task_id="wait", veo_task_id=created.output, poll_interval={poll_interval}, {arguments})

    make.expand(prompt=prompts)
"""
_THEIRS = """\
    @task_group
    def make(data):
        created = HttpOperator(
            task_id="create",
            http_conn_id="relay",
            endpoint="v1/video/create",
            headers={{"Content-Type": "application/json"}},
            data=data,
            response_filter=lambda response: response.json()["id"],
        )
        HttpSensor(
            task_id="wait",
            http_conn_id="relay",
            endpoint="v1/video/query",
            request_params={{"id": created.output}},
            poke_interval={poll_interval},
            {arguments},
        )

    make.expand(data=[json.dumps({{**{body}, "prompt": prompt}}) for prompt in prompts])
"""
_OUR_IMPORTS = """\
from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.sensors import VeoVideoSensor
"""
_THEIR_IMPORTS = """\
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor


def is_completed(response):
    return response.json()["status"] == "completed"
"""


class Way(NamedTuple):
    """A way of making a night's videos; as many as ``videos`` of it are measured."""

    dag_id: str
    name: str
    tasks: str
    arguments: str
    videos: int
    slots: int

    def source(self, folder: Path) -> str:
        """Return the DAG file."""
        tasks = self.tasks.format(
            body=payload.build("-", "veo3-fast"),
            dag_id=self.dag_id,
            folder=f"file://{folder}",
            in_flight=IN_FLIGHT,
            poll_interval=POLL_INTERVAL,
            arguments=self.arguments,
        )
        imports = _THEIR_IMPORTS if self.tasks is _THEIRS else _OUR_IMPORTS
        return _DAG.format(imports=imports, dag_id=self.dag_id, slots=self.slots, videos=self.videos, tasks=tasks)

    def for_all(self, of_it: Cost) -> tuple[float, float]:
        """Return processes and worker seconds of as many videos as a night has."""
        return of_it.processes * VIDEOS / self.videos, sum(of_it.seconds) * VIDEOS / self.videos


BATCH = Way("veo_batch", "VeoVideoBatchOperator", _BATCH, "deferrable=False", VIDEOS, 1)
DEFERRABLE = Way("veo_batch_deferrable", "  deferrable", _BATCH, "deferrable=True", VIDEOS, 1)
MAPPED = Way("veo_mapped", "mapped create + VeoVideoSensor, deferrable", _OURS, "deferrable=True", IN_FLIGHT, SLOTS)
HTTP_CHECK = Way(
    "http_check",
    "mapped HttpOperator + HttpSensor, response_check",
    _THEIRS,
    "deferrable=True, response_check=is_completed",
    FEWER,
    FEWER,
)
HTTP = Way("http_mapped", "mapped HttpOperator + HttpSensor, on 404", _THEIRS, "deferrable=True", IN_FLIGHT, SLOTS)
WAYS = (BATCH, DEFERRABLE, MAPPED, HTTP_CHECK, HTTP)
BASELINE = HTTP


def measure() -> dict[Way, Cost]:
    """Return what each way took."""
    hidden = f"not-found-first={GENERATION_SECONDS // POLL_INTERVAL}@prompt={HTTP.dag_id}"
    with (
        tempfile.TemporaryDirectory(prefix="veo-bench-night-", ignore_cleanup_errors=True) as folder,
        sandbox.running(generation_seconds=GENERATION_SECONDS, faults=[hidden]) as relay,
    ):
        airflow = airflows.with_dags(
            Path(folder), relay, {way.dag_id: way.source(Path(folder) / "results") for way in WAYS}
        )
        with Services(airflow, parallelism=sum(way.slots for way in WAYS)) as services:
            show.console.print(f"Running {', '.join(way.dag_id for way in WAYS)}")
            for way in WAYS:
                services.trigger(way.dag_id, RUN_ID)
            for way in WAYS:
                state = services.wait_for(way.dag_id, RUN_ID, timeout=TIMEOUT)
                if state != "success":
                    raise RuntimeError(f"the run of {way.dag_id} ended as {state}:\n{services.airflow.account()}")
            _check(relay)
            return {way: cost(services, way.dag_id) for way in WAYS}


def report(costs: dict[Way, Cost]) -> None:
    """Print the table."""
    table = show.table(
        f"A night of {VIDEOS} videos of {GENERATION_SECONDS} s, {IN_FLIGHT} at a time, polled every {POLL_INTERVAL} s",
        "way",
        "videos\nmeasured",
        "worker\nprocesses",
        "\nratio",
        "worker\nseconds",
        "\nratio",
        "run took",
    )
    their_processes, their_seconds = BASELINE.for_all(costs[BASELINE])
    for way, of_it in costs.items():
        processes, seconds = way.for_all(of_it)
        table.add_row(
            way.name,
            str(way.videos),
            f"{processes:.0f}",
            f"{processes / their_processes:.3f}",
            f"{seconds:.0f}",
            f"{seconds / their_seconds:.3f}",
            f"{of_it.took:.0f} s",
        )
    show.console.print(table)
    show.console.print(
        f"Where fewer videos were measured, what they took is scaled to {VIDEOS}. Ratio: to {BASELINE.name},\n"
        "which needs a relay that returns 404 until the video is ready."
    )


def _check(relay: Sandbox) -> None:
    """Make sure that each way has made what it was to make, once."""
    stats = relay.stats()
    wanted = sum(way.videos for way in WAYS)
    if stats["accepted"] != wanted or stats["paid_twice"]:
        raise RuntimeError(f"{wanted} videos were to be made, and the relay accepted {stats}: the numbers mean nothing")
