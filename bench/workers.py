"""
What fifty waits cost in workers, by the way of waiting: processes that are started, and seconds that slots are held.

It takes about five minutes: ``python -m bench workers`` runs it alone.

One real Airflow (scheduler with a ``LocalExecutor``, API server, DAG processor, triggerer) runs one DAG for each way,
against one sandbox. A DAG's first task submits the videos, and each of the others waits for one of them. They are of
one kind, which takes a bit more than a minute. Each is polled every five seconds. Only waits count, not submits.

The counterpart is the HTTP provider's ``HttpSensor``, in each of its modes. It can't wait deferrably for a video:
with a ``response_check``, ``deferrable=True`` is ignored and the sensor pokes; without one, the first answer other than
404 ends it, and a relay answers 200 from the beginning. Both are here: the first as a user writes it, the second
with a relay that returns 404 until the video is ready. The others are compared with this best case, although
it returns nothing: whoever wants the video's URL has to poll again.

**Processes** are counted by the scheduler's side: each line *Workload finished* of the executor is one process that
Airflow started for a task instance, be it the first, one after a reschedule, or one after a deferral. The metadata
database counts them, too: the execution API writes a *running* event into the ``log`` table when a process reports
its start. The two have to agree, or the numbers mean nothing.

**Worker seconds** are those lines' durations, summed: from the moment when the executor takes a task from its queue to
the moment when its supervisor has seen the process end. That is Airflow's own time to start and end a process, too.

Where a slot is held or a process started again and again, a machine of two cores can't show fifty at once without
measuring how it is overloaded. So there are fewer such waits, all at once as the others, and the numbers are scaled to
fifty: each of these waits is independent of the others. All others are fifty, two processes of a way at a time. The
two deferrable sensors that are compared run at the same time, so that what disturbs one disturbs the other. Still,
what a process takes says as much about the machine as about the way; how many there are does not.
"""

from __future__ import annotations

import re
import tempfile
import uuid
from functools import partial
from pathlib import Path
from typing import NamedTuple

import requests

from airflow_provider_veo import sandbox
from bench import airflows, show
from tests.system.services import Services

WAITS = 50
FEWER = 5
"""Waits of those ways that hold a slot, or start a process for each poll."""
GENERATION_SECONDS = 75
"""Longer than it takes to start the first process of each wait: one that finds its video there wouldn't wait."""
POLL_INTERVAL = 5
SLOTS = 2
"""Waits of a way that run in a worker at a time, where they don't hold it."""

RUN_ID = "measured"

_SUBMIT = """\
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
"""
_OURS = """\
        VeoVideoSensor(task_id=f"wait_{{n}}", veo_task_id=ids[f"v{{n}}"], poll_interval={poll_interval}, {arguments})
"""
_THEIRS = """\
        HttpSensor(
            task_id=f"wait_{{n}}",
            http_conn_id="relay",
            endpoint="v1/video/query",
            request_params={{"id": ids[f"v{{n}}"]}},
            poke_interval={poll_interval},
            {arguments},
        )
"""
_OUR_IMPORTS = "from airflow_provider_veo.sensors import VeoVideoSensor"
_THEIR_IMPORTS = """\
from airflow.providers.http.sensors.http import HttpSensor


def is_completed(response):
    return response.json()["status"] == "completed"
"""


class Way(NamedTuple):
    """A way of waiting; as many as ``waits`` of it are measured."""

    dag_id: str
    name: str
    arguments: str
    waits: int = WAITS
    holds: bool = False

    @property
    def slots(self) -> int:
        """How many of its waits may be in a worker at a time."""
        return self.waits if self.holds else SLOTS

    def source(self) -> str:
        """Return the DAG file. Each way has its own, for a worker reads all of it."""
        ours = self.dag_id.startswith("veo")
        template = _SUBMIT + (_OURS if ours else _THEIRS)
        return template.format(
            imports=_OUR_IMPORTS if ours else _THEIR_IMPORTS,
            dag_id=self.dag_id,
            waits=self.waits,
            poll_interval=POLL_INTERVAL,
            slots=self.slots,
            arguments=self.arguments,
        )


class Cost(NamedTuple):
    """What the waits of one way took."""

    processes: int
    seconds: list[float]
    """How long each process held its slot."""
    took: float
    """Seconds from the run's beginning to its end."""


POKE = Way("veo_poke", "VeoVideoSensor poke", 'mode="poke"', FEWER, holds=True)
RESCHEDULE = Way("veo_reschedule", "VeoVideoSensor reschedule", 'mode="reschedule"', FEWER)
DEFERRABLE = Way("veo_deferrable", "VeoVideoSensor deferrable", "deferrable=True")
START = Way("veo_start", "  + start_from_trigger", "deferrable=True, start_from_trigger=True")
START_END = Way(
    "veo_start_end", "  + end_from_trigger", "deferrable=True, start_from_trigger=True, end_from_trigger=True"
)
HTTP_POKE = Way("http_poke", "HttpSensor poke", 'mode="poke", response_check=is_completed', FEWER, holds=True)
HTTP_RESCHEDULE = Way(
    "http_reschedule", "HttpSensor reschedule", 'mode="reschedule", response_check=is_completed', FEWER
)
HTTP_CHECK = Way(
    "http_check",
    "HttpSensor deferrable, response_check",
    "deferrable=True, response_check=is_completed",
    FEWER,
    holds=True,
)
HTTP_DEFERRABLE = Way("http_deferrable", "HttpSensor deferrable, on 404", "deferrable=True")

BASELINE = HTTP_DEFERRABLE
WAYS = (POKE, RESCHEDULE, DEFERRABLE, START, START_END, HTTP_POKE, HTTP_RESCHEDULE, HTTP_CHECK, HTTP_DEFERRABLE)
GROUPS = (
    ((POKE, HTTP_POKE, HTTP_CHECK), (RESCHEDULE, HTTP_RESCHEDULE)),
    ((DEFERRABLE, HTTP_DEFERRABLE), (START_END, START)),
)
"""What runs at a time. In a group, the second ones are triggered when all waits of the first ones have begun."""


def measure() -> dict[Way, Cost]:
    """Return what each way took."""
    # The relay of the HttpSensor that defers: its 404 answers take as long as the videos of the others.
    hidden = f"not-found-first={GENERATION_SECONDS // POLL_INTERVAL}@prompt={HTTP_DEFERRABLE.dag_id}"
    with (
        tempfile.TemporaryDirectory(prefix="veo-bench-workers-", ignore_cleanup_errors=True) as folder,
        sandbox.running(generation_seconds=GENERATION_SECONDS, faults=[hidden]) as relay,
    ):
        airflow = airflows.with_dags(Path(folder), relay, {way.dag_id: way.source() for way in WAYS})
        with Services(airflow, parallelism=sum(way.slots for way in WAYS)) as services:
            for first, second in GROUPS:
                show.console.print(f"Running {', '.join(way.dag_id for way in first + second)}")
                _trigger(services, first)
                _trigger(services, second)
                _wait(services, first + second)
            return {way: cost(services, way.dag_id) for way in WAYS}


def report(costs: dict[Way, Cost]) -> None:
    """Print the table."""
    table = show.table(
        f"{WAITS} waits of {GENERATION_SECONDS} s, polled every {POLL_INTERVAL} s",
        "way",
        "waits\nmeasured",
        "worker\nprocesses",
        "\nratio",
        "worker\nseconds",
        "\nratio",
        "seconds a\nprocess",
        "run took",
    )
    totals = {way: _for_all(way, cost) for way, cost in costs.items()}
    for way, cost in costs.items():
        (processes, seconds), (their_processes, their_seconds) = totals[way], totals[BASELINE]
        table.add_row(
            way.name,
            str(way.waits),
            f"{processes:.0f}",
            f"{processes / their_processes:.2f}",
            f"{seconds:.0f}",
            f"{seconds / their_seconds:.2f}",
            f"{seconds / processes:.1f}" if processes else "-",
            f"{cost.took:.0f} s",
        )
    show.console.print(table)
    show.console.print(
        f"Where fewer waits were measured, what they took is scaled to {WAITS}. Ratio: to {BASELINE.name},\n"
        "which needs a relay that returns 404 until the video is ready. With a response_check, which Veo's needs,\n"
        "HttpSensor ignores deferrable=True and pokes."
    )


def _for_all(way: Way, cost: Cost) -> tuple[float, float]:
    """Return processes and worker seconds of as many waits as the title says."""
    return cost.processes * WAITS / way.waits, sum(cost.seconds) * WAITS / way.waits


def _trigger(services: Services, ways: tuple[Way, ...]) -> None:
    for way in ways:
        try:
            services.trigger(way.dag_id, RUN_ID)
        except requests.Timeout:
            # The API server can wait for SQLite behind all those that begin, longer than the client for its answer.
            exists = partial(services.airflow.run_state, way.dag_id, RUN_ID)
            services.wait_until(exists, 60, what=f"the run of {way.dag_id} that was requested")
    for way in ways:
        services.wait_until(partial(_has_begun, services, way), 120, what=f"all waits of {way.dag_id} to begin")


def _wait(services: Services, ways: tuple[Way, ...]) -> None:
    for way in ways:
        state = services.wait_for(way.dag_id, RUN_ID, timeout=300)
        if state != "success":
            raise RuntimeError(f"the run of {way.dag_id} ended as {state}:\n{services.airflow.account()}")


def _has_begun(services: Services, way: Way) -> bool:
    ((waiting,),) = services.airflow.query(
        "SELECT count(*) FROM task_instance "
        "WHERE dag_id = ? AND task_id <> 'submit' AND coalesce(state, 'none') NOT IN ('none', 'scheduled', 'queued')",
        way.dag_id,
    )
    return waiting == way.waits


def cost(services: Services, dag_id: str) -> Cost:
    """Return what the tasks of a DAG took, but for one that is called submit."""
    rows = services.airflow.query("SELECT id FROM task_instance WHERE dag_id = ? AND task_id <> 'submit'", dag_id)
    waits = {uuid.UUID(row[0]) for row in rows}
    ((started,),) = services.airflow.query(
        "SELECT count(*) FROM log WHERE dag_id = ? AND task_id <> 'submit' AND event = 'running'", dag_id
    )

    def seconds() -> list[float]:
        finished = re.findall(r"Workload finished .*\bduration=(\S+) .*\bworkload_id=(\S+)", services.log("scheduler"))
        return [float(duration) for duration, workload in finished if uuid.UUID(workload) in waits]

    # The last ones end a moment after their tasks. More of them than were started would never become right.
    services.wait_until(lambda: len(seconds()) == started, 30, what=f"the end of {started} processes of {dag_id}")
    ((took,),) = services.airflow.query(
        "SELECT (julianday(end_date) - julianday(start_date)) * 86400 FROM dag_run WHERE dag_id = ?", dag_id
    )
    return Cost(started, seconds(), took)
