"""A function returns the request, and ``@task.veo_video`` submits it and waits in the triggerer."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import dag, task


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["veo"])
def veo_decorator():
    @task
    def todays_headline(ds: str) -> str:
        return f"The harbour festival opens on {ds}"

    @task.veo_video(model="veo3-fast", wait_for_completion=True, deferrable=True, poll_interval=5)
    def teaser(headline: str) -> dict:
        return {
            "prompt": f"A ten second teaser for a news story: {headline}. Drone shot, golden hour",
            "aspect_ratio": "9:16",
        }

    make = teaser(todays_headline())

    @task
    def publish(video: dict) -> str:
        print(f"{video['id']} is at {video['video_url']}")
        return video["video_url"]

    publish(make["veo_video"])


veo_decorator()
