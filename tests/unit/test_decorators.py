"""The return value of a decorated function applies to the whole task, also after a deferral in a new process."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_veo import sandbox
from tests.unit import task_context
from tests.unit.task_context import TaskInstance


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
    ti = TaskInstance("make")
    return task_context.run(ti, lambda: parsed(decorator, returned, **arguments)), ti.xcoms


@pytest.mark.slow
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


@pytest.mark.slow
def test_video_is_stored_at_returned_destination(relays, tmp_path):
    one, other = relays
    returned = {"prompt": "a cow", "veo_conn_id": "veo_b", "download_to": f"file://{tmp_path}/cow.mp4"}
    _, pushed = run(task.veo_video, returned, model="veo3-fast", wait_for_completion=True, durable=False)
    assert (tmp_path / "cow.mp4").exists()
    assert pushed["veo_file"]["uri"] == f"file://{tmp_path}/cow.mp4"
    assert (one.stats()["accepted"], other.stats()["accepted"]) == (0, 1)
