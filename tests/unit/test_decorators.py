"""The return value of a decorated function applies to the whole task, also after a deferral in a new process."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred, task

from airflow_provider_veo import sandbox


class TaskInstance(SimpleNamespace):
    """The part of a task instance that an operator uses."""

    def __init__(self, task_id):
        names = {"dag_id": "veo", "run_id": "manual", "task_id": task_id, "map_index": -1, "try_number": 1}
        super().__init__(**names, pushed={})

    def xcom_push(self, key, value):
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids=None, key="return_value", map_indexes=None):
        return self.pushed.get(key)


@pytest.fixture
def relays(monkeypatch):
    with sandbox.running(generation_seconds=0.3) as one, sandbox.running(generation_seconds=0.3) as other:
        monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", one.connection)
        monkeypatch.setenv("AIRFLOW_CONN_VEO_B", other.connection)
        yield one, other


def parsed(decorator, returned, **arguments):
    """Parse the DAG file again, as each process does."""
    with DAG("veo", schedule=None) as dag:

        @decorator(deferrable=True, poll_interval=0.2, **arguments)
        def make():
            return returned

        make()
    operator = dag.get_task("make")
    operator.op_kwargs, operator.op_args = {}, []
    return operator


def run(decorator, returned, **arguments):
    """Run a task through all its processes: worker, triggerer, worker …"""
    ti = TaskInstance("make")
    run = SimpleNamespace(run_after=datetime(2026, 11, 22, tzinfo=timezone.utc))
    context = {"ti": ti, "outlet_events": {}, "run_id": "manual", "params": {}, "dag_run": run}
    act = parsed(decorator, returned, **arguments).execute
    for _ in range(10):
        try:
            return act(context), ti.pushed
        except TaskDeferred as deferred:
            kwargs = json.loads(json.dumps(deferred.kwargs or {}))
            event = asyncio.run(_fired(deferred.trigger))
            operator = parsed(decorator, returned, **arguments)

            def act(context, operator=operator, method=deferred.method_name, kwargs=kwargs, event=event):
                return getattr(operator, method)(context, event=event, **kwargs)

    raise AssertionError("it waits forever")


async def _fired(trigger):
    _, kwargs = trigger.serialize()
    again = type(trigger)(**json.loads(json.dumps(kwargs)))
    again.task_instance = None
    async for event in again.run():
        return json.loads(json.dumps(event.payload))
    raise AssertionError("it ended without an event")


def test_batch_resumes_with_returned_destination_and_account(relays, tmp_path):
    one, other = relays
    returned = {
        "jobs": ["first", "second", "third"],
        "veo_conn_id": "veo_b",
        "result_path": f"file://{tmp_path}/returned",
    }
    declared = {"result_path": f"file://{tmp_path}/declared", "max_in_flight": 1, "model": "veo3-fast"}
    done, _ = run(task.veo_video_batch, returned, **declared)
    assert (done["succeeded"], done["total"]) == (3, 3)
    assert one.stats()["accepted"] == 0
    assert other.stats()["accepted"] == 3
    assert not (tmp_path / "declared").exists()


def test_video_is_stored_at_returned_destination(relays, tmp_path):
    one, other = relays
    returned = {"prompt": "a cow", "veo_conn_id": "veo_b", "download_to": f"file://{tmp_path}/cow.mp4"}
    _, pushed = run(task.veo_video, returned, model="veo3-fast", wait_for_completion=True, durable=False)
    assert (tmp_path / "cow.mp4").exists()
    assert pushed["veo_file"]["uri"] == f"file://{tmp_path}/cow.mp4"
    assert (one.stats()["accepted"], other.stats()["accepted"]) == (0, 1)
