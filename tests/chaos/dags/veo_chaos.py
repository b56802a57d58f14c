"""Tasks of every form and mode that make a video, each of which is killed as its plan says."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, task

from airflow_provider_veo.operators import VeoCreateVideoOperator
from tests.chaos import killer
from tests.chaos.plans import Plan, plan, prompt, seed_of, tasks

PLANS = [plan(seed) for seed in json.loads(os.environ.get("VEO_CHAOS_SEEDS", "[]"))]
WAITING = {
    "no wait": {"wait_for_completion": False},
    "synchronous": {"wait_for_completion": True, "deferrable": False},
    # First polled after four of them, so that the triggerer has triggers when it is killed.
    "deferrable": {"wait_for_completion": True, "deferrable": True, "poll_interval": 1.5},
}


def arm(context) -> None:
    """Look up the plan of this run, and arm the killer with it."""
    seed = seed_of(context)
    number = context["ti"].try_number
    killer.arm(seed, number, plan(seed).strikes.get(number))


ARGUMENTS = {
    "model": "veo3-fast",
    "timeout": 300,
    "retries": 7,
    "retry_delay": timedelta(0),
    "on_execute_callback": arm,
}


def decorated(**arguments):
    @task.veo_video(**arguments)
    def says(text: str) -> dict:
        return {"prompt": text}

    return says


def make(task_id: str, runs: list[Plan]) -> None:
    arguments = {"poll_interval": 0.5, **ARGUMENTS, **WAITING[runs[0].mode], "task_id": task_id}
    prompts = [prompt(run.seed) for run in runs]
    match runs[0].form:
        case "mapped":
            VeoCreateVideoOperator.partial(**arguments).expand(prompt=prompts)
        case "decorated":
            decorated(**arguments).expand(text=prompts)
        case "alone":
            VeoCreateVideoOperator(prompt=prompts[0], **arguments)


with DAG(
    "veo_chaos",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    max_active_tasks=500,
):
    of_a_task: dict[str, list[Plan]] = defaultdict(list)
    for (task_id, _), run in tasks(PLANS).items():
        of_a_task[task_id].append(run)
    for task_id, runs in of_a_task.items():
        make(task_id, runs)
