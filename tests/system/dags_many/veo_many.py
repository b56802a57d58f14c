"""Two hundred waits at once: in the triggerer from beginning to end, mapped, and after a deferred create."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_veo.operators import VeoCreateVideoOperator
from airflow_provider_veo.sensors import VeoVideoSensor
from tests.system.broken_trigger import BrokenTrigger

ALONE = 160
MAPPED = 30
CREATES = 10
SPECIAL = {0: "late", 1: "leftover", 2: "unknown", 3: "never_made"}
WAIT = {"deferrable": True, "poll_interval": 3}


def submit(prompts: list[str]) -> list[str]:
    from airflow_provider_veo.hooks import VeoHook
    from airflow_provider_veo.protocol import payload

    hook = VeoHook()
    return [hook.create_video(payload.build(prompt, "veo3-fast")).id for prompt in prompts]


with DAG(
    "veo_many",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    default_args={"retries": 2, "retry_delay": timedelta(0)},
    max_active_tasks=500,
):

    @task(multiple_outputs=True, retries=0)
    def submit_alone() -> dict[str, str]:
        ids = submit([f"alone {n} {SPECIAL.get(n, '')}" for n in range(ALONE)])
        return {f"v{n}": veo_task_id for n, veo_task_id in enumerate(ids)}

    @task(retries=0)
    def submit_mapped() -> list[str]:
        return submit([f"mapped {n}" for n in range(MAPPED)])

    alone = submit_alone()
    for n in range(ALONE):
        VeoVideoSensor(
            task_id=f"alone_{n}", veo_task_id=alone[f"v{n}"], start_from_trigger=True, end_from_trigger=True, **WAIT
        )
    VeoVideoSensor.partial(task_id="mapped", **WAIT).expand(veo_task_id=submit_mapped())
    VeoCreateVideoOperator.partial(task_id="create", model="veo3-fast", wait_for_completion=True, **WAIT).expand(
        prompt=[f"create {n}" for n in range(CREATES)]
    )


class CreateWithABrokenTrigger(VeoCreateVideoOperator):
    def _defer(self, veo_task_id: str, started: float) -> None:
        self.defer(trigger=BrokenTrigger(veo_task_id=veo_task_id), method_name="execute_complete")


with DAG(
    "veo_ends_badly",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    default_args={"retries": 2, "retry_delay": timedelta(0)},
):
    arguments = {"model": "veo3-fast", "wait_for_completion": True, **WAIT}
    CreateWithABrokenTrigger(task_id="trigger_breaks", prompt="trigger breaks", **{**arguments, "retries": 1})
    VeoCreateVideoOperator(task_id="user_ends_it", prompt="user ends it", **arguments)


with DAG("meanwhile", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):

    @task
    def other_work() -> str:
        return "done"

    other_work()
