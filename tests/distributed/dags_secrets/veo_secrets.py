"""Uses a connection in a worker and in a triggerer, and tells what it says."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_veo.operators import VeoCreateVideoOperator

with DAG("veo_secrets", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):

    @task
    def settings() -> str:
        from airflow_provider_veo.hooks import VeoHook

        return repr(VeoHook().settings)

    settings() >> VeoCreateVideoOperator(
        task_id="create", prompt="A paper boat", wait_for_completion=True, deferrable=True, poll_interval=0.5
    )
