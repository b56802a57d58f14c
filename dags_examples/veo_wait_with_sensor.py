"""Create, wait in the triggerer, publish: three tasks that can be cleared separately."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_veo.operators import VeoCreateVideoOperator
from airflow_provider_veo.sensors import VeoVideoSensor


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["veo"])
def veo_wait_with_sensor():
    create = VeoCreateVideoOperator(
        task_id="create",
        prompt="A lighthouse keeper waves to the night train, vertical, handheld",
        model="veo3.1-fast",
        aspect_ratio="9:16",
    )
    wait = VeoVideoSensor(task_id="wait", veo_task_id=create.output, deferrable=True)

    @task
    def publish(video: dict) -> str:
        print(f"{video['id']} is at {video['video_url']}")
        return video["video_url"]

    publish(wait.output)


veo_wait_with_sensor()
