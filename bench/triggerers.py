"""
Two thousand videos waited for in a real Airflow with two triggerers: what they cost, and how that grows from 250.

It takes about a quarter of an hour: ``python -m bench triggerers`` runs it alone. It needs PostgreSQL, see
``make test-distributed``.

One Airflow on PostgreSQL, with a scheduler and two triggerers that are new each time, runs 250, 500, 1,000 and 2,000
sensors that begin and end in the triggerer, so that no worker has a part in it, 50 of them in a DAG: Airflow sends the
whole DAG along with each of them. When each has been polled once and all of them wait, a window is measured: what the
triggerers use of the processor (their supervisors too), and how many polls the sandbox gets. Memory is what is
theirs alone (the unique set), less that before, when they had waited for 20 others. Then the sandbox says that all
videos are ready. The time is measured from the first task instance that ended to the last one: each is noticed at its
next poll, so it takes at least a poll interval.

There is no counterpart, but the smaller night.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_veo import sandbox
from bench import airflows, show
from bench.waiting import submit
from tests.distributed.servers import PostgreSQL
from tests.system.services import Services

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox import Sandbox

WARM_UP = 20
"""Videos before: modules are loaded then, and connections are open."""
SIZES = (250, 500, 1000, 2000)
IN_A_DAG = 50
TRIGGERERS = ("triggerer-1", "triggerer-2")
POLL_INTERVAL = 15.0
WINDOW_SECONDS = 30.0
PATIENCE = 600
PLOT = Path(__file__).parents[1] / "docs" / "img" / "triggerers.png"
CPU_TARGET = 1.5
MEMORY_TARGET = 1.5
"""What a video costs among 2,000, over what it costs among 250."""

_DAG = """\
from datetime import datetime, timezone

from airflow.sdk import DAG

from airflow_provider_veo.sensors import VeoVideoSensor

for number, ids in enumerate({ids}):
    with DAG(
        f"{name}_{{number}}",
        schedule="@once",
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        is_paused_upon_creation=False,
        max_active_tasks=10_000,
    ):
        for place, veo_task_id in enumerate(ids):
            VeoVideoSensor(
                task_id=f"wait_{{place}}",
                veo_task_id=veo_task_id,
                deferrable=True,
                start_from_trigger=True,
                end_from_trigger=True,
                poll_interval={poll_interval},
            )
"""

_BY_TRIGGERER = 'SELECT hostname, count(*) FROM "trigger" JOIN job ON job.id = triggerer_id GROUP BY 1 ORDER BY 1'
_DEFERRED_WITHIN = 'SELECT cast(extract(epoch FROM max(created_date) - min(created_date)) AS float) FROM "trigger"'
_ENDED_WITHIN = (
    "SELECT cast(extract(epoch FROM max(end_date) - min(end_date)) AS float) FROM task_instance WHERE dag_id LIKE ?"
)
_SUCCEEDED = "SELECT count(*) FROM task_instance WHERE dag_id LIKE ? AND state = 'success'"


@dataclass
class Waits:
    """What these waits cost."""

    size: int
    by_triggerer: dict[str, int]
    cpu: float
    """Seconds of processor time in each second, of both triggerers."""
    polls: float
    """In each second."""
    memory: int
    """Bytes that the waits have added to both triggerers."""
    deferred_within: float
    """Seconds from the first deferral to the last."""
    ended_within: float
    """Seconds from the first end to the last."""


def measure() -> list[Waits]:
    """Return what each size costs."""
    with (
        tempfile.TemporaryDirectory(prefix="veo-bench-triggerers-", ignore_cleanup_errors=True) as folder,
        sandbox.running(generation_seconds=1e6) as relay,
        PostgreSQL("bench") as postgresql,
    ):
        airflow = airflows.with_dags(Path(folder), relay, {}, AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql.url)
        with Services(airflow, ("api-server", "dag-processor", "scheduler")) as services:
            return [_with_new_triggerers(services, relay, size) for size in SIZES]


def report(found: list[Waits]) -> None:
    """Print the table and the verdicts, and draw the plot."""
    table = show.table("Videos waited for by two triggerers", "", *(f"{each.size:,} videos" for each in found))
    table.add_row("on each triggerer", *(" + ".join(map(str, each.by_triggerer.values())) for each in found))
    table.add_row("polls in a second", *(f"{each.polls:.1f}" for each in found))
    table.add_row("processor, both", *(f"{each.cpu:.0%}" for each in found))
    table.add_row("of it for each video", *(f"{each.cpu / each.size * 1e6:.0f} µs/s" for each in found))
    table.add_row("memory added, both", *(f"{each.memory / 2**20:.1f} MiB" for each in found))
    table.add_row("of it for each video", *(f"{each.memory / each.size / 1024:.1f} KiB" for each in found))
    table.add_row("deferred, in a second", *(f"{each.size / each.deferred_within:.0f}" for each in found))
    table.add_row("ended, in a second", *(f"{each.size / each.ended_within:.0f}" for each in found))
    show.console.print(table)
    least, most = found[0], found[-1]
    cpu = (most.cpu / most.size) / (least.cpu / least.size)
    memory = (most.memory / most.size) / (least.memory / least.size)
    between = f"for each video among {most.size:,}, over that among {least.size:,}"
    show.console.print(f"Processor {between}: {show.verdict(cpu, CPU_TARGET)}")
    show.console.print(f"Memory {between}: {show.verdict(memory, MEMORY_TARGET)}")
    _draw(found)
    show.console.print(f"Drawn: {PLOT.name}")


def _with_new_triggerers(services: Services, relay: Sandbox, size: int) -> Waits:
    # A triggerer takes as many as it has room for: with room for half, the two share them.
    services.airflow.environment["AIRFLOW__TRIGGERER__CAPACITY"] = str(size // 2)
    services.start(*TRIGGERERS)
    _measured(services, relay, f"warm_up_{size}", WARM_UP)
    found = _measured(services, relay, f"waits_{size}", size)
    services.stop(*TRIGGERERS)
    return found


def _measured(services: Services, relay: Sandbox, name: str, size: int) -> Waits:
    relay.configure(generation_seconds=1e6)
    ids = submit(relay, size)
    dags = [ids[first : first + IN_A_DAG] for first in range(0, size, IN_A_DAG)]
    memory = _memory(services)
    source = _DAG.format(name=name, ids=dags, poll_interval=POLL_INTERVAL)
    (services.airflow.dags / f"{name}.py").write_text(source)
    services.wait_until(lambda: _polled(relay) >= set(ids), PATIENCE, what=f"a poll for each of {size} videos")
    time.sleep(POLL_INTERVAL)  # the window is like any other
    hosts = services.airflow.query(_BY_TRIGGERER)
    ((deferred_within,),) = services.airflow.query(_DEFERRED_WITHIN)

    began, cpu, polls = time.monotonic(), _cpu(services), _polls(relay)
    time.sleep(WINDOW_SECONDS)
    seconds = time.monotonic() - began
    cpu, polls, memory = _cpu(services) - cpu, _polls(relay) - polls, _memory(services) - memory

    relay.configure(generation_seconds=0)
    theirs = f"{name}_%"
    services.wait_until(
        lambda: services.airflow.query(_SUCCEEDED, theirs) == [(size,)], PATIENCE, what=f"{size} sensors to succeed"
    )
    ((ended_within,),) = services.airflow.query(_ENDED_WITHIN, theirs)
    return Waits(size, dict(hosts), cpu / seconds, polls / seconds, memory, deferred_within, ended_within)


def _polled(relay: Sandbox) -> set[str]:
    return {video["id"] for video in relay.videos() if video["queries"]}


def _polls(relay: Sandbox) -> int:
    return relay.stats()["requests"]["query"]


def _cpu(services: Services) -> float:
    """Return the seconds of processor time that the triggerers have used."""
    times = [process.cpu_times() for process in services.processes(*TRIGGERERS)]
    return sum(each.user + each.system for each in times)


def _memory(services: Services) -> int:
    return sum(process.memory_full_info().uss for process in services.processes(*TRIGGERERS))


def _draw(found: list[Waits]) -> None:
    from matplotlib.figure import Figure

    sizes = [each.size for each in found]
    figure = Figure(figsize=(9, 3), layout="constrained")
    curves = {
        "processor, both (% of a core)": [each.cpu * 100 for each in found],
        "memory added, both (MiB)": [each.memory / 2**20 for each in found],
        "ends in a second": [each.size / each.ended_within for each in found],
    }
    for axes, (title, values) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
        axes.plot(sizes, values, marker="o")
        axes.set(title=title, xlabel="videos waited for", xlim=0, ylim=0)
        axes.set_xticks(sizes)
        axes.tick_params(axis="x", rotation=45)
        axes.grid(alpha=0.3)
    figure.savefig(PLOT, dpi=120)
