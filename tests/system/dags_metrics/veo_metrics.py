"""A batch, one video, and a wait for it: in the triggerer alone where Airflow can, or in a worker."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import dag

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.sensors import VeoVideoSensor


def tasks(*, in_triggerer):
    VeoVideoBatchOperator(
        task_id="batch",
        jobs=["a cow", "a goat", "a blocked cat"],
        model="veo3-fast",
        result_path="{{ var.value.veo_destination }}{{ run_id }}",
        deferrable=True,
        poll_interval=0.5,
    )
    create = VeoCreateVideoOperator(task_id="create", prompt="a dog", model="veo3-pro")
    VeoVideoSensor(
        task_id="wait",
        veo_task_id=create.output,
        deferrable=True,
        start_from_trigger=in_triggerer,
        end_from_trigger=in_triggerer,
        poll_interval=0.5,
    )


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["veo"])
def veo_metrics():
    tasks(in_triggerer=True)


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["veo"])
def veo_metrics_alone():
    """For ``airflow dags test``, in which a trigger can't end a task."""
    tasks(in_triggerer=False)


veo_metrics()
veo_metrics_alone()
