"""A DAG of a user who checks types strictly: templated arguments take an XComArg, as well as their own types."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, XComArg, task

from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.protocol import VeoContentBlockedError, VideoTask
from airflow_provider_veo.sensors import VeoVideoSensor


@task
def planned() -> dict[str, Any]:
    return {"prompt": "a cow flies", "images": ["https://example.com/cow.png"]}


@task
def submitted() -> str:
    hook = VeoHook("veo_default")
    try:
        video: VideoTask = hook.create_video({"prompt": "a cow flies"})
    except VeoContentBlockedError as error:
        return error.veo_task_id or ""
    return video.id


with DAG("film", schedule=None):
    plan: XComArg = planned()

    of_literals = VeoCreateVideoOperator(
        task_id="of_literals",
        prompt="a cow flies",
        model="veo3.1-components",
        images=["https://example.com/cow.png", "https://example.com/sky.png"],
        enhance_prompt="{{ params.enhance }}",
        extra_body={"seed": 7},
    )
    create = VeoCreateVideoOperator(
        task_id="create",
        prompt=plan,
        model=plan,
        images=plan,
        aspect_ratio=plan,
        enhance_prompt=plan,
        enable_upsample=plan,
        extra_body=plan,
        veo_conn_id=plan,
        existing_veo_task_id=plan,
        download_to=plan,
        wait_for_completion=True,
    )
    of_several = VeoCreateVideoOperator(
        task_id="of_several", prompt="a cow", images=[plan, "https://example.com/c.png"]
    )
    mapped = VeoCreateVideoOperator.partial(task_id="mapped", model="veo3-fast").expand(prompt=plan)

    wait = VeoVideoSensor(task_id="wait", veo_task_id=create.output, veo_conn_id=plan)
    wait_for_submitted = VeoVideoSensor(task_id="wait_for_submitted", veo_task_id=submitted())
    wrong = VeoVideoSensor(task_id="wrong", veo_task_id=7)  # type: ignore[arg-type]  # the wheel's types are read

    by_id = VeoDownloadVideoOperator(
        task_id="by_id", destination=plan, veo_task_id=create.output, destination_conn_id=plan, veo_conn_id=plan
    )
    by_url = VeoDownloadVideoOperator(
        task_id="by_url", destination="s3://b/v.mp4", video_url=XComArg(create, "video_url")
    )
    by_video = VeoDownloadVideoOperator(task_id="by_video", destination="s3://b/v.mp4", veo_video=wait.output)

    batch = VeoVideoBatchOperator(
        task_id="batch",
        result_path=plan,
        jobs=plan,
        model=plan,
        aspect_ratio=plan,
        enhance_prompt=plan,
        enable_upsample=plan,
        extra_body=plan,
        max_videos=plan,
        max_cost=plan,
        veo_conn_id=plan,
    )
    of_jobs = VeoVideoBatchOperator(
        task_id="of_jobs", result_path="s3://b/n", jobs=["a cow", {"prompt": "a sheep", "key": "s"}, plan]
    )
    of_manifest = VeoVideoBatchOperator(task_id="of_manifest", result_path="s3://b/m", manifest=plan)

    @task.veo_video(model=plan, veo_conn_id="veo_default")
    def described() -> str:
        return "a cow flies"

    @task.veo_video_batch(result_path=plan)
    def night() -> list[str]:
        return ["a cow flies"]

    described() >> night()
