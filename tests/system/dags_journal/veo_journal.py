"""One task for each thing that can be on record when a task runs again.

What a task asks for comes from Airflow Variables, so that it can be changed before the task is cleared. The relay's
faults are chosen by the prompts, which begin with the task's name.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_veo.operators import VeoCreateVideoOperator

MODEL = "veo3.1-components"
IMAGE = f"data:image/png;base64,{'cGFwZXIgYm9hdA' * 40}"
WAITS = {"wait_for_completion": True, "poll_interval": 0.3}
DEFERS = {"wait_for_completion": True, "poll_interval": 2, "deferrable": True}
"""
The first poll is four intervals later. Airflow fails a task whose trigger fires before the executor has reported the
end of the process that deferred, which takes seconds on a busy machine.
"""


def prompt(name: str) -> str:
    return f"{name}: a paper boat drifts down a canal"


def create(task_id: str, **arguments) -> VeoCreateVideoOperator:
    def variable(field: str, default: str) -> str:
        return f"{{{{ var.value.get('{task_id}.{field}', '{default}') }}}}"

    given = {
        "prompt": variable("prompt", prompt(task_id)),
        "model": MODEL,
        "images": variable("images", IMAGE),
        "veo_conn_id": variable("veo_conn_id", "veo_default"),
        "existing_veo_task_id": variable("existing_veo_task_id", ""),
    }
    return VeoCreateVideoOperator(task_id=task_id, **given, **arguments)


with DAG(
    "veo_journal",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    default_args={"retries": 1, "retry_delay": timedelta(0)},
):
    create("submits")
    create("waits", **WAITS, deferrable=False)
    create("defers", **DEFERS)
    create("cleared_while_waiting", **DEFERS)
    create("not_durable", durable=False)

    create("prompt_changed")
    create("images_changed")
    create("account_changed")

    create("answer_lost")
    create("looked_up")
    create("resubmitted", on_ambiguous_submit="resubmit")
    create("refused")
    create("refused_for_now")
    create("generation_fails", **WAITS, deferrable=False)
    create("generation_fails_deferred", **DEFERS)

    create("text_on_record")
    create("object_on_record")
    create("future_on_record")

    VeoCreateVideoOperator.partial(task_id="mapped", model=MODEL).expand(
        prompt=[prompt(f"mapped[{index}]") for index in range(2)]
    )

    @task.veo_video(model=MODEL)
    def decorated() -> str:
        return prompt("decorated")

    decorated()
