"""Runs a night on a distributed Airflow, causes the faults of a bad one, and collects what is left of it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.airflow_lines import TASK_INSTANCES
from tests.distributed.dags.veo_night import BATCHED, POOL
from tests.distributed.report import tell

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox import Sandbox
    from tests.distributed.servers import PostgreSQL
    from tests.system.services import Services

WORKERS = ("celery-worker-1", "celery-worker-2")
SCHEDULERS = ("scheduler-1", "scheduler-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
SERVICES = ("api-server", "dag-processor", *SCHEDULERS, *TRIGGERERS, *WORKERS)
SLOTS = 6
"""Of the pool in which everything is that pays."""
DAG_ID, RUN_ID = "veo_night", "night"
MANY = 5
"""Triggers."""
PATIENCE = 240
GENERATION_SECONDS = 15
NO_END = 3600
"""Seconds that a generation takes while none is to end."""
_CONNECTION = "/api/v2/connections/veo_default"

# What each of the processes has under way, by host.
_TASKS = f"SELECT task_id, map_index, hostname FROM {TASK_INSTANCES} ti WHERE state = 'running' AND hostname <> ''"
_TRIGGERS = (
    f"SELECT ti.task_id, ti.map_index, job.hostname FROM {TASK_INSTANCES} ti "
    'JOIN "trigger" ON "trigger".id = ti.trigger_id JOIN job ON job.id = triggerer_id '
    "WHERE ti.state = 'deferred'"
)
_QUEUED = (
    f"SELECT ti.task_id, ti.map_index, job.hostname FROM {TASK_INSTANCES} ti JOIN job ON job.id = ti.queued_by_job_id "
    "WHERE ti.state = 'queued'"
)


@dataclass
class Strike:
    """A process that was killed, with the task instances that it had under way."""

    service: str
    time: float
    struck: list[tuple[str, int]]


@dataclass
class Night:
    """A run of the DAG, and what happens to it."""

    services: Services
    relay: Sandbox
    postgresql: PostgreSQL
    strikes: dict[str, Strike] = field(default_factory=dict)

    def begin(self) -> None:
        pool = {"name": POOL, "slots": SLOTS, "include_deferred": False}
        self._ask("POST", "/api/v2/pools", pool)
        self.services.trigger(DAG_ID, RUN_ID)
        self._tell("the night began")

    def end(self) -> str:
        state = self.services.wait_for(DAG_ID, RUN_ID, timeout=600)
        self._tell(f"the night ended: {state}")
        return state

    def wait_for_the_first_wave(self) -> None:
        """Until half of the batch is submitted."""

        def half_is_submitted() -> bool:
            prompts = self.relay.stats()["accepted_by_prompt"]
            return sum(prompt.startswith("batched") for prompt in prompts) >= BATCHED / 2

        self.services.wait_until(half_is_submitted, PATIENCE, what="half of the batch to be submitted")

    def kill_a_worker(self) -> None:
        """While it stores and submits for the batch, and runs other tasks besides."""
        self._kill("worker", _TASKS, 2, also=("batch", -1))

    def kill_a_triggerer(self) -> None:
        """While no video becomes ready, so that it has many triggers however slowly they come."""
        self.relay.configure(generation_seconds=NO_END)
        self._kill("triggerer", _TRIGGERS, MANY)
        self.relay.configure(generation_seconds=GENERATION_SECONDS)

    def kill_a_scheduler(self) -> None:
        self._kill("scheduler", _QUEUED, 2)

    def restart_the_database(self) -> None:
        self.services.wait_until(lambda: len(self.services.airflow.query(_TASKS)) > 2, PATIENCE, what="running tasks")
        begun = time.monotonic()
        self.postgresql.restart()
        self._tell(f"PostgreSQL was restarted, and away for {time.monotonic() - begun:.1f} s")

    def rotate_the_key(self, key: str) -> dict[str, int]:
        """
        Change the relay's key, and the one in the connection, while no worker asks anything. Triggers ask on.

        No video becomes ready meanwhile, so that each trigger still has to ask with the key it began with.

        :return: how many triggers each triggerer runs meanwhile.
        """
        self.relay.configure(generation_seconds=NO_END)
        self.services.wait_until(self._many_wait, PATIENCE, what=f"{MANY} triggers")
        for pool in (POOL, "default_pool"):
            self._set_slots(pool, 0)
        busy = f"SELECT 1 FROM {TASK_INSTANCES} ti WHERE state IN ('queued', 'running', 'restarting')"
        self.services.wait_until(lambda: not self.services.airflow.query(busy), PATIENCE, what="the workers to be idle")
        self._wait_for_queries(self.relay.stats()["requests"]["query"] + MANY)
        waiting = Counter(host for *_, host in self.services.airflow.query(_TRIGGERS))
        self.store_connection(key)  # those who have looked it up before still use the old one
        self.relay.configure(api_key=key)
        self.services.wait_until(self._a_key_was_refused, PATIENCE, what="a query with the old key")
        self.relay.configure(generation_seconds=GENERATION_SECONDS)
        for pool, slots in (POOL, SLOTS), ("default_pool", 128):
            self._set_slots(pool, slots)
        self._tell(f"the key was rotated while these triggers waited: {dict(waiting)}")
        return waiting

    def _wait_for_queries(self, number: int) -> None:
        self.services.wait_until(
            lambda: self.relay.stats()["requests"]["query"] >= number, PATIENCE, what=f"{number} queries"
        )

    def _a_key_was_refused(self) -> bool:
        return self.relay.stats()["answers"]["query"].get("401", 0) > 0

    def _many_wait(self) -> bool:
        return len(self.services.airflow.query(_TRIGGERS)) >= MANY

    def store_connection(self, key: str, *, is_new: bool = False) -> None:
        """Put the connection into the metadata database, or another key into it."""
        document = {"connection_id": "veo_default", "conn_type": "veo", "host": self.relay.url, "password": key}
        self._ask(*(("POST", "/api/v2/connections") if is_new else ("PATCH", _CONNECTION)), document)

    def _set_slots(self, pool: str, slots: int) -> None:
        document = {"pool": pool, "slots": slots, "include_deferred": False}
        self._ask("PATCH", f"/api/v2/pools/{pool}?update_mask=slots", document)

    def _ask(self, method: str, path: str, document: object) -> None:
        answer = self.services.ask(method, path, document)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"

    def _tell(self, text: str) -> None:
        ended = dict(
            self.services.airflow.query(
                f"SELECT task_id, count(*) FROM {TASK_INSTANCES} ti WHERE state = 'success' GROUP BY task_id"
            )
        )
        counts = f"{self.relay.stats()['accepted']} videos, {ended.get('video.create', 0)} creates"
        tell(f"{text} ({counts} and {ended.get('video.wait', 0)} waits had ended)")

    def _kill(self, what: str, query: str, enough: int, also: tuple[str, int] | None = None) -> None:
        """Kill the process that has the most under way, as soon as that is enough, and start it again."""
        found: dict[str, list[tuple[str, int]]] = {}

        def is_busy() -> bool:
            found.clear()
            for task_id, map_index, host in self.services.airflow.query(query):
                found.setdefault(host, []).append((task_id, map_index))
            for host in [host for host, busy in found.items() if len(busy) < enough or (also and also not in busy)]:
                del found[host]
            return bool(found)

        self.services.wait_until(is_busy, PATIENCE, what=f"a {what} to be busy")
        service = max(found, key=lambda host: len(found[host]))
        self.services.kill(service)
        self.strikes[what] = Strike(service, time.time(), found[service])
        self._tell(f"{service} was killed, which had {len(found[service])} task instances under way")
        self.services.start(service)
        self._tell(f"{service} was up again after {self.services.seconds_to_start[service]:.1f} s")
