"""Every night at two: a video for each prompt in prompts.csv."""

from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import dag, task

from airflow_provider_veo.operators import VeoVideoBatchOperator


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
)
def veo_tutorial():
    make_videos = VeoVideoBatchOperator(
        task_id="make_videos",
        manifest=str(Path(__file__).with_name("prompts.csv")),
        model="veo3-fast",
        result_path="file:///tmp/veo-videos/{{ run_id }}",
        max_videos=10,
        max_cost=5,
        deferrable=True,
    )

    @task
    def report(night: dict) -> None:
        print(f"{night['succeeded']} of {night['total']} videos are ready, for {night['cost']}")
        print(f"results: {night['results']}")

    report(make_videos.output)


veo_tutorial()
