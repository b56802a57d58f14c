"""A task instance in memory, with the parts of Airflow's that tasks of this provider use.

XComs and the task state store hold JSON, as in Airflow: what can't be serialized raises, and what is read is a copy.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from importlib import import_module
from types import SimpleNamespace

from airflow.providers.common.compat.sdk import TaskDeferred

from tests.airflow_lines import LINE

RUN_DATE = datetime(2026, 11, 22, 1, tzinfo=timezone.utc)


class TaskStateStore:
    """Values of one task instance, kept across its tries."""

    def __init__(self):
        self._values = {}

    def get(self, key, default=None):
        return json.loads(self._values[key]) if key in self._values else default

    def set(self, key, value, *, retention=None):
        if value is None:
            raise ValueError("Cannot set value as None")
        if copied(value) != value:
            raise ValueError(f"Not a JSON value: {value!r}")
        self._values[key] = json.dumps(value)

    def delete(self, key):
        self._values.pop(key, None)

    def clear(self):
        self._values.clear()


class TaskInstance:
    """
    A task instance.

    :param task_id: of its task.
    :param rescheduled_at: when a sensor in mode ``reschedule`` was rescheduled first.
    :param has_store: whether Airflow has a task state store: only 3.3 and later do.
    """

    dag_id = "veo"
    run_id = "scheduled__2026-11-22T01:00:00+00:00"
    map_index = -1

    def __init__(self, task_id="make", *, rescheduled_at=None, has_store=LINE >= (3, 3)):
        self.task_id = task_id
        self.try_number = 1
        self.task = SimpleNamespace(retries=5)
        self.max_tries = self.task.retries
        self.pushed_keys = []
        """Keys of this try's XComs, in the order in which they were pushed."""
        self._xcoms = {}
        self._rescheduled_at = rescheduled_at
        self._store = TaskStateStore() if has_store else None
        self.clears_of_the_run = 0
        self.loop_index = None

    def xcom_push(self, key, value):
        self.pushed_keys.append(key)
        self._xcoms[key] = json.dumps(value)

    def xcom_pull(self, task_ids=None, key="return_value", *, map_indexes=None):
        is_own = task_ids in (None, self.task_id) and map_indexes in (None, self.map_index)
        return json.loads(self._xcoms[key]) if is_own and key in self._xcoms else None

    def get_first_reschedule_date(self, context):
        return self._rescheduled_at

    @property
    def xcoms(self):
        return {key: json.loads(value) for key, value in self._xcoms.items()}

    @property
    def context(self):
        """The context of this try. Each process gets its own."""
        accessors = import_module("airflow.sdk.execution_time.context" if LINE >= (3, 0) else "airflow.utils.context")
        context = {
            "ti": self,
            "run_id": self.run_id,
            "params": {},
            "logical_date": RUN_DATE,
            "dag_run": SimpleNamespace(run_after=RUN_DATE, clear_number=self.clears_of_the_run),
            "outlet_events": accessors.OutletEventAccessors(),
        }
        if self.loop_index is not None:
            context["loop"] = SimpleNamespace(index=self.loop_index, max_iterations=3)
        return {**context, "task_state_store": self._store} if self._store else context

    def next_try(self):
        """Begin another try, as a retry does: XComs go, records stay."""
        self.try_number += 1
        self._xcoms.clear()
        self.pushed_keys.clear()

    def clear(self, *, keep_task_state):
        """Begin another try, as a user who clears the task does: with as many retries as before the first one."""
        self.max_tries = self.try_number + self.task.retries
        self.clears_of_the_run += 1
        self.next_try()
        if not keep_task_state:
            self._store.clear()


def run(ti, make):
    """
    Run a try through all its processes: worker, triggerer, worker …

    :param ti: the task instance.
    :param make: returns the operator as parsed from the DAG file, once for each process.
    """
    operator, context = make(), ti.context
    try:
        return operator.execute(context)
    except TaskDeferred as error:
        deferred = error
    for _ in range(20):
        event = fired(deferred)
        try:
            return resume(ti, make(), deferred, event)
        except TaskDeferred as error:
            deferred = error
    raise AssertionError("it waits forever")


def resume(ti, operator, deferred, event):
    """Resume a deferred task in a new process."""
    kwargs = {**copied(deferred.kwargs or {}), "event": copied(event)}
    return operator.resume_execution(deferred.method_name, kwargs, ti.context)


def deferral(act, *arguments):
    """Return how a call defers its task."""
    try:
        act(*arguments)
    except TaskDeferred as deferred:
        copied(deferred.kwargs)
        return deferred
    raise AssertionError("it did not defer")


def arguments_of(deferred):
    """Return the class name and the arguments of a deferred task's trigger, as Airflow stores them."""
    path, arguments = deferred.trigger.serialize()
    return path.rpartition(".")[2], copied(arguments)


def fired(deferred):
    """Run the trigger of a deferred task in another process, and return its event."""
    _, arguments = deferred.trigger.serialize()
    return asyncio.run(_first_event(type(deferred.trigger)(**copied(arguments))))


async def _first_event(trigger):
    trigger.task_instance = None
    async for event in trigger.run():
        return copied(event.payload)
    raise AssertionError("it ended without an event")


def copied(value):
    """Return a value as another process gets it."""
    return json.loads(json.dumps(value))
