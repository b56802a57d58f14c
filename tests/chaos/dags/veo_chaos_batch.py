"""Batches of every form, in the worker and without one, each of which is killed as its plan says."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG

from airflow_provider_veo.operators import VeoVideoBatchOperator
from tests.chaos import killer
from tests.chaos.batches import FEW_FILES, RETRIES, batch, seed_in, tasks

BATCHES = tasks(batch(seed) for seed in json.loads(os.environ.get("VEO_CHAOS_BATCHES_SEEDS", "[]")))
ROOTS = json.loads(os.environ.get("VEO_CHAOS_BATCHES_ROOTS", "{}"))


def arm(context) -> None:
    """Look up the plan of this batch, and arm the killer with it."""
    from airflow_provider_veo.journal import batch_journal

    run, number = batch(seed_in(context["ti"].task.result_path)), context["ti"].try_number
    if run.tidies:
        batch_journal.MAX_FILES = FEW_FILES
    killer.arm(run.seed, number, run.strikes.get(number), threads=True)


ARGUMENTS = {
    "model": "veo3-fast",
    "requests_per_minute": 6000,  # else the first refusal makes a young batch crawl
    "poll_interval": 0.5,
    "timeout": 300,
    "retries": RETRIES,
    "retry_delay": timedelta(0),
    "on_execute_callback": arm,
}

with DAG(
    "veo_chaos_batch",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    max_active_tasks=500,
):
    mapped = [run for run in BATCHES.values() if run.form == "mapped"]
    if mapped:
        VeoVideoBatchOperator.partial(task_id="mapped", **ARGUMENTS).expand_kwargs(
            [{**run.arguments(ROOTS), "jobs": run.jobs()} for run in mapped]
        )
    for (task_id, _), run in BATCHES.items():
        if run.form != "mapped":
            given = (
                {"jobs": run.jobs()} if run.form == "jobs" else {"manifest": f"{ROOTS['manifests']}/{run.seed}.jsonl"}
            )
            VeoVideoBatchOperator(task_id=task_id, **given, **run.arguments(ROOTS), **ARGUMENTS)
