"""Every night at two: one batch of many thousand videos, shared by four tasks, and merged into one result.

All shards read the same manifest (here the short ``veo_sharded.csv`` beside this file) and write to the same folder.
Each takes the rows whose keys belong to it, checks the budget of the whole batch, and uses a quarter of
``max_in_flight``. A retry or a clear of one shard continues with what that shard has submitted.

Videos and results are stored at the Airflow variable ``veo_destination``, e.g. ``s3://aws_default@my-bucket/videos``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import Asset, dag, task

from airflow_provider_veo.operators import VeoMergeShardsOperator, VeoVideoBatchOperator

MANIFEST = str(Path(__file__).with_name("veo_sharded.csv"))  # or a URI: s3://aws_default@my-bucket/prompts.csv
NIGHT = Asset("veo_sharded")
SHARDS = 4  # the same in all tries of a run: another number is refused

DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
# The same folder for all shards: without {{ ti.map_index }}.
FOLDER = (
    "{{ var.value.get('veo_destination', 'file:///tmp/veo-videos').rstrip('/') }}/veo_sharded/" + DATE + "/{{ run_id }}"
)


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # otherwise all nights since the start date would be run and billed
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["veo"],
)
def veo_sharded():
    make_videos = VeoVideoBatchOperator.partial(
        task_id="make_videos",
        manifest=MANIFEST,
        model="veo3-fast",
        result_path=FOLDER,
        # Limits of the whole batch. Each shard checks them before it sends anything.
        max_videos=50,
        max_cost=25,
        max_in_flight=8,
        shards=SHARDS,
        deferrable=True,
    ).expand(shard=list(range(SHARDS)))

    # Runs when all shards have ended, and writes results.jsonl, summary.json and report.html.
    merge_shards = VeoMergeShardsOperator(task_id="merge_shards", result_path=FOLDER, outlets=[NIGHT])

    @task
    def report(night: dict) -> None:
        print(f"{night['succeeded']} of {night['total']} videos are ready, for {night['cost']}")
        print(f"results: {night['results']}")

    make_videos >> merge_shards
    report(merge_shards.output)


veo_sharded()
