"""A DAG run whose tasks are cleared, round after round, and what each round has left."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.airflow_lines import LINE, TASK_STATES

if TYPE_CHECKING:
    from pathlib import Path

RECORD, INTENT = "veo_submission", "veo_submission_intent"


@dataclass
class Round:
    """A task instance from the moment that it is started, or cleared, to its end: one try or more."""

    state: str
    record: object
    xcoms: dict[str, object]
    sent: int
    """How many creates the relay has received for it, from the first round on."""
    accepted: list[str]
    """The ids that the relay has given it, from the first round on."""
    files: list[Path]

    @property
    def tries(self) -> list[str]:
        """What each try has logged, and what its exceptions say."""
        return [_read_log(file) for file in self.files]

    @property
    def only_try(self) -> str:
        (log,) = self.tries
        return log


def _read_log(file):
    said = []
    for line in map(json.loads, file.read_text().splitlines()):
        said += [line["event"], line.get("reason", ""), *(error["exc_value"] for error in line.get("error_detail", ()))]
    return "\n".join(said)


class Story:
    """A DAG run, and what became of its tasks each time that they were cleared."""

    def __init__(self, services, relay, dag_id, run_id="run"):
        self.dag_id = dag_id
        self.run_id = services.trigger(dag_id, run_id)
        self.rounds = {}
        self._services = services
        self._relay = relay
        self._tries = Counter()

    def end(self):
        """Wait for the end of the run, and look at what is left by the tasks that ran."""
        self._services.wait_for(self.dag_id, self.run_id)
        records = self.records()
        for row in self.rows():
            name = row.task_id if row.map_index < 0 else f"{row.task_id}[{row.map_index}]"
            tries = range(self._tries[name] + 1, row.try_number + 1)
            if tries:
                self._tries[name] = row.try_number
                self.rounds.setdefault(name, []).append(self._round(name, row, tries, records.get(name)))

    def _round(self, name, row, tries, record):
        airflow = self._services.airflow
        folder = airflow.home / f"logs/dag_id={self.dag_id}/run_id={self.run_id}/task_id={row.task_id}"
        folder = folder if row.map_index < 0 else folder / f"map_index={row.map_index}"
        xcoms = airflow.xcoms(self.dag_id, self.run_id)
        creates = [json.loads(request["body"]) for request in self._relay.requests()]
        return Round(
            state=row.state,
            record=record,
            xcoms={
                key: value
                for (task, key, index), value in xcoms.items()
                if (task, index) == row[:2] and key != "_link_VideoLink"  # empty while a task doesn't know the URL
            },
            sent=sum(self._is_about(name, create["prompt"]) for create in creates),
            accepted=self.accepted(name),
            files=[folder / f"attempt={number}.log" for number in tries],
        )

    def _is_about(self, name, prompt):
        return prompt.partition(":")[0] in (name, self.run_id)

    def accepted(self, name):
        return [video["id"] for video in self._relay.videos() if self._is_about(name, video["prompt"])]

    def rows(self):
        return self._services.task_instances(self.dag_id, self.run_id)

    def records(self):
        rows = self._services.airflow.query(
            f"SELECT task_id, map_index, value FROM {TASK_STATES} states "
            "WHERE dag_id = ? AND run_id = ? AND key IN (?, ?)",
            self.dag_id,
            self.run_id,
            RECORD,
            INTENT,
        )
        found = {task if index < 0 else f"{task}[{index}]": json.loads(value) for task, index, value in rows}
        assert len(found) == len(rows), "a task has both a video and an intent"
        return found

    def clear(self, *task_ids, keep_task_state=True):
        """Let tasks run again, whatever became of them. Before Airflow 3.4, their state is kept in any case."""
        what = {"dry_run": False, "only_failed": False, "reset_dag_runs": True, "dag_run_id": self.run_id}
        if LINE >= (3, 4):
            what["keep_task_state"] = keep_task_state
        path = f"/api/v2/dags/{self.dag_id}/clearTaskInstances"
        ask(self._services, "POST", path, {**what, "task_ids": list(task_ids)})

    def overwrite(self, task_id, record):
        ask(self._services, "PUT", self._path(task_id), {"value": record})

    def remove(self, task_id, key=RECORD):
        ask(self._services, "DELETE", self._path(task_id, key))

    def _path(self, task_id, key=RECORD):
        task_instance = f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{task_id}"
        return f"/api/v2/{task_instance}/state-store/{key}"


def ask(services, method, path, document=None):
    answer = services.ask(method, path, document)
    assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
