"""The task that creates the video also stores its file in S3, which triggers another DAG.

``veo_files_in_s3`` creates a video and stores it. ``veo_publish_files`` runs afterwards: it is scheduled on the asset
alias to which the first DAG publishes each file. The event contains the file's URI, size, checksum, duration, etc.

The Airflow variable ``veo_destination`` sets the storage, e.g. ``s3://aws_default@my-bucket/videos/``. The part before
the ``@`` is an Airflow connection. The storage of any installed provider works: ``gs://``, ``abfs://``, …
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import AssetAlias, dag, task

from airflow_provider_veo.operators import VeoCreateVideoOperator

FILES = AssetAlias("veo-files")


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["veo"])
def veo_files_in_s3():
    VeoCreateVideoOperator(
        task_id="create",
        prompt="A paper boat drifts down a canal at dawn, slow dolly shot, soft mist",
        model="veo3-fast",
        wait_for_completion=True,
        deferrable=True,
        download_to="{{ var.value.get('veo_destination', 'file:///tmp/veo-videos/') }}",
        outlets=[FILES],
    )


@dag(schedule=[FILES], start_date=datetime(2026, 1, 1), catchup=False, tags=["veo"])
def veo_publish_files():
    @task
    def publish(triggering_asset_events=None) -> list[dict]:  # Airflow 2.11: triggering_dataset_events
        files = [event.extra for event in triggering_asset_events[FILES]]
        for file in files:
            print(f"{file['uri']}: {file['bytes']} bytes, {file.get('duration_seconds')} s")
        return files

    publish()


veo_files_in_s3()
veo_publish_files()
