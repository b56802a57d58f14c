"""Create a video from three reference images and a Chinese prompt that the relay translates."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_veo.operators import VeoCreateVideoOperator


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["veo"])
def veo_reference_images():
    create = VeoCreateVideoOperator(
        task_id="create",
        prompt="牛飞上天了",
        model="veo3.1-components",
        images=[
            "https://filesystem.site/cdn/20250612/VfgB5ubjInVt8sG6rzMppxnu7gEfde.png",
            "https://filesystem.site/cdn/20250612/998IGmUiM2koBGZM3UnZeImbPBNIUL.png",
            "https://iknow-pic.cdn.bcebos.com/5882b2b7d0a20cf4ced1ab5f64094b36adaf99e9",
        ],
        enhance_prompt=True,
        enable_upsample=True,
        aspect_ratio="16:9",
        wait_for_completion=True,
        deferrable=False,
    )

    @task
    def show(video: dict) -> str:
        print(f"{video['prompt']} became {video['enhanced_prompt']!r}: {video['video_url']}")
        return video["video_url"]

    show(create.output["veo_video"])


veo_reference_images()
