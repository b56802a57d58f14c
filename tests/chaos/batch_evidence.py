"""What is left of a batch: what it wrote, what the relay has accepted for it, and what hit it."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos import harness, killer, shared_memory
from tests.chaos.batches import JOBS, job_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.chaos.batches import Batch

MEMORY = "memory://batches"


class Job(NamedTuple):
    """One job of a batch, as the results, the journal and the relay know it."""

    number: int
    row: dict
    ids: set[str]
    """All that the journal has of it."""
    videos: list[dict]
    """That the relay accepted for it, oldest first."""
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """
    One batch, from its first try to its end.

    :param state: Airflow's.
    :param result: its XCom ``return_value``.
    :param log: of all its tries.
    :param videos: that the relay accepted, oldest first, by the job's number.
    :param files: that it wrote, by their path below its ``result_path``.
    :param strikes: that hit it.
    """

    plan: Batch
    state: str | None
    tries: int
    result: dict | None
    log: str
    videos: Mapping[int, list[dict]]
    files: Mapping[str, bytes]
    strikes: list[dict]

    @cached_property
    def rows(self) -> list[dict]:
        """The results; empty, where there are none."""
        return _lines(self.files.get("results.jsonl", b""))

    @cached_property
    def summary(self) -> dict:
        """The summary; empty, where there is none."""
        return json.loads(self.files.get("summary.json", b"{}"))

    @cached_property
    def jobs(self) -> list[Job]:
        """All of its jobs, where there is a row for each."""
        ids = self._ids
        return [
            Job(number, row, ids[row["key"]], self.videos.get(number, []), self.plan.faults.get(number, ()))
            for number, row in enumerate(self.rows)
        ]

    @property
    def is_complete(self) -> bool:
        """Whether the rows are those of the jobs, each once, in their order."""
        keys = [row["key"] for row in self.rows]
        expected = [self.plan.key(number) for number in range(JOBS)] if self.plan.named else keys
        asked = [job_of(row["request"]["prompt"]) for row in self.rows]
        in_order = asked == [(self.plan.seed, number) for number in range(JOBS)]
        return in_order and keys == expected and len(set(keys)) == JOBS

    @property
    def accepted(self) -> int:
        """How many videos the relay has accepted."""
        return sum(map(len, self.videos.values()))

    @property
    def _ids(self) -> dict[str, set[str]]:
        """What was ever on record, by the job's key: files that are tidied away are in those that took their place."""
        found: dict[str, set[str]] = defaultdict(set)
        for name, content in self.files.items():
            if name.startswith("_journal/0"):
                for record in _lines(content)[1:]:
                    found[record["key"]].update(filter(None, [record.get("veo_task_id"), *record.get("earlier", ())]))
        return found


def _lines(content: bytes) -> list[dict]:
    return [json.loads(line) for line in content.splitlines()]


def collect(
    place: harness.Place, dag_id: str, plans: Mapping[tuple[str, int], Batch], files: Mapping[str, bytes]
) -> list[Ended]:
    """
    Return what is left of each batch.

    :param plans: by task id and map index.
    :param files: all that were written, by their path: a batch's begins with its seed.
    """
    airflow = place.services.airflow
    xcoms, logs = airflow.xcoms(dag_id, harness.RUN_ID), harness.logs_of(airflow, dag_id)
    videos: dict[str, dict[int, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for video in place.relay.videos():
        seed, number = job_of(video["prompt"])
        videos[seed][number].append(video)
    written: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path, content in files.items():
        seed, _, name = path.partition("/")
        written[seed][name] = content
    strikes = killer.strikes(place.strikes)
    return [
        Ended(
            plan=(plan := plans[key := (row.task_id, row.map_index)]),
            state=row.state,
            tries=row.try_number,
            result=xcoms.get((row.task_id, "return_value", row.map_index)),
            log=logs[key],
            videos=videos[plan.seed],
            files=written[plan.seed],
            strikes=[strike for strike in strikes if strike["seed"] == plan.seed],
        )
        for row in airflow.task_instances(dag_id, harness.RUN_ID)
    ]


def written(folder: Path, variables: dict[str, str]) -> dict[str, bytes]:
    """Return all files in a local folder and in the shared memory, by their path below its root."""
    local = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    root = f"/{MEMORY.rpartition('/')[2]}/"
    return local | {
        path.removeprefix(root): content
        for path, content in shared_memory.records(variables).items()
        if path.startswith(root)
    }
