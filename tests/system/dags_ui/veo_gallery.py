"""Videos of all kinds for the page *Veo videos*, in DAGs that everybody may read, and in one that not everybody may."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, task

from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator, VeoVideoBatchOperator
from airflow_provider_veo.sensors import VeoVideoSensor

FOLDER = os.environ.get("VEO_GALLERY", "file:///tmp")
BUCKET = os.environ.get("VEO_GALLERY_BUCKET", FOLDER)
SECRETS = os.environ.get("VEO_GALLERY_SECRETS", "/tmp/secrets")
WAITS = {"wait_for_completion": True, "deferrable": True, "poll_interval": 2}
"""
The first poll is four intervals later. Airflow fails a task whose trigger fires before the executor has reported the
end of the process that deferred, which takes seconds on a busy machine.
"""
MARKUP = "</script><script>document.title='pwned'</script><img src=x onerror=alert(1)> & \"quotes\""
RETRIES = {"retries": 3, "retry_delay": timedelta(0)}
"""A busy machine may kill a task; its next try continues with the same video."""
SINCE = datetime(2026, 1, 1, tzinfo=timezone.utc)

with DAG("veo_gallery", schedule=None, start_date=SINCE):
    VeoCreateVideoOperator(
        task_id="wide",
        prompt="A red kite over a harbour",
        model="veo3-fast",
        download_to=f"{FOLDER}/wide/",
        **WAITS,
        **RETRIES,
    )
    tall = VeoCreateVideoOperator(
        task_id="tall", prompt="A lantern rises over rice fields", model="veo3.1-fast", aspect_ratio="9:16", **RETRIES
    )
    wait = VeoVideoSensor(
        task_id="wait_for_tall",
        veo_task_id=tall.output,
        deferrable=True,
        poll_interval=5,
        end_from_trigger=True,
        **RETRIES,
    )
    VeoDownloadVideoOperator(task_id="store_tall", veo_video=wait.output, destination=f"{FOLDER}/tall/", **RETRIES)
    VeoCreateVideoOperator(
        task_id="in_s3",
        prompt="A tram in the rain",
        model="veo3-fast",
        download_to=f"{BUCKET}/videos/",
        **WAITS,
        **RETRIES,
    )
    VeoCreateVideoOperator(task_id="markup", prompt=MARKUP, model="veo3", **WAITS, **RETRIES)
    VeoCreateVideoOperator(task_id="blocked", prompt="blocked", model="veo3-fast", **WAITS, **RETRIES)
    refused = VeoCreateVideoOperator(task_id="refused_later", prompt="blocked, as a sensor sees it", model="veo3-fast")
    VeoVideoSensor(task_id="wait_for_refused", veo_task_id=refused.output, deferrable=True, poll_interval=5)
    VeoCreateVideoOperator(task_id="lost", prompt="lost", model="veo3.1-fast")
    slow = VeoCreateVideoOperator(task_id="slow", prompt="slow", model="veo3-fast")
    VeoVideoSensor(task_id="gives_up", veo_task_id=slow.output, deferrable=True, poll_interval=5, timeout=12)
    # As many as a page holds, and more.
    VeoCreateVideoOperator.partial(task_id="many", model="veo3-fast").expand(prompt=[f"many {n}" for n in range(30)])

    @task
    def leaves_what_it_should_not(ti=None):
        """Leave what a task with bad intentions would."""
        ti.xcom_push(key="veo_file", value={"veo_task_id": "x", "uri": "file:///x.mp4"})
        ti.xcom_push(key="veo_path", value=f"file://{SECRETS}")
        video = {"id": "x", "prompt": "a video that is none", "state": "succeeded", "video_url": "javascript:1"}
        ti.xcom_push(key="veo_video", value=video)

    leaves_what_it_should_not()

    @task
    def leaves_what_is_no_text(ti=None):
        """Leave what is not what it should be."""
        odd = {"a": ["list"]}
        video = {"id": odd, "prompt": odd, "state": odd, "model": 3, "cost": "much", "video_url": "http://["}
        ti.xcom_push(key="veo_video", value={**video, "submitted_at": 1, "error": odd, "enhanced_prompt": odd})
        ti.xcom_push(key="progress", value={"folder": "x", "to_submit": "all", "done": None})

    leaves_what_is_no_text()

with DAG("veo_night", schedule=None, start_date=SINCE):
    VeoVideoBatchOperator(
        task_id="make",
        jobs=[
            {"prompt": "first of the night", "key": "one"},
            {"prompt": "second of the night", "key": "two", "aspect_ratio": "9:16"},
            {"prompt": "blocked at night", "key": "three"},
            {"prompt": MARKUP, "key": "four <b>"},
        ],
        result_path=f"{FOLDER}/night/{{{{ run_id }}}}",
        model="veo3-fast",
        deferrable=True,
        poll_interval=2,
        **RETRIES,
    )

with DAG("veo_secret", schedule=None, start_date=SINCE):
    VeoCreateVideoOperator(
        task_id="film",
        prompt="Nobody may know of this",
        model="veo3-fast",
        download_to=f"{FOLDER}/secret/",
        **WAITS,
        **RETRIES,
    )
    VeoVideoBatchOperator(
        task_id="batch",
        jobs=["nor of this"],
        result_path=f"{FOLDER}/secret_batch",
        model="veo3-fast",
        poll_interval=0.5,
    )
