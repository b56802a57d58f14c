"""Files that are made of images, and files that are made of nothing but a prompt."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator

FOLDER = os.environ.get("FILES_FOLDER", "")
S3_FOLDER = os.environ.get("FILES_S3_FOLDER", "")
SIGNATURE = os.environ.get("FILES_SIGNATURE", "")
SIGNED = [f"https://images.example.com/{name}.png?X-Amz-Signature={SIGNATURE}" for name in "ab"]
PRIVATE = [f"https://editor:{SIGNATURE}@images.example.com/a.png", "https://images.example.com/b.png#top"]
INLINE = "data:image/png;base64,iVBORw0KGgo="
STORING = {"wait_for_completion": True, "poll_interval": 0.1}


def create(name: str, **arguments) -> VeoCreateVideoOperator:
    fields = {"prompt": f"lineage {name}", "model": "veo3.1-components", "images": SIGNED, **arguments}
    return VeoCreateVideoOperator(task_id=name, **fields)


with DAG("veo_lineage", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    video = create("only_makes", wait_for_completion=True, poll_interval=0.1, outlets=[Asset("films")])
    others = [
        create("stores", download_to=f"{FOLDER}/stores.mp4", images=[*SIGNED, INLINE], **STORING),
        create("stores_deferred", download_to=f"{FOLDER}/stores_deferred.mp4", deferrable=True, **STORING),
        create("stores_in_s3", download_to=f"{S3_FOLDER}stores.mp4", **STORING),
        create("stores_private", download_to=f"{FOLDER}/stores_private.mp4", images=PRIVATE, **STORING),
        VeoCreateVideoOperator.partial(
            task_id="mapped", model="veo3.1-components", images=SIGNED, download_to=f"{FOLDER}/mapped/", **STORING
        ).expand(prompt=["lineage mapped 0", "lineage mapped 1"]),
        VeoDownloadVideoOperator(
            task_id="downloads", veo_video=video.output["veo_video"], destination=f"{FOLDER}/downloads.mp4"
        ),
        VeoDownloadVideoOperator(
            task_id="downloads_by_id",
            veo_task_id=video.output,
            destination=f"{FOLDER}/downloads_by_id.mp4",
            outlets=[Asset("films")],
        ),
    ]

    @task.veo_video(model="veo3.1-components", download_to=f"{FOLDER}/decorated.mp4", **STORING)
    def decorated() -> dict:
        return {"prompt": "lineage decorated", "images": SIGNED}

    # First the one that stores nothing: all tasks of `airflow dags test` share one collector.
    video >> [*others, decorated()]
