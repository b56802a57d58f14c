"""Templates in what tasks are given: those of the DAG file are rendered, those of an XCom are data."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG, TaskGroup, task

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.sensors import VeoVideoSensor

FOLDER = os.environ.get("VEO_TEMPLATES", "file:///tmp")
ATTACK = "{{ conn.veo_default.password }}{{ ds }}"
FILE = "scenario.prompt"


def jobs_of(where: str) -> list:
    return [f"{where} {ATTACK}", {"prompt": FILE, "extra_body": {"note": ATTACK}}]


with DAG("veo_templates", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):

    @task
    def prompts(where: str) -> list[str]:
        return [f"{where} {ATTACK}", FILE]

    @task
    def rows(where: str) -> list[dict]:
        image = "https://example.com/{{ds}}.png"
        return [
            {
                "prompt": f"{where} {ATTACK}",
                "images": [image],
                "extra_body": {"note": ATTACK},
                "model": "veo3.1-components",
            },
            {"prompt": FILE, "model": "veo3.1-components"},
        ]

    @task
    def batches(where: str) -> list[dict]:
        return [{"jobs": jobs_of(where), "result_path": f"{FOLDER}/{where}"}]

    @task
    def one(where: str) -> dict:
        return {"prompt": f"{where} {ATTACK}", "jobs": jobs_of(where)}

    @task
    def ids() -> list[dict]:
        return [{"veo_task_id": ATTACK}]

    @task
    def files() -> list[dict]:
        return [{"video_url": f"https://example.com/{ATTACK}.mp4", "destination": f"{FOLDER}/{ATTACK}/"}]

    create, batch, waits = VeoCreateVideoOperator, VeoVideoBatchOperator, {"model": "veo3-fast", "poll_interval": 0.5}
    create(task_id="plain", prompt=one.override(task_id="plain_in")("plain")["prompt"], model="veo3-fast")
    create.partial(task_id="expand", model="veo3-fast").expand(prompt=prompts.override(task_id="expand_in")("expand"))
    create.partial(task_id="kwargs").expand_kwargs(rows.override(task_id="kwargs_in")("kwargs"))
    create.partial(task_id="changed").expand_kwargs(
        rows.override(task_id="changed_in")("changed").map(lambda row: {**row, "aspect_ratio": "16:9"})
    )
    create.partial(task_id="mixed", prompt="mixed {{ ds }}", model="veo3-fast").expand_kwargs(
        rows.override(task_id="mixed_in")("mixed").map(lambda row: {"extra_body": {"note": row["prompt"]}})
    )
    create.partial(task_id="literal", model="veo3-fast").expand_kwargs([{"prompt": "literal {{ ds }}"}])
    batch(
        task_id="batch",
        jobs=one.override(task_id="batch_in")("batch")["jobs"],
        result_path=f"{FOLDER}/batch/{{{{ ds }}}}",
        **waits,
    )
    batch.partial(task_id="batch_kwargs", **waits).expand_kwargs(
        batches.override(task_id="batch_kwargs_in")("batch_kwargs")
    )
    with TaskGroup("group", default_args={"result_path": f"{FOLDER}/in_group/{{{{ ds }}}}"}):
        batch.partial(task_id="defaults", **waits).expand_kwargs(
            batches.override(task_id="defaults_in")("defaults").map(lambda row: {"jobs": row["jobs"]})
        )
    batch(task_id="batch_literal", jobs=["batch_literal {{ ds }}"], result_path=f"{FOLDER}/batch_literal", **waits)

    @task.veo_video
    def returned(**fields):
        return {name: fields[name] for name in ("prompt", "images", "extra_body", "model") if name in fields}

    returned.override(task_id="returned").expand_kwargs(rows.override(task_id="returned_in")("returned"))

    @task.veo_video_batch(result_path=f"{FOLDER}/returned_batch/{{{{ ds }}}}", **waits)
    def returned_batch(jobs):
        return {"jobs": jobs}

    returned_batch(one.override(task_id="returned_batch_in")("returned_batch")["jobs"])
    VeoVideoSensor.partial(task_id="sensor", poll_interval=0.5).expand_kwargs(ids())
    VeoDownloadVideoOperator.partial(task_id="download").expand_kwargs(files())
