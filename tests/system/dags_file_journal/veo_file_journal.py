"""A task of each kind whose record is a file."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_veo.operators import VeoCreateVideoOperator

with DAG(
    "veo_file_journal",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    default_args={"retries": 1, "retry_delay": timedelta(0), "model": "veo3"},
):
    VeoCreateVideoOperator(
        task_id="defers", prompt="defers", wait_for_completion=True, deferrable=True, poll_interval=2
    )
    VeoCreateVideoOperator(task_id="answer_lost", prompt="answer_lost")
    VeoCreateVideoOperator.partial(task_id="mapped").expand(prompt=["mapped 0", "mapped 1"])
