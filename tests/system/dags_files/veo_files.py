"""Every way to store a video, and every way for that to end. The relay's faults are chosen by the prompts.

Paths and URLs that the DAG file can't know come from the environment.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, TriggerRule, task

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator
from airflow_provider_veo.sensors import VeoVideoSensor

FOLDER = os.environ.get("FILES_FOLDER", "")
S3_FOLDER = os.environ.get("FILES_S3_FOLDER", "")
ELSEWHERE = os.environ.get("FILES_ELSEWHERE")
WAITING = {"wait_for_completion": True, "poll_interval": 0.1}


def create(name: str, **arguments) -> VeoCreateVideoOperator:
    return VeoCreateVideoOperator(task_id=name, **{"prompt": f"files {name}", "model": "veo3", **arguments})


def store(name: str, **arguments) -> VeoDownloadVideoOperator:
    return VeoDownloadVideoOperator(task_id=name, **{"destination": f"{FOLDER}/{name}.mp4", **arguments})


with DAG(
    "veo_files",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    default_args={"retries": 1, "retry_delay": timedelta(0)},
):
    # What is there.
    video = create("video", **WAITING)
    another = create("another", **WAITING)
    wait = VeoVideoSensor(task_id="wait", veo_task_id=video.output, deferrable=True, poll_interval=0.1)
    by_id = store("by_id", veo_task_id=video.output)
    stores = [
        by_id,
        store("by_url", video_url=video.output["video_url"]),
        store("by_dict", veo_video=video.output["veo_video"]),
        store("by_dict_of_the_sensor", veo_video=wait.output),
        store("into_a_folder", veo_task_id=video.output, destination=f"{FOLDER}/folder/"),
        store("by_url_into_a_folder", video_url=video.output["video_url"], destination=f"{FOLDER}/folder/"),
        store("in_s3", veo_task_id=video.output, destination=S3_FOLDER.replace("s3://", "s3://my_s3@")),
        store(
            "in_s3_by_conn_id",
            veo_task_id=video.output,
            destination=f"{S3_FOLDER}by_conn_id.mp4",
            destination_conn_id="my_s3",
        ),
    ]
    templates = [
        store(
            "by_templates",
            veo_task_id="{{ ti.xcom_pull('video') }}",
            destination=FOLDER + "/{{ ds }}/{{ task.task_id }}.mp4",
            destination_conn_id="{{ none }}",
            veo_conn_id="veo_{{ 'default' }}",
        ),
        store("by_url_template", video_url="{{ ti.xcom_pull('video', key='video_url') }}"),
        store("by_dict_template", veo_video="{{ ti.xcom_pull('video', key='veo_video') }}"),
    ]
    video >> templates
    stores += templates
    again = store("again", veo_task_id=video.output, destination=f"{FOLDER}/by_id.mp4")
    by_id >> again
    over_another = store("over_another", veo_task_id=another.output, destination=f"{FOLDER}/by_id.mp4")
    again >> over_another
    kept = store("kept", veo_task_id=video.output)
    replaced = store("replaced", veo_task_id=another.output, destination=f"{FOLDER}/kept.mp4", overwrite="always")
    kept >> replaced
    stores += [over_another, replaced]

    # What is not there, or not yet, or not any more.
    stores += [
        store("not_ready", veo_task_id=create("unfinished").output),
        store("failed", veo_task_id=create("blocked").output),
        store("unknown", veo_task_id="veo3:1-unknown"),
        store("expired_404", veo_video=create("gives_404_once", **WAITING).output["veo_video"]),
        store("expired_403", veo_task_id=create("gives_403_once", **WAITING).output),
        store("gone", video_url=create("always_403", **WAITING).output["video_url"]),
        store("page", video_url=create("paged", **WAITING).output["video_url"], timeout=5),
        store("too_large", veo_task_id=video.output, max_bytes=100),
        store("from_elsewhere", video_url=ELSEWHERE),
        store("redirected_elsewhere", veo_task_id=create("redirected", **WAITING).output),
        store("nothing", veo_task_id="{{ none }}"),
    ]

    # In the task that makes it.
    stores += [
        create("synchronous", download_to=f"{FOLDER}/synchronous.mp4", **WAITING),
        create("deferred", download_to=FOLDER + "/{{ ds }}/", deferrable=True, **WAITING),
        create("not_wanted", download_to="{{ none }}", **WAITING),
        create("breaks_off_once", download_to=f"{FOLDER}/breaks_off_once.mp4", **WAITING),
        create("refused_once", download_to=f"{FOLDER}/refused_once.mp4", **WAITING),
        create("deferred_refused", download_to=f"{FOLDER}/deferred_refused.mp4", deferrable=True, **WAITING),
        VeoCreateVideoOperator.partial(
            task_id="mapped", model="veo3", download_to=f"{FOLDER}/mapped/", deferrable=True, **WAITING
        ).expand(prompt=["files mapped 0", "files mapped 1"]),
        VeoCreateVideoOperator.partial(task_id="does_not_wait", model="veo3", prompt="files does_not_wait").expand(
            download_to=[f"{FOLDER}/does_not_wait.mp4"]
        ),
    ]

    @task.veo_video(model="veo3", download_to=f"{FOLDER}/decorated.mp4", **WAITING)
    def decorated() -> str:
        return "files decorated"

    @task.veo_video(model="veo3", **WAITING)
    def says_where() -> dict:
        return {"prompt": "files says_where", "download_to": f"{FOLDER}/says_where.mp4"}

    @task.veo_video(model="veo3")
    def says_where_in_vain() -> dict:
        return {"prompt": "files says_where_in_vain", "download_to": f"{FOLDER}/says_where_in_vain.mp4"}

    stores += [decorated(), says_where(), says_where_in_vain()]

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def the_end() -> None:
        pass

    stores >> the_end()
