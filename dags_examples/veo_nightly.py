"""Every night at two: a spreadsheet of prompts becomes a folder of videos, and a list of what became of each.

The prompts are in ``veo_nightly.csv`` beside this file, as a spreadsheet saves it. An empty cell takes the task's own
value. With ``render_prompts=True`` a prompt may use ``{{ ds }}``, ``{{ params.name }}`` and a few other scalars; by
default, prompts are sent as they are. Videos and lists go where the Airflow variable ``veo_destination`` says, e.g.
``s3://aws_default@my-bucket/videos``.

``max_cost`` needs the price of each model in the list: ``"prices": {"veo3-fast": 0.4, …}`` in the connection's extra,
in whatever currency you pay. A model without one fails the task before anything is sent.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath, dag, task

from airflow_provider_veo.operators import VeoVideoBatchOperator

MANIFEST = str(Path(__file__).with_name("veo_nightly.csv"))  # or a URI: s3://aws_default@my-bucket/prompts.csv
NIGHT = Asset("veo_nightly")  # a DAG with schedule=[NIGHT] starts when the videos are there

# Also for a run without a logical date, which a person may start. A prompt says {{ ds | default('today') }} for that.
DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
FOLDER = "{{ var.value.get('veo_destination', 'file:///tmp/veo-videos').rstrip('/') }}/veo_nightly/" + DATE


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # with it, all nights since the start date would be made, and paid for
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["veo"],
)
def veo_nightly():
    make_videos = VeoVideoBatchOperator(
        task_id="make_videos",
        manifest=MANIFEST,
        render_prompts=True,
        model="veo3-fast",
        # A folder for each run, and the same in all its tries: what was submitted is on record there, so that a try
        # goes on with it. Whoever removes it and clears the task pays for the night again.
        result_path=FOLDER + "/{{ run_id }}",
        # The budget. Both are checked before anything is sent: a list that is too long makes nothing at all.
        max_videos=50,
        max_cost=25,
        # A video whose generation fails is not paid for again. What failed is in the results, with the reason.
        attempts_per_video=1,
        max_in_flight=8,  # as many as the relay generates for you at a time
        download=True,
        deferrable=True,
        outlets=[NIGHT],
    )

    @task
    def report(night: dict) -> None:
        print(f"{night['succeeded']} of {night['total']} videos are there, for {night['cost']}")
        others = ("not_stored", "failed", "refused", "unknown", "timed_out", "not_submitted")
        print(", ".join(f"{night[state]} {state}" for state in others if night[state]) or "nothing went wrong")
        print(f"each of them: {night['results']}")

    @task
    def publish(night: dict) -> None:
        for video in map(json.loads, ObjectStoragePath(night["results"]).read_bytes().splitlines()):
            if video["file"]:
                print(f"{video['key']}: {video['file']}, {video['bytes']} bytes")

    report(make_videos.output)
    publish(make_videos.output)


veo_nightly()
