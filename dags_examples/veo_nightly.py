"""Every night at two: create a video for each prompt of a spreadsheet, and list the results.

The prompts are in ``veo_nightly.csv`` beside this file, as saved by a spreadsheet. An empty cell takes the task's own
value. With ``render_prompts=True``, a prompt may use ``{{ ds }}``, ``{{ params.name }}`` and a few other scalars. By
default, prompts are sent unchanged. Videos and results are stored at the Airflow variable ``veo_destination``, e.g.
``s3://aws_default@my-bucket/videos``.

``max_cost`` requires a price for every model in the list: ``"prices": {"veo3-fast": 0.4, …}`` in the connection's
extra, in any currency. If a price is missing, the task fails before anything is sent.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath, dag, task

from airflow_provider_veo.operators import VeoVideoBatchOperator

MANIFEST = str(Path(__file__).with_name("veo_nightly.csv"))  # or a URI: s3://aws_default@my-bucket/prompts.csv
NIGHT = Asset("veo_nightly")  # a DAG with schedule=[NIGHT] starts when the videos are stored

# A manual run may have no logical date. Prompts use {{ ds | default('today') }} for this case.
DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
FOLDER = "{{ var.value.get('veo_destination', 'file:///tmp/veo-videos').rstrip('/') }}/veo_nightly/" + DATE


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # otherwise all nights since the start date would be run and billed
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
        # One folder per run, the same in all its tries. It contains the record of what was submitted, so that a retry
        # resumes the batch. If you delete it and clear the task, all videos are billed again.
        result_path=FOLDER + "/{{ run_id }}",
        # The budget, checked before anything is sent. If the batch exceeds it, nothing is sent.
        max_videos=50,
        max_cost=25,
        # Do not resubmit a video whose generation fails. The results contain the reason.
        attempts_per_video=1,
        # The safety filter often blocks by mistake: submit the same prompt again, once. It is part of the budget.
        attempts_if_blocked=1,
        max_in_flight=8,  # the number of videos that your relay generates at a time
        download=True,
        deferrable=True,
        outlets=[NIGHT],
    )

    @task
    def report(night: dict) -> None:
        print(f"{night['succeeded']} of {night['total']} videos are ready, for {night['cost']}")
        others = ("not_stored", "failed", "blocked", "refused", "unknown", "timed_out", "not_submitted")
        print(", ".join(f"{night[state]} {state}" for state in others if night[state]) or "nothing went wrong")
        print(f"results: {night['results']}")

    @task
    def publish(night: dict) -> None:
        for video in map(json.loads, ObjectStoragePath(night["results"]).read_bytes().splitlines()):
            if video["file"]:
                print(f"{video['key']}: {video['file']}, {video['bytes']} bytes")

    report(make_videos.output)
    publish(make_videos.output)


veo_nightly()
