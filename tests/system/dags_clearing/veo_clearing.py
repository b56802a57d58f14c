"""Tasks to be cleared with and without their state, and task loops. They need Airflow 3.4."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, task_group

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoVideoBatchOperator

SINCE = datetime(2026, 1, 1, tzinfo=timezone.utc)
AT_ONCE = {"retries": 1, "retry_delay": timedelta(0)}
FOLDER = f"{os.environ['VEO_CLEARING']}/{{{{ run_id }}}}"


class FailsAfterSubmitting(VeoCreateVideoOperator):
    """Its first try fails as soon as the video is accepted."""

    def execute(self, context):
        veo_task_id = super().execute(context)
        if context["ti"].try_number == 1:
            raise RuntimeError("something else went wrong")
        return veo_task_id


def create(task_id: str, **arguments) -> VeoCreateVideoOperator:
    return VeoCreateVideoOperator(task_id=task_id, prompt=f"{task_id}: a paper boat", model="veo3", **arguments)


with DAG("veo_clearing", schedule=None, start_date=SINCE):
    create("kept")
    create("dropped")
    create("fails_when_dropped", on_cleared="fail")
    create("answer_lost", on_cleared="fail")
    create("unauthorized", on_cleared="fail")
    create("running", wait_for_completion=True, deferrable=False, poll_interval=0.3)
    create("deferred", wait_for_completion=True, deferrable=True, poll_interval=2)
    VeoCreateVideoOperator.partial(task_id="mapped", model="veo3").expand(
        prompt=[f"mapped[{index}]: a paper boat" for index in range(2)]
    )
    VeoVideoBatchOperator(
        task_id="batch",
        jobs=["batch: a paper boat", "batch: a paper plane"],
        model="veo3",
        result_path=f"{FOLDER}/batch",
        poll_interval=0.3,
        deferrable=False,
    )

with DAG("veo_run_cleared", schedule=None, start_date=SINCE):
    create("first") >> create("second")
    VeoCreateVideoOperator.partial(task_id="many", model="veo3").expand(
        prompt=[f"many[{index}]: a paper boat" for index in range(2)]
    )

with DAG("veo_loop", schedule=None, start_date=SINCE, default_args=AT_ONCE):

    @task_group
    def paint():
        FailsAfterSubmitting(task_id="create", prompt="loop: a paper boat", model="veo3")

    paint.loop(max_iterations=3)

with DAG("veo_mapped_in_loop", schedule=None, start_date=SINCE, default_args=AT_ONCE):

    @task_group
    def paint_each():
        FailsAfterSubmitting.partial(task_id="create", model="veo3").expand(
            prompt=[f"in a loop[{index}]: a paper boat" for index in range(2)]
        )

    paint_each.loop(max_iterations=2)

with DAG("veo_batch_in_loop", schedule=None, start_date=SINCE):

    @task_group
    def make():
        VeoVideoBatchOperator(
            task_id="batch",
            jobs=["batch in a loop: a paper boat"],
            model="veo3",
            result_path=f"{FOLDER}/{{{{ loop.index }}}}",
            poll_interval=0.3,
            deferrable=False,
        )

    make.loop(max_iterations=2)

with DAG("veo_batch_in_one_folder", schedule=None, start_date=SINCE):

    @task_group
    def overwrite():
        VeoVideoBatchOperator(
            task_id="batch",
            jobs=["batch in one folder: a paper boat"],
            model="veo3",
            result_path=f"{FOLDER}/one",
            poll_interval=0.3,
            deferrable=False,
        )

    overwrite.loop(max_iterations=2)
