"""What takes its time: a relay that doesn't know a video or can't be reached, a store that is away, patience."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.operators import VeoCreateVideoOperator
from airflow_provider_veo.protocol import payload
from airflow_provider_veo.retry_policy import veo_retry_policy

SINCE = datetime(2026, 1, 1, tzinfo=timezone.utc)


def create(task_id: str, **arguments) -> VeoCreateVideoOperator:
    return VeoCreateVideoOperator(task_id=task_id, prompt=f"{task_id}: a paper boat", model="veo3", **arguments)


with DAG(
    "veo_asked_for_in_vain", schedule=None, start_date=SINCE, default_args={"retries": 1, "retry_delay": timedelta(0)}
):
    create("forgotten")
    create("unreachable")

with DAG(
    "veo_store_away", schedule=None, start_date=SINCE, default_args={"retries": 50, "retry_delay": timedelta(seconds=2)}
):
    VeoCreateVideoOperator(task_id="stored", prompt="{{ run_id }}: a paper boat", model="veo3")

with DAG("veo_patience", schedule=None, start_date=SINCE):
    create("asked_for_patience", retries=1, retry_delay=timedelta(minutes=10), retry_policy=veo_retry_policy())

with DAG(
    "veo_policy_by_default",
    schedule=None,
    start_date=SINCE,
    default_args={"retries": 3, "retry_delay": timedelta(0), "retry_policy": veo_retry_policy()},
):

    @task
    def own_hook() -> str:
        return VeoHook().create_video(payload.build("own_hook: a paper boat", "veo3")).id

    own_hook()
    create("resubmitted_by_policy", on_ambiguous_submit="resubmit")
