"""Batches of all kinds, each a task of its own."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias, task

from airflow_provider_veo.operators import VeoVideoBatchOperator

FOLDER = os.environ.get("VEO_BATCHES", "/tmp")
ARGUMENTS = {"model": "veo3-fast", "poll_interval": 0.2, "max_in_flight": 4, "trigger_rule": "all_done"}


def path(name: str) -> str:
    return f"{FOLDER}/{name}"


with DAG("veo_batches", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    for name, deferrable in ("here", False), ("deferred", True):
        VeoVideoBatchOperator(
            task_id=name,
            manifest=path("prompts.csv"),
            render_prompts=True,
            result_path=path(name + "/{{ ds }}"),
            deferrable=deferrable,
            max_videos="{{ 10 }}",
            max_cost="{{ 5.0 }}",
            outlets=[Asset(f"x-test://{name}"), AssetAlias(f"{name}_files")],
            **ARGUMENTS,
        )

    for name in ("bad.csv", "empty.csv", "wrong_encoding.csv", "broken.jsonl", "missing.csv"):
        VeoVideoBatchOperator(
            task_id=name.replace(".", "_"),
            manifest=path(name),
            render_prompts=True,
            result_path=path(f"of_{name}"),
            **ARGUMENTS,
        )
    VeoVideoBatchOperator(task_id="too_many", jobs=["a", "b"], max_videos=1, result_path=path("too_many"), **ARGUMENTS)
    VeoVideoBatchOperator(task_id="too_dear", jobs=["a", "b"], max_cost=0.5, result_path=path("too_dear"), **ARGUMENTS)
    VeoVideoBatchOperator(
        task_id="without_price",
        jobs=[{"prompt": "a", "model": "veo3"}],
        max_cost=5,
        result_path=path("no_price"),
        **ARGUMENTS,
    )

    @task
    def list_jobs() -> list:
        return ["listed one", {"prompt": "listed two", "key": "two", "aspect_ratio": "9:16"}]

    from_xcom = VeoVideoBatchOperator(
        task_id="from_xcom", jobs=list_jobs(), result_path=path("from_xcom"), download=False, **ARGUMENTS
    )

    @task
    def campaigns() -> list:
        return [[f"campaign {number} film {film}" for film in range(2)] for number in range(3)]

    VeoVideoBatchOperator.partial(
        task_id="mapped",
        result_path=path("mapped/{{ ti.map_index }}"),
        deferrable=True,
        download=False,
        **ARGUMENTS,
    ).expand(jobs=campaigns())

    @task.veo_video_batch(result_path=path("decorated/{{ ds }}"), deferrable=True, download=False, **ARGUMENTS)
    def decorated(count: int, ds: str) -> list:
        return [f"decorated {number} on {ds}" for number in range(count)]

    decorated(3)

    @task.veo_video_batch(result_path=path("no_list"), **ARGUMENTS)
    def no_list() -> str:
        return "one prompt, whose 41 letters would be billed"

    no_list()

    VeoVideoBatchOperator(
        task_id="partial", jobs=["fine", "blocked one"], result_path=path("partial"), download=False, **ARGUMENTS
    )
    VeoVideoBatchOperator(
        task_id="partial_fails",
        jobs=["fine too", "blocked two"],
        result_path=path("partial_fails"),
        download=False,
        fail_on_partial_error=True,
        **ARGUMENTS,
    )
    VeoVideoBatchOperator(
        task_id="all_fail", jobs=["blocked three"], result_path=path("all_fail"), download=False, **ARGUMENTS
    )
    from_xcom >> VeoVideoBatchOperator(
        task_id="shared", jobs=["not mine"], result_path=path("from_xcom"), download=False, **ARGUMENTS
    )
