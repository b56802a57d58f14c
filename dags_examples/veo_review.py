"""A batch every night; in the morning a person chooses the videos that are published. Needs Airflow 3.1 or later.

The question waits on the *Required Actions* page without occupying a worker, with a link to the videos on the page
*Veo videos*. Each question offers up to 20 videos; a larger night asks several. Videos and results are stored at the
Airflow variable ``veo_destination``, and the chosen videos are copied to ``veo_published``, each once.

If no video is ready, nobody is asked and nothing is published.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import ObjectStoragePath, conf, dag, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_veo.operators import VeoVideoBatchOperator

if AIRFLOW_V_3_1_PLUS:
    from airflow.providers.standard.operators.hitl import HITLOperator

DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
ROOT = "{{ var.value.get('veo_destination', 'file:///tmp/veo-videos').rstrip('/') }}/veo_review/"
FOLDER = ROOT + DATE + "/{{ run_id }}"
PUBLISHED = "{{ var.value.get('veo_published', 'file:///tmp/veo-published').rstrip('/') }}/" + DATE

BATCH = "{{ (dag.dag_id ~ '/' ~ (run_id | urlencode) ~ '/make_videos/-1') | urlencode }}"
PAGE = (conf.get("api", "base_url", fallback="") or "").rstrip("/") + "/plugin/veo-videos?batch=" + BATCH

NONE = "none of these"  # an answer must choose something
VIDEOS_PER_QUESTION = 20


def ready_videos(folder: str) -> list[dict]:
    """Return the results of the jobs whose videos are stored."""
    rows = ObjectStoragePath(f"{folder}/results.jsonl").read_bytes().splitlines()
    return [row for row in map(json.loads, rows) if row["file"]]


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # otherwise all nights since the start date would be run and billed
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["veo"],
)
def veo_review():
    make_videos = VeoVideoBatchOperator(
        task_id="make_videos",
        jobs=[
            {"key": "boat", "prompt": "A paper boat drifts down a canal at dawn, slow dolly shot"},
            {"key": "keeper", "prompt": "A lighthouse keeper waves to the night train", "aspect_ratio": "9:16"},
            {"key": "cow", "prompt": "牛飞上天了，慢动作"},
        ],
        model="veo3-fast",
        result_path=FOLDER,
        deferrable=True,
    )

    @task
    def questions(folder: str) -> list[list[str]]:
        """Return the options of each question."""
        keys = [video["key"] for video in ready_videos(folder)]
        return [
            [*keys[first : first + VIDEOS_PER_QUESTION], NONE] for first in range(0, len(keys), VIDEOS_PER_QUESTION)
        ]

    options = questions(FOLDER)
    # Mapped, because the options are known only now: one question for each list.
    choose = HITLOperator.partial(
        task_id="choose",
        subject="Which videos of " + DATE + " are published?",
        body=f"[Watch them on the page Veo videos]({PAGE})",
        multiple=True,
    ).expand(options=options)

    @task
    def publish(folder: str, published: str, answers: list[dict]) -> list[str]:
        """Copy the chosen videos. A retry copies only what is missing."""
        # Without NONE, which may also be the key of a video.
        chosen = {option for answer in answers for option in answer["chosen_options"]} - {NONE}
        target = ObjectStoragePath(published)
        for video in ready_videos(folder):
            if video["key"] in chosen:
                name = video["file"].rpartition("/")[2]
                copy_once(ObjectStoragePath(f"{folder}/videos/{name}"), target / name, video["bytes"])
        return sorted(chosen)

    make_videos >> options
    publish(FOLDER, PUBLISHED, choose.output)


def copy_once(source: ObjectStoragePath, target: ObjectStoragePath, size: int) -> None:
    """Copy a file, unless the copy is complete already. It has its name only when it is complete."""
    if target.exists() and target.stat().st_size == size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.parent / f"{target.name}.part"
    with source.open("rb") as video, unfinished.open("wb") as copy:
        shutil.copyfileobj(video, copy)
    target.fs.mv(unfinished.path, target.path)


if AIRFLOW_V_3_1_PLUS:  # older versions have no approvals, so this file defines no DAG
    veo_review()
