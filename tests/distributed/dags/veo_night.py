"""A night of two hundred videos in a batch, and two hundred that are created and waited for one by one."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, task_group

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.sensors import VeoVideoSensor

FOLDER = os.environ.get("VEO_NIGHT", "/tmp")
POOL = "veo"
BATCHED = 200
SINGLE = 200
ARGUMENTS = {
    "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "default_args": {"retries": 5, "retry_delay": timedelta(seconds=1)},
    "max_active_tasks": 500,
}
WAIT = {"deferrable": True, "poll_interval": 2}

with DAG("veo_night", schedule=None, **ARGUMENTS):
    VeoVideoBatchOperator(
        task_id="batch",
        manifest=f"{FOLDER}/prompts.jsonl",
        result_path=f"{FOLDER}/batch",
        model="veo3-fast",
        max_in_flight=100,
        pool=POOL,
        priority_weight=1000,
        **WAIT,
    )

    @task_group
    def video(prompt: str) -> None:
        create = VeoCreateVideoOperator(task_id="create", prompt=prompt, model="veo3-fast", pool=POOL)
        VeoVideoSensor(task_id="wait", veo_task_id=create.output, priority_weight=10, **WAIT)

    video.expand(prompt=[f"single {number}" for number in range(SINGLE)])
