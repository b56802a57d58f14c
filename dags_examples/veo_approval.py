"""A person approves the video before it is published. Needs Airflow 3.1 or later.

The approval waits on the *Required Actions* page without occupying a worker, and shows the link to the video. If it is
approved, the file is stored at the Airflow variable ``veo_destination``. If it is rejected, the file is not stored, and
the run succeeds.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import dag, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator
from airflow_provider_veo.sensors import VeoVideoSensor

if AIRFLOW_V_3_1_PLUS:
    from airflow.providers.standard.operators.hitl import ApprovalOperator


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["veo"])
def veo_approval():
    create = VeoCreateVideoOperator(
        task_id="create",
        prompt="A lighthouse keeper waves to the night train, handheld",
        model="veo3-fast",
    )
    wait = VeoVideoSensor(task_id="wait", veo_task_id=create.output, deferrable=True)
    approve = ApprovalOperator(
        task_id="approve",
        subject="Publish the video of {{ dag_run.run_after | ds }}?",
        body="{{ ti.xcom_pull(task_ids='wait')['video_url'] }}",
        execution_timeout=timedelta(hours=12),
    )
    store = VeoDownloadVideoOperator(
        task_id="store",
        veo_task_id=create.output,  # fetches a fresh URL: the old one may expire before the approval
        destination="{{ var.value.get('veo_destination', 'file:///tmp/veo-videos/') }}",
    )

    @task
    def publish(file: dict) -> None:
        print(f"Publishing {file['uri']}")

    wait >> approve >> store
    publish(store.output)


if AIRFLOW_V_3_1_PLUS:  # older versions have no approvals, so this file defines no DAG
    veo_approval()
