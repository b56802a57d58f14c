"""
A thousand videos through ``VeoVideoBatchOperator``, against a bare asyncio script, and against mapped tasks.

It takes about eight minutes: ``python -m bench batch`` runs it alone. The sandbox's videos are there at once, so that
what is measured is what everyone else does.

**Against a script.** What one would write in its place: a semaphore, one ``aiohttp`` session, create, wait, ask until
it is completed. It records nothing, checks nothing, and repeats nothing. The operator validates all jobs, has each
intent on the disk (``fsync``) before it sends, records ids and ends, and writes the results; all of that is on the
clock, which runs from the call of ``execute`` to its return. Both have as many videos under way at a time, and both ask
for a video for the first time four poll intervals after it was submitted. The operator then adds up to an interval at
random, so that thousands of waits spread out, and waits for some slots to be free before it fills them: that costs it
time here, and is left in. Both run in this process, and take turns.

**Against mapped tasks.** One task for each video, in a real Airflow with a LocalExecutor: a mapped ``HttpOperator``,
which only submits; a mapped ``VeoCreateVideoOperator``, once only submitting as well, and once waiting for the video;
and the batch operator in one task of the same Airflow. One after the other, each with the whole machine. What counts is
the time of the DAG run, and the jobs in it: fewer for those that are mapped, where each job takes as long as any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import structlog

from airflow_provider_veo import sandbox
from airflow_provider_veo.operators import VeoVideoBatchOperator
from airflow_provider_veo.protocol import payload
from airflow_provider_veo.protocol.waiting import FIRST_LOOK_INTERVALS
from bench import airflows, show
from tests.system.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_veo.sandbox import Sandbox

JOBS = 1000
MAPPED = 100
IN_FLIGHT = (20, 50)
POLL_INTERVAL = 0.05
SHORT_INTERVAL = 0.005
"""The same in the real Airflow, where ``HttpOperator`` waits for nothing at all."""
ROUNDS = 5
WARM_UP = 40
SLOTS = 4
"""Worker slots of the Airflow in which mapped tasks run, on a machine of two cores."""
SCRIPT_TARGET = 0.7
MAPPED_TARGET = 50
MODEL = "veo3-fast"
RUN_ID = "measured"


class Way(NamedTuple):
    """What makes videos in a real Airflow."""

    dag_id: str
    name: str
    jobs: int
    source: str


_DAG = """\
import json
from datetime import datetime, timezone

from airflow.sdk import DAG
{imports}

with DAG("{dag_id}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), max_active_tasks={slots}):
    prompts = [f"{dag_id} {{n}}" for n in range({jobs})]
{tasks}
"""
_CREATE = """\
    VeoCreateVideoOperator.partial(task_id="create", model="{model}"{arguments}).expand(prompt=prompts)
"""
_BATCH = """\
    VeoVideoBatchOperator(
        task_id="make",
        jobs=prompts,
        model="{model}",
        result_path="{folder}",
        max_in_flight={in_flight},
        poll_interval={poll_interval},
        download=False,
    )
"""
_HTTP = """\
    HttpOperator.partial(
        task_id="create",
        http_conn_id="relay",
        endpoint="v1/video/create",
        headers={{"Content-Type": "application/json"}},
        response_filter=lambda response: response.json()["id"],
    ).expand(data=[json.dumps({{**{body}, "prompt": prompt}}) for prompt in prompts])
"""
_OURS = "from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoVideoBatchOperator"
_THEIRS = "from airflow.providers.http.operators.http import HttpOperator"
HTTP = "HttpOperator mapped, submitting only"


class Found(NamedTuple):
    """All that was measured."""

    rounds: dict[int, tuple[list[float], list[float]]]
    """Seconds of the operator and of the script, by how many videos are under way at a time."""
    runs: dict[Way, float]
    """Seconds of a DAG run."""


def measure() -> Found:
    """Return what each took."""
    with (
        tempfile.TemporaryDirectory(prefix="veo-bench-batch-", ignore_cleanup_errors=True) as folder,
        sandbox.running(generation_seconds=0) as relay,
    ):
        return Found(_against_the_script(relay, Path(folder)), _against_mapped_tasks(relay, Path(folder)))


def report(found: Found) -> None:
    """Print both tables, and the verdicts."""
    table = show.table(
        f"{JOBS} jobs, polled after {FIRST_LOOK_INTERVALS * POLL_INTERVAL:g} s: jobs a second, {ROUNDS} rounds",
        "under way at a time",
        "VeoVideoBatchOperator",
        "bare aiohttp script",
        "ratio",
    )
    for in_flight, (ours, theirs) in found.rounds.items():
        table.add_row(str(in_flight), _rates(ours), _rates(theirs), f"{show.ratio(theirs, ours):.2f}")
    show.console.print(table)
    for in_flight, (ours, theirs) in found.rounds.items():
        verdict = show.verdict_at_least(show.ratio(theirs, ours), SCRIPT_TARGET)
        show.console.print(f"Ratio, {in_flight} at a time: {verdict}")
    _report_runs(found.runs)


def _report_runs(runs: dict[Way, float]) -> None:
    table = show.table(
        f"In a real Airflow, {SLOTS} worker slots", "way", "jobs", "run took", "jobs a second", "over HttpOperator"
    )
    rates = {way.name: way.jobs / seconds for way, seconds in runs.items()}
    for way, seconds in runs.items():
        over = rates[way.name] / rates[HTTP]
        table.add_row(way.name, str(way.jobs), f"{seconds:.1f} s", f"{rates[way.name]:.1f}", f"{over:.1f}")
    show.console.print(table)
    for in_flight in IN_FLIGHT:
        over = rates[_batch_name(in_flight)] / rates[HTTP]
        show.console.print(f"Over HttpOperator, {in_flight} at a time: {show.verdict_at_least(over, MAPPED_TARGET)}")


def _rates(seconds: list[float]) -> str:
    rates = [JOBS / each for each in seconds]
    return f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"


def _against_the_script(relay: Sandbox, folder: Path) -> dict[int, tuple[list[float], list[float]]]:
    os.environ["AIRFLOW_CONN_VEO_DEFAULT"] = relay.connection
    sides = _Operator(folder), _Script(relay)
    found: dict[int, tuple[list[float], list[float]]] = {in_flight: ([], []) for in_flight in IN_FLIGHT}
    with _silence():
        for side in sides:
            side.make(WARM_UP, IN_FLIGHT[0])
        _check_that_they_ask_for_the_same(relay)
        for turn in range(ROUNDS):
            for in_flight, seconds in found.items():
                for who in (0, 1) if turn % 2 else (1, 0):
                    relay.reset()
                    begun = time.perf_counter()
                    sides[who].make(JOBS, in_flight)
                    seconds[who].append(time.perf_counter() - begun)
                    _check_that_all_were_made(relay)
    return found


class _Operator:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, jobs: int, in_flight: int) -> None:
        operator = VeoVideoBatchOperator(
            task_id="make",
            jobs=_prompts(jobs),
            model=MODEL,
            result_path=f"file://{tempfile.mkdtemp(dir=self._folder)}",
            max_in_flight=in_flight,
            poll_interval=POLL_INTERVAL,
            download=False,
            deferrable=False,
        )
        about = {"dag_id": "bench", "run_id": RUN_ID, "task_id": "make", "map_index": -1, "try_number": 1}
        done = operator.execute({"ti": SimpleNamespace(**about, xcom_push=lambda **_: None)})
        if done["succeeded"] != jobs:
            raise RuntimeError(f"not all videos were made: {done}")


class _Script:
    def __init__(self, relay: Sandbox) -> None:
        self._relay = relay

    def make(self, jobs: int, in_flight: int) -> None:
        urls = asyncio.run(self._make(_prompts(jobs), in_flight))
        if len(set(urls)) != jobs:
            raise RuntimeError(f"not all videos were made: {len(set(urls))} of {jobs}")

    async def _make(self, prompts: list[str], in_flight: int) -> list[str]:
        slots = asyncio.Semaphore(in_flight)
        headers = {"Authorization": f"Bearer {self._relay.api_key}", "Accept": "application/json"}
        async with aiohttp.ClientSession(self._relay.url, headers=headers) as session:

            async def make_one(prompt: str) -> str:
                async with slots:
                    async with session.post("/v1/video/create", json=_body(prompt)) as response:
                        veo_task_id = (await response.json())["id"]
                    await asyncio.sleep(FIRST_LOOK_INTERVALS * POLL_INTERVAL)
                    while True:
                        async with session.get("/v1/video/query", params={"id": veo_task_id}) as response:
                            video = await response.json()
                        if video["status"] == "completed":
                            return video["video_url"]
                        await asyncio.sleep(POLL_INTERVAL)

            return await asyncio.gather(*map(make_one, prompts))


def _prompts(count: int) -> list[str]:
    return [f"A ginger cat under a red umbrella walks along the river at night, take {n}" for n in range(count)]


def _body(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "model": MODEL, **_DEFAULTS}


_DEFAULTS = {name: value for name, value in payload.build("-", MODEL).items() if name not in ("prompt", "model")}


def _check_that_they_ask_for_the_same(relay: Sandbox) -> None:
    bodies = [request["body"] for request in relay.requests()]
    ours, theirs = (sorted(json.dumps(body, sort_keys=True) for body in half) for half in _halves(bodies))
    if ours != theirs:
        raise RuntimeError(f"the two don't send the same requests:\n{ours[0]}\n{theirs[0]}")


def _halves(items: list[Any]) -> tuple[list[Any], list[Any]]:
    return items[: len(items) // 2], items[len(items) // 2 :]


def _check_that_all_were_made(relay: Sandbox) -> None:
    stats = relay.stats()
    if stats["accepted"] != JOBS or stats["requests"].get("query") != JOBS:
        raise RuntimeError(f"{JOBS} videos should be accepted, each polled once: {stats}")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Write no log: the script has none."""
    before = structlog.get_config()["wrapper_class"]
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        structlog.configure(wrapper_class=before)


def _batch_name(in_flight: int) -> str:
    return f"VeoVideoBatchOperator, {in_flight} at a time"


def _ways(folder: Path) -> list[Way]:
    def way(name: str, dag_id: str, jobs: int, tasks: str, imports: str = _OURS, **values: Any) -> Way:
        made = tasks.format(model=MODEL, poll_interval=SHORT_INTERVAL, **values)
        return Way(dag_id, name, jobs, _DAG.format(imports=imports, dag_id=dag_id, slots=SLOTS, jobs=jobs, tasks=made))

    waiting = f", wait_for_completion=True, deferrable=False, poll_interval={SHORT_INTERVAL}"
    batches = [
        way(
            _batch_name(in_flight),
            f"veo_batch_{in_flight}",
            JOBS,
            _BATCH,
            in_flight=in_flight,
            folder=f"file://{folder}/batch-{in_flight}",
        )
        for in_flight in IN_FLIGHT
    ]
    return [
        *batches,
        way("VeoCreateVideoOperator mapped, submitting only", "veo_mapped", MAPPED, _CREATE, arguments=""),
        way("VeoCreateVideoOperator mapped, waiting", "veo_mapped_wait", MAPPED, _CREATE, arguments=waiting),
        way(HTTP, "http_mapped", MAPPED, _HTTP, _THEIRS, body=_body("")),
    ]


def _against_mapped_tasks(relay: Sandbox, folder: Path) -> dict[Way, float]:
    ways = _ways(folder)
    airflow = airflows.with_dags(folder, relay, {way.dag_id: way.source for way in ways})
    with Services(airflow, parallelism=SLOTS) as services:
        return {way: _run(services, relay, way) for way in ways}


def _run(services: Services, relay: Sandbox, way: Way) -> float:
    show.console.print(f"Running {way.dag_id}")
    relay.reset()
    services.trigger(way.dag_id, RUN_ID)
    state = services.wait_for(way.dag_id, RUN_ID, timeout=900)
    if state != "success" or relay.stats()["accepted"] != way.jobs:
        raise RuntimeError(f"the run of {way.dag_id} ended as {state}: {relay.stats()}\n{services.airflow.account()}")
    ((took,),) = services.airflow.query(
        "SELECT (julianday(end_date) - julianday(start_date)) * 86400 FROM dag_run WHERE dag_id = ?", way.dag_id
    )
    return took
