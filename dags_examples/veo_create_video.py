"""The smallest useful DAG: it submits one prompt, and the next task receives the video's id."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_veo.operators import VeoCreateVideoOperator


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["veo"])
def veo_create_video():
    create = VeoCreateVideoOperator(
        task_id="create",
        prompt="A paper boat drifts down a canal at dawn, slow dolly shot, soft mist",
        model="veo3-fast",
    )

    @task
    def use_the_id(veo_task_id: str) -> None:
        print(f"The relay is making video {veo_task_id}")

    use_the_id(create.output)


veo_create_video()
