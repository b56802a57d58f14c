"""Runs tasks in a real Airflow against a relay that counts, kills what is to be killed, and collects the evidence."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_veo import sandbox
from tests.chaos import killer
from tests.chaos.plans import GENERATION_SECONDS, READ_TIMEOUT, prompt
from tests.chaos.points import WHILE_DEFERRED
from tests.chaos.verdict import Run
from tests.conftest import CANARY
from tests.system.conftest import PROJECT, make_airflow
from tests.system.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_veo.sandbox import Sandbox
    from tests.chaos.batches import Batch
    from tests.chaos.plans import Plan
    from tests.system.conftest import Airflow

DAGS = Path(__file__).parent / "dags"
RUN_ID = "chaos"
PARALLELISM = 16
"""More than the machine has use for: workers are frozen."""
PRELOAD = 'import sys\n\nif "scheduler" in sys.argv:\n    import tests.chaos.preload\n'
SECONDS_BETWEEN_KILLS = 10
ENOUGH_DEFERRED = 3
SECONDS_AFTER_THE_THAW = 5

TUNING = {
    # A frozen worker is found dead soon. Its processes resume later: see FROZEN_SECONDS.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64",
}


class Place(NamedTuple):
    """A relay and an Airflow that run."""

    relay: Sandbox
    services: Services
    strikes: Path
    """The file in which each strike is written down."""


@contextlib.contextmanager
def running(
    template: Path, folder: Path, variables: Mapping[str, str], extra: Mapping[str, Any] | None = None, **relays: Any
) -> Iterator[Place]:
    """
    Run a relay, and an Airflow with the connection ``veo_default`` to it.

    :param template: an Airflow home with a database, to be copied.
    :param folder: an empty one, for everything that is written.
    :param variables: more of Airflow's environment.
    :param extra: more of the connection's.
    :param relays: more of the relay's settings.
    """
    home = folder / "airflow"
    shutil.copytree(template, home)
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "airflow_local_settings.py").write_text(PRELOAD)
    with sandbox.running(generation_seconds=GENERATION_SECONDS, api_key=CANARY, **relays) as relay:
        connection = {**json.loads(relay.connection), "extra": {"read_timeout": READ_TIMEOUT, **(extra or {})}}
        headers = {"Authorization": f"Bearer {relay.api_key}"}
        strikes = folder / "strikes"
        environment = {
            **TUNING,
            "AIRFLOW_CONN_VEO_DEFAULT": json.dumps(connection),
            # The same for the HTTP provider, whose extra are headers.
            "AIRFLOW_CONN_RELAY": json.dumps({"conn_type": "http", "host": relay.url, "extra": headers}),
            killer.STRIKES: str(strikes),
            **variables,
        }
        if "PYTHONPATH" in variables:
            environment["PYTHONPATH"] = os.pathsep.join([variables["PYTHONPATH"], str(PROJECT)])
        airflow = make_airflow(home, DAGS, **environment)
        with Services(airflow, parallelism=PARALLELISM) as services:
            yield Place(relay, services, strikes)


def run_to_the_end(place: Place, dag_id: str, timeout: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    """
    Run a DAG until all its tasks have ended, and all frozen processes have resumed and ended, too.

    :param meanwhile: is called again and again.
    """

    def ended() -> bool:
        meanwhile()
        return place.services.airflow.run_state(dag_id, RUN_ID) in ("success", "failed")

    place.services.trigger(dag_id, RUN_ID)
    place.services.wait_until(ended, timeout, what=f"the end of {dag_id}")
    thawed = [strike["time"] + killer.FROZEN_SECONDS for strike in killer.strikes(place.strikes) if _froze(strike)]
    while thawed and time.time() < max(thawed) + SECONDS_AFTER_THE_THAW:
        time.sleep(0.5)


def _froze(strike: dict) -> bool:
    return strike["manner"] == "freeze"


class TriggererKiller:
    """
    Kills the triggerer and starts another one, every now and then, when there is something in it.

    :param plans: by task id and map index.
    :param seconds: between two kills, from the triggerer's start on.
    """

    def __init__(
        self,
        place: Place,
        dag_id: str,
        plans: Mapping[tuple[str, int], Plan | Batch],
        seconds: float = SECONDS_BETWEEN_KILLS,
    ) -> None:
        self._place = place
        self._dag_id = dag_id
        self._plans = plans
        self._seconds = seconds
        self._last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last < self._seconds:
            return
        services = self._place.services
        deferred = [row for row in services.task_instances(self._dag_id, RUN_ID) if row.state == "deferred"]
        if len(deferred) < ENOUGH_DEFERRED:
            return
        services.kill("triggerer")
        for row in deferred:
            seed = self._plans[row.task_id, row.map_index].seed
            killer.write_down(str(self._place.strikes), seed, row.try_number, WHILE_DEFERRED, "kill")
        services.start("triggerer")
        self._last = time.monotonic()


def runs(
    place: Place, dag_id: str, plans: Mapping[tuple[str, int], Plan], records: Mapping[tuple[str, int], dict]
) -> list[Run]:
    """
    Return what is left of each task instance.

    :param plans: by task id and map index.
    :param records: what the journal says, likewise.
    """
    airflow = place.services.airflow
    xcoms, logs = airflow.xcoms(dag_id, RUN_ID), logs_of(airflow, dag_id)
    videos, strikes = accepted_by_prompt(place.relay), killer.strikes(place.strikes)
    return [
        Run(
            plan=(run := plans[key := (row.task_id, row.map_index)]),
            state=row.state,
            tries=row.try_number,
            result=xcoms.get((row.task_id, "return_value", row.map_index)),
            log=logs[key],
            videos=videos[prompt(run.seed)],
            record=records.get(key),
            strikes=[strike for strike in strikes if strike["seed"] == run.seed],
        )
        for row in airflow.task_instances(dag_id, RUN_ID)
    ]


def logs_of(airflow: Airflow, dag_id: str) -> dict[tuple[str, int], str]:
    """Return all tries' logs by task id and map index."""
    logs: dict[tuple[str, int], str] = defaultdict(str)
    for name, text in airflow.task_logs(dag_id, RUN_ID).items():
        parts = dict(part.split("=", 1) for part in Path(name).parts[:-1])
        logs[parts["task_id"], int(parts.get("map_index", -1))] += text
    return logs


def accepted_by_prompt(relay: Sandbox) -> dict[str, list[dict]]:
    """Return the videos that the relay has accepted, oldest first, by their prompts."""
    videos: dict[str, list[dict]] = defaultdict(list)
    for video in relay.videos():
        videos[video["prompt"]].append(video)
    return videos
