"""
What a user would pick to make a video, and the points at which each is killed.

All do the same job, create a video and wait for it, with the same retries, and each is set up as a careful user would:
timeouts, a check of the status, the id in the log as soon as it is known.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.chaos.killer import Strike
from tests.chaos.points import ANSWER, POINTS, Point

if TYPE_CHECKING:
    from collections.abc import Iterator

HTTP = "HttpOperator"
DEFERRABLE = "HttpOperator(deferrable=True)"
TASK = "@task with requests"
OURS = "VeoCreateVideoOperator"
CONTENDERS = (HTTP, DEFERRABLE, TASK, OURS)
TASK_IDS = {HTTP: "http", DEFERRABLE: "http_deferrable", TASK: "task", OURS: "veo"}
WORKERS, TRIGGERER = "veo_compare", "veo_compare_triggerer"
"""The DAGs: in the first tasks are killed, in the second one they are in the triggerer when that is."""

IN_THE_TRIGGERER = Point()
"""The triggerer is killed, and no task's process is."""
_RUN = "airflow.providers.http.hooks.http:HttpHook.run"
_POST = "requests.api:post"
_HTTP_OPERATOR = "airflow.providers.http.operators.http:HttpOperator"
_POKE = Point("airflow.providers.http.sensors.http:HttpSensor.poke")
_PUSHED = Point("airflow.sdk.execution_time.task_runner:_push_xcom_if_needed", "return")
_LONG_ENOUGH = 0.5
"""Seconds in which the relay accepts what was sent."""


def _answer(after: str) -> Point:
    return Point(ANSWER, after=after, seconds=_LONG_ENOUGH)


class Row(NamedTuple):
    """A point, and what it is for each contender: nothing, where it has no such point."""

    name: str
    points: dict[str, Point]


ROWS = (
    Row(
        "before the request is sent",
        {HTTP: Point(_RUN), TASK: Point(_POST), OURS: POINTS["before the intent"]},
    ),
    Row("between intent and send", {OURS: POINTS["between intent and send"]}),
    Row(
        "after the send, before the answer",
        {
            HTTP: _answer(_RUN),
            TASK: _answer(_POST),
            OURS: POINTS["after the send, before the answer"]._replace(seconds=_LONG_ENOUGH),
        },
    ),
    Row(
        "after the answer, before it is recorded",
        {
            HTTP: Point(_RUN, "result"),
            TASK: Point(_POST, "result"),
            OURS: POINTS["after the answer, before the record"],
        },
    ),
    Row("after the record, before XCom", {OURS: POINTS["after the record, before XCom"]}),
    Row("after XCom, before the task's end", {HTTP: _PUSHED, DEFERRABLE: _PUSHED, TASK: _PUSHED, OURS: _PUSHED}),
    Row(
        "in a synchronous wait",
        {HTTP: _POKE, DEFERRABLE: _POKE, TASK: Point("requests.api:get"), OURS: POINTS["in a synchronous wait"]},
    ),
    Row(
        "before deferring",
        {DEFERRABLE: Point(f"{_HTTP_OPERATOR}.execute_async"), OURS: POINTS["before deferring"]},
    ),
    Row("while deferred: the triggerer dies", {DEFERRABLE: IN_THE_TRIGGERER, OURS: IN_THE_TRIGGERER}),
    Row(
        "on resuming",
        {DEFERRABLE: Point(f"{_HTTP_OPERATOR}.execute_complete"), OURS: POINTS["on resuming"]},
    ),
)
DEFERRED = ("before deferring", "while deferred: the triggerer dies", "on resuming")
"""Where our operator waits deferrably. Everywhere else it waits in its worker, as the others do."""


class Case(NamedTuple):
    """One task, or one task and its sensor, that is killed once."""

    contender: str
    row: Row
    number: int

    @property
    def seed(self) -> str:
        """What its prompt holds."""
        return f"compare-{CONTENDERS.index(self.contender)}-{ROWS.index(self.row)}-{self.number}"

    @property
    def strike(self) -> Strike | None:
        """What hits its first try; nothing where it is the triggerer that dies."""
        point = self.row.points[self.contender]
        return None if point is IN_THE_TRIGGERER else Strike(self.row.name, point)

    @property
    def in_sensor(self) -> bool:
        """Whether it is not the creating task that is struck, but the sensor after it."""
        return self.row.points[self.contender] is _POKE


def cases(each: int) -> Iterator[Case]:
    """Return this number of cases for each point of each contender."""
    for row in ROWS:
        for contender in row.points:
            for number in range(each):
                yield Case(contender, row, number)


def case_of(seed: str) -> Case:
    """Return the case with this seed."""
    contender, row, number = map(int, seed.split("-")[1:])
    return Case(CONTENDERS[contender], ROWS[row], number)


def task_instances(each: int) -> dict[tuple[str, str, int], Case]:
    """Return the cases by DAG id, task id and map index of the task instances that create the videos."""
    found: dict[tuple[str, str, int], Case] = {}
    number: Counter[tuple[str, str]] = Counter()
    for case in cases(each):
        dag_id = TRIGGERER if case.row.points[case.contender] is IN_THE_TRIGGERER else WORKERS
        deferrable = case.contender == OURS and case.row.name in DEFERRED
        task_id = f"{TASK_IDS[case.contender]}{'_deferrable' if deferrable else ''}"
        found[dag_id, task_id, number[dag_id, task_id]] = case
        number[dag_id, task_id] += 1
    return found


def body(prompt: str) -> dict[str, Any]:
    """Return what the relay is sent by those who don't have our operator to build it."""
    return {
        "model": "veo3-fast",
        "prompt": prompt,
        "enhance_prompt": True,
        "enable_upsample": False,
        "aspect_ratio": "16:9",
    }


def make_video(prompt: str, url: str, key: str) -> str:
    """Create a video and wait for it, as a user's own function would."""
    import requests

    log = logging.getLogger("airflow.task")
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
    response = requests.post(f"{url}/v1/video/create", json=body(prompt), headers=headers, timeout=(10, 60))
    response.raise_for_status()
    veo_task_id = response.json()["id"]
    log.info("Submitted video %s", veo_task_id)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        answer = requests.get(f"{url}/v1/video/query", {"id": veo_task_id}, headers=headers, timeout=(10, 60))
        answer.raise_for_status()
        if is_completed(answer):
            return veo_task_id
        time.sleep(1)
    raise TimeoutError(f"Video {veo_task_id} was not ready in time")


def is_completed(response: Any) -> bool:
    """Return whether a video is ready."""
    status = response.json()["status"]
    if status == "failed":
        raise RuntimeError(f"The video failed: {response.text}")
    return status == "completed"
