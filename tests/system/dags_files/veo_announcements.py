"""Tasks that know a video's URL, and tasks that announce its file."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator
from airflow_provider_veo.sensors import VeoVideoSensor

FOLDER = "{{ var.value.get('veo_destination') }}"
QUICK = {"poll_interval": 0.5}
STORING = {"wait_for_completion": True, "download_to": FOLDER, **QUICK}


def create(name: str, **arguments) -> VeoCreateVideoOperator:
    return VeoCreateVideoOperator(task_id=name, prompt=f"announcements {name}", model="veo3", **arguments)


with DAG("veo_announcements", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    create("slow_create", outlets=[Asset("films")], **STORING)
    create("slow_deferred", deferrable=True, outlets=[Asset("films")], **STORING)
    create("blocked", **STORING)

    @task.veo_video(model="veo3", outlets=[Asset("films")], **STORING)
    def slow_decorated() -> str:
        return "announcements slow_decorated"

    slow_decorated()

    video = create("slow_video")
    wait = VeoVideoSensor(task_id="wait", veo_task_id=video.output, deferrable=True, **QUICK)
    VeoDownloadVideoOperator(
        task_id="store",
        veo_task_id=wait.output,
        destination=FOLDER,
        outlets=[Asset("films"), Asset("archive", extra={"shelf": 7})],
    )

with DAG("veo_no_worker", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    watched = create("watched")
    VeoVideoSensor(
        task_id="wait",
        veo_task_id=watched.output,
        deferrable=True,
        start_from_trigger=True,
        end_from_trigger=True,
        **QUICK,
    )
