"""The same job done by each contender, in one task instance for each case; those with a sensor have one after it."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, task

from airflow_provider_veo.operators import VeoCreateVideoOperator
from tests.chaos import killer
from tests.chaos.contenders import TRIGGERER, WORKERS, Case, body, case_of, is_completed, make_video, task_instances
from tests.chaos.plans import prompt, seed_of

CASES = task_instances(int(os.environ.get("VEO_CHAOS_EACH", "0")))
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
RETRIES = {"retries": 3, "retry_delay": timedelta(0)}
JSON = {"Content-Type": "application/json", "Accept": "application/json"}


def arm(context) -> None:
    """Let the creating task be struck once, if it is the one."""
    arm_for(case_of(seed_of(context)), context, in_sensor=False)


def arm_sensor(context) -> None:
    """Let the sensor be struck once, if it is the one."""
    ti = context["ti"]
    arm_for(CASES[ti.dag_id, ti.task_id.removesuffix("_wait"), ti.map_index], context, in_sensor=True)


def arm_for(case: Case, context, *, in_sensor: bool) -> None:
    # Not in its first try, but once: Airflow itself may begin another try before the process comes to the point.
    struck = {strike["seed"] for strike in killer.strikes(Path(os.environ[killer.STRIKES]))}
    if case.in_sensor == in_sensor and case.seed not in struck:
        killer.arm(case.seed, context["ti"].try_number, case.strike)


def http(task_id: str, prompts: list[str], deferrable: bool) -> None:
    create = HttpOperator.partial(
        task_id=task_id,
        http_conn_id="relay",
        endpoint="v1/video/create",
        headers=JSON,
        extra_options={} if deferrable else {"timeout": 60},  # aiohttp has one of its own
        response_filter=lambda response: response.json()["id"],
        log_response=True,
        deferrable=deferrable,
        on_execute_callback=arm,
        **RETRIES,
    ).expand(data=[json.dumps(body(text)) for text in prompts])
    HttpSensor.partial(
        task_id=f"{task_id}_wait",
        http_conn_id="relay",
        endpoint="v1/video/query",
        headers=JSON,
        response_check=is_completed,
        poke_interval=1,
        timeout=300,
        on_execute_callback=arm_sensor,
        **RETRIES,
    ).expand(request_params=create.output.map(lambda veo_task_id: {"id": veo_task_id}))


def python(task_id: str, prompts: list[str]) -> None:
    @task(task_id=task_id, on_execute_callback=arm, **RETRIES)
    def make(text: str) -> str:
        from airflow.sdk import BaseHook

        connection = BaseHook.get_connection("veo_default")
        return make_video(text, connection.host, connection.password)

    make.expand(text=prompts)


def veo(task_id: str, prompts: list[str], deferrable: bool) -> None:
    VeoCreateVideoOperator.partial(
        task_id=task_id,
        model="veo3-fast",
        wait_for_completion=True,
        deferrable=deferrable,
        poll_interval=3 if deferrable else 0.5,  # first polled after four of them
        on_execute_callback=arm,
        **RETRIES,
    ).expand(prompt=prompts)


MAKERS = {
    "http": lambda prompts: http("http", prompts, deferrable=False),
    "http_deferrable": lambda prompts: http("http_deferrable", prompts, deferrable=True),
    "task": lambda prompts: python("task", prompts),
    "veo": lambda prompts: veo("veo", prompts, deferrable=False),
    "veo_deferrable": lambda prompts: veo("veo_deferrable", prompts, deferrable=True),
}


def make(dag_id: str) -> None:
    prompts: dict[str, list[str]] = defaultdict(list)
    for (of_dag, task_id, _), case in CASES.items():
        if of_dag == dag_id:
            prompts[task_id].append(prompt(case.seed))
    for task_id, texts in prompts.items():
        MAKERS[task_id](texts)


with DAG(WORKERS, schedule=None, start_date=START, max_active_tasks=500):
    make(WORKERS)

with DAG(TRIGGERER, schedule=None, start_date=START, max_active_tasks=500):
    make(TRIGGERER)
