"""Every night at two: a file of prompts becomes a folder of videos, and a list of what is in it.

The prompts stand in ``veo_nightly_prompts.jsonl`` beside this file, one JSON object a line, with the arguments of
``VeoCreateVideoOperator``. ``{date}`` in a prompt becomes the night's logical date. The files go where the Airflow
variable ``veo_destination`` says, e.g. ``s3://aws_default@my-bucket/videos/``.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator
from airflow_provider_veo.sensors import VeoVideoSensor

PROMPTS = Path(__file__).with_name("veo_nightly_prompts.jsonl")


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["veo"],
)
def veo_nightly():
    @task
    def read_prompts(ds: str) -> list[dict]:
        jobs = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [{**job, "prompt": job["prompt"].format(date=ds)} for job in jobs]

    create = VeoCreateVideoOperator.partial(task_id="create", max_active_tis_per_dagrun=4).expand_kwargs(read_prompts())

    # Submitting and waiting are tasks of their own: one that waits can be cleared, or tried again, at no cost.
    wait = VeoVideoSensor.partial(task_id="wait", deferrable=True).expand(veo_task_id=create.output)

    store = VeoDownloadVideoOperator.partial(
        task_id="store",
        destination="{{ var.value.get('veo_destination', 'file:///tmp/veo-videos/') }}",
        max_active_tis_per_dagrun=4,
    ).expand(veo_video=wait.output)

    @task
    def list_files(files: list[dict]) -> None:
        for file in files:
            print(f"{file['uri']}: {file['bytes']} bytes, {file.get('duration_seconds')} s")

    list_files(store.output)


veo_nightly()
