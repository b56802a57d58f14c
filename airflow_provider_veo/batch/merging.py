"""
The results of a batch's shards, as those of one batch.

Rows are read as streams: memory doesn't grow with their number.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import time
from collections import Counter
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_veo.batch.jobs import position_of
from airflow_provider_veo.batch.results import FILE_FACTS, RESULTS, ROWS_AT_A_TIME, STATES, SUMMARY, Results
from airflow_provider_veo.batch.shards import Shard, shards_in
from airflow_provider_veo.files import atomic, remote
from airflow_provider_veo.journal.spend import merged
from airflow_provider_veo.journal.submission import now
from airflow_provider_veo.protocol import VeoJournalError, VeoValidationError
from airflow_provider_veo.protocol.prices import NOTHING, exact

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping
    from decimal import Decimal

    from airflow.providers.common.compat.sdk import ObjectStoragePath


class _Ended(NamedTuple):
    """A shard that has written its results."""

    shard: int
    folder: ObjectStoragePath
    summary: Mapping[str, Any]


class MergedResults(Results):
    """
    The rows of all shards that have results, in the order of the batch's input.

    :param folder: of the batch.
    :raises VeoValidationError: it has no shards.
    :raises VeoJournalError: it can't be read.
    """

    def __init__(self, folder: ObjectStoragePath) -> None:
        found = shards_in(folder)
        counts = {count for _, count in found}
        if len(counts) != 1:
            problem = "has no shards" if not counts else f"has shards of several batches ({sorted(counts)})"
            raise VeoValidationError(
                "There is nothing to merge.", [f"result_path: {folder} {problem}: expected the result_path of a batch"]
            )
        (self.shards,) = counts
        self._folder = folder
        self._ended = [each for index in range(self.shards) if (each := self._read(index))]

    @property
    def problems(self) -> list[str]:
        """Why these are not the results of the whole batch."""
        ended = {each.shard for each in self._ended}
        return [*self._missing(sorted(set(range(self.shards)) - ended)), *self._different()]

    @property
    def total(self) -> int:
        """Number of jobs."""
        return sum(each.summary["total"] for each in self._ended)

    @property
    def counts(self) -> dict[str, int]:
        """Number of jobs in each of the states."""
        return {state: sum(each.summary.get(state, 0) for each in self._ended) for state in STATES}

    @property
    def models(self) -> dict[str, dict[str, int]]:
        """Number of jobs in each state, by model."""
        counted: dict[str, Counter[str]] = {}
        for each in self._ended:
            for model, counts in each.summary["models"].items():
                counted.setdefault(model, Counter()).update(counts)
        return {model: dict(counts) for model, counts in counted.items()}

    @property
    def cost(self) -> Decimal | None:
        """Price of everything that was accepted; ``None`` if any of it has no price."""
        costs = [each.summary["cost"] for each in self._ended]
        return None if None in costs else _total(costs)

    @property
    def possible_cost(self) -> Decimal:
        """Price of what may have been billed in addition, as far as prices are known."""
        return _total(each.summary["possible_cost"] for each in self._ended)

    @property
    def spend(self) -> list[dict[str, Any]]:
        """What was spent, by day and model."""
        return merged(each.summary["spend"] for each in self._ended)

    @property
    def no_longer_asked_for(self) -> list[dict[str, Any]]:
        """Key and id of accepted submissions of jobs that are no longer in the batch."""
        return [video for each in self._ended for video in each.summary.get("no_longer_asked_for", ())]

    @property
    def times(self) -> dict[str, Any]:
        """As of :class:`~airflow_provider_veo.batch.results.Results`."""
        firsts = [each.summary["first_submitted_at"] for each in self._ended if "first_submitted_at" in each.summary]
        if not firsts:
            return {}
        seconds = round(time.time() - datetime.fromisoformat(min(firsts)).timestamp())
        return {"first_submitted_at": min(firsts), "written_at": now(), "seconds": seconds}

    @property
    def about(self) -> dict[str, Any]:
        """Additional fields of the summary: the accounts that are billed, and the task instance of each shard."""
        names = ("shard", "dag_id", "run_id", "task_id", "map_index", "loop_index", "try_number", "total", "written_at")
        tasks = [{name: each.summary[name] for name in names if name in each.summary} for each in self._ended]
        accounts = dict.fromkeys(str(each.summary["account"]) for each in self._ended)
        return {"account": ", ".join(accounts), "shards": tasks}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return a row for each job, in order."""
        return map(json.loads, self._merged())

    def files(self) -> Iterator[dict[str, Any]]:
        """Return the facts of each file."""
        for row in self.rows():
            if row["file"]:
                yield {"uri": row["file"], **{fact: row.get(fact) for fact in FILE_FACTS}, "veo_task_id": row["id"]}

    def _lines(self) -> Iterator[bytes]:
        with contextlib.closing(self._merged()) as rows:
            while some := list(islice(rows, ROWS_AT_A_TIME)):
                yield b"".join(some)

    def _merged(self) -> Generator[bytes]:
        for _, line in heapq.merge(*map(self._rows_of, self._ended), key=lambda row: row[0]):
            yield line

    def _rows_of(self, shard: _Ended) -> Iterator[tuple[int, bytes]]:
        path, count = shard.folder / RESULTS, 0
        try:
            with contextlib.closing(remote.open_for_reading(path)) as file:
                for line in file:
                    count += 1
                    yield position_of(json.loads(line)["source"]), line
        except Exception as error:  # of any storage library
            raise _unreadable(path, error) from error
        if count != shard.summary["total"]:
            expected = shard.summary["total"]
            raise VeoJournalError(
                f"{path} has {count:,} rows, and its summary says {expected:,}: its task is writing them.\n"
                "Wait until all shards have ended, then clear this task. It sends nothing."
            )

    def _read(self, index: int) -> _Ended | None:
        folder = Shard(index, self.shards).folder(self._folder)
        path = folder / SUMMARY
        try:
            content = atomic.read(path)
            return None if content is None else _Ended(index, folder, json.loads(content))
        except Exception as error:  # of any storage library
            raise _unreadable(path, error) from error

    def _missing(self, indices: list[int]) -> Iterator[str]:
        if indices:
            yield (
                f"{_listed(indices)} of {self.shards} shards have no results, and their jobs are missing here. Videos "
                "that they have submitted are billed. Clear their tasks, which continue with them, and this one"
            )

    def _different(self) -> Iterator[str]:
        inputs: dict[str, list[int]] = {}
        for each in self._ended:
            inputs.setdefault(str(each.summary["input"]), []).append(each.shard)
        if len(inputs) > 1:
            groups = "; ".join(_listed(indices) for indices in inputs.values())
            yield (
                f"The shards have read different inputs (equal ones: {groups}), because the manifest or an argument "
                "was changed between their starts: jobs may be missing or appear twice. Clear the tasks of all shards "
                "and this one. Jobs that did not change are not billed again"
            )
        elif len(self._ended) == self.shards and self.total != self._whole:
            yield (
                f"The shards have {self.total:,} jobs, and the batch has {self._whole:,}. Report this as a bug of the "
                "provider; jobs may be missing"
            )

    @cached_property
    def _whole(self) -> int:
        return int(self._ended[0].summary["total_of_all_shards"])


def _total(amounts: Iterable[float]) -> Decimal:
    return sum(map(exact, amounts), NOTHING)


def _listed(indices: list[int]) -> str:
    return ", ".join(map(str, indices))


def _unreadable(path: ObjectStoragePath, error: Exception) -> VeoJournalError:
    if isinstance(error, VeoJournalError):
        return error
    return VeoJournalError(
        f"Could not read {path}: {type(error).__name__}: {error}\nNothing was written. Check the storage, then retry."
    )
