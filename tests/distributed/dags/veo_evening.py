"""The same as the night on a small scale, for a metadata database of another kind."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.sensors import VeoVideoSensor

FOLDER = os.environ.get("VEO_NIGHT", "/tmp")
BATCHED = 1200
"""More than a trigger's arguments hold on MySQL, where all wait at once."""
CHINESE = "牛飞上天了 🐄"
WAIT = {"deferrable": True, "poll_interval": 1}

with DAG("veo_evening", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    VeoVideoBatchOperator(
        task_id="batch",
        jobs=[f"batched {number} {CHINESE}" for number in range(BATCHED)],
        result_path=f"{FOLDER}/batch",
        model="veo3-fast",
        max_in_flight=BATCHED,
        download=False,
        **WAIT,
    )
    create = VeoCreateVideoOperator(task_id="create", prompt=CHINESE, model="veo3-fast")
    VeoVideoSensor(task_id="wait", veo_task_id=create.output, **WAIT)
    VeoVideoSensor(
        task_id="wait_without_a_worker",
        veo_task_id=create.output,
        start_from_trigger=True,
        end_from_trigger=True,
        **WAIT,
    )
    VeoCreateVideoOperator.partial(task_id="waits", model="veo3-fast", wait_for_completion=True, **WAIT).expand(
        prompt=["mapped 0", "mapped 1"]
    )
