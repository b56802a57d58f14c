"""
One batch, divided among several tasks: which jobs each takes, its part of the limits, and where its records are.

Everything is divided before anything is sent, and no shard waits for another one. What keeps a job from being billed by
two shards:

- Which shard takes a job depends on its key and the number of shards alone. Jobs with the same request and no keys,
  which are told apart by their order, are in the same shard.
- A batch keeps its number of shards: another one is refused, because jobs would move to shards that don't know them.
- A shard's journal belongs to one task instance.

If shards read different manifests, for example because the file was replaced between two starts, each works on what it
has read. The parts of ``max_cost`` still add up to no more than the whole, see :meth:`Shard.limit`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_veo.batch.jobs import base_key
from airflow_provider_veo.files import atomic
from airflow_provider_veo.protocol import VeoJournalError, VeoJournalRecordError, VeoValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.batch.inputs import Jobs
    from airflow_provider_veo.batch.jobs import Job

JOURNAL = "_journal"
SHARDS = "_shards"
"""The folder of the shards' records and results."""
_BUDGET = "budget.json"
_NAME = re.compile(r"(\d{1,6})-of-(\d{1,6})", re.ASCII)
_SMALLEST = Decimal("1e-9")
_PRICED_BY = ("model", "seconds")
"""The fields of a request on which its price may depend."""


class Priced(NamedTuple):
    """What a job's price depends on."""

    body: dict[str, Any]
    existing_veo_task_id: str | None


class Tally:
    """
    The number of jobs of a whole batch, and what each is billed for: a shard keeps this of the others' jobs.

    :param jobs: of all shards.
    """

    def __init__(self, jobs: Iterable[Job | Priced]) -> None:
        # As JSON: a request's extra fields may have any values.
        self._counts = Counter((_priced_by(job.body), job.existing_veo_task_id is None) for job in jobs)

    @classmethod
    def of(cls, record: Iterable[Mapping[str, Any]]) -> Tally:
        """Restore a tally from :meth:`to_list`."""
        tally = cls(())
        for each in record:
            tally._counts[_priced_by(each["body"]), bool(each["billed"])] += int(each["jobs"])
        return tally

    def to_list(self) -> list[dict[str, Any]]:
        """Return a JSON-serializable list."""
        counts = self._counts.items()
        return [{"jobs": count, "billed": billed, "body": json.loads(body)} for (body, billed), count in counts]

    @property
    def jobs(self) -> list[Priced]:
        """As many jobs as there are, with what their prices depend on."""
        return [
            each
            for (body, billed), count in self._counts.items()
            for each in [Priced(json.loads(body), None if billed else "existing")] * count
        ]


def _priced_by(body: Mapping[str, Any]) -> str:
    return json.dumps({name: body[name] for name in _PRICED_BY if name in body})


@dataclass(frozen=True)
class Shard:
    """
    One of the tasks that share a batch.

    :param index: its number, from 0.
    :param count: number of shards. A batch that is not divided is its own only shard.
    """

    index: int = 0
    count: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether the batch is not divided."""
        return self.count == 1

    @property
    def name(self) -> str:
        """For people, and of its folder: ``3-of-8``."""
        return f"{self.index}-of-{self.count}"

    @property
    def below(self) -> str:
        """The path of its records and results below the folder of the batch; empty for a batch that is not divided."""
        return "" if self.is_whole else f"/{SHARDS}/{self.name}"

    def folder(self, root: ObjectStoragePath) -> ObjectStoragePath:
        """Return the folder of its records and results in that of the batch."""
        return root if self.is_whole else root / SHARDS / self.name

    def takes(self, job: Job) -> bool:
        """Whether a job is this shard's. It must be the same in every version of this package."""
        digest = hashlib.sha256(base_key(job).encode()).digest()
        return int.from_bytes(digest, "big") % self.count == self.index

    def part_of(self, total: int) -> int:
        """Return this shard's part of a number; the parts add up to it."""
        return total // self.count + (self.index < total % self.count)

    def about(self, read: Jobs) -> dict[str, Any]:
        """Return what a shard adds to its summary, so that merging them finds out whether they belong together."""
        total = len(read.whole.jobs)
        return {"shard": self.index, "shards": self.count, "input": read.head["input"], "total_of_all_shards": total}

    def refuse_another_division(self, root: ObjectStoragePath) -> None:
        """
        Refuse a folder whose batch began with another number of shards.

        :param root: the folder of the batch.
        :raises VeoValidationError: it did.
        :raises VeoJournalError: the folder can't be read.
        """
        before = {1} if JOURNAL in _names(root) else set()
        before |= {count for _, count in shards_in(root)}
        if others := sorted(before - {self.count}):
            was = " and ".join(map(str, others))
            raise VeoValidationError(
                "The number of shards of this batch has changed. Nothing was sent in this try.",
                [
                    f"shards: {root} has the records of a batch that began with shards={was}, and this task has "
                    f"shards={self.count}: jobs would move to shards that don't know what was submitted, and be billed "
                    f"again. Set shards={others[0]} again, or choose another result_path to be billed for a new batch"
                ],
            )

    def limit(
        self,
        root: ObjectStoragePath,
        max_cost: Any,
        jobs: Iterable[Job],
        whole: Tally,
        committed: Any,
        price: Callable[[Any], Any],
    ) -> Decimal:
        """
        Return what this shard may spend: the price of its jobs, and its part of what all jobs leave of the maximum.

        With the same manifest in all shards, the limits add up to the maximum. If manifests or prices differ, this
        would not hold. So each shard publishes its limit first, and then reads those of the others: of two shards that
        begin at once, at least one sees the other. What others have reserved is not available to this one.

        :param root: the folder of the batch.
        :param max_cost: the maximum for the whole batch.
        :param jobs: of this shard.
        :param whole: of all shards.
        :param committed: what this shard has spent, or may have spent.
        :param price: returns the price of a job.
        :raises VeoJournalError: the limits can't be read or written.
        """
        most, spent = _exact(max_cost), _exact(committed)
        left = most - _cost(whole.jobs, price)
        limit = _cost(jobs, price) + (left / self.count).quantize(_SMALLEST, ROUND_DOWN)
        self._reserve(root, max(limit, spent))
        available = most - sum(self._reserved_by_others(root), Decimal(0))
        if available < limit:
            limit = available
            self._reserve(root, max(limit, spent))
        return limit

    def _reserve(self, root: ObjectStoragePath, amount: Decimal) -> None:
        path = self.folder(root) / _BUDGET
        try:
            atomic.write(path, json.dumps({"reserved": str(amount)}).encode())
        except Exception as error:  # of any storage library
            raise VeoJournalError(f"Could not write {path}: {error}\n{_NOTHING_SENT}") from error

    def _reserved_by_others(self, root: ObjectStoragePath) -> list[Decimal]:
        paths = [Shard(*each).folder(root) / _BUDGET for each in shards_in(root) if each != (self.index, self.count)]
        return [amount for path in paths if (amount := _reserved(path)) is not None]


def split(folder: str) -> tuple[str, Shard] | None:
    """Return the folder of a batch and the shard, given the URI of a shard's folder; ``None`` for any other URI."""
    root, _, name = folder.rpartition(f"/{SHARDS}/")
    found = _NAME.fullmatch(name)
    return (root, Shard(int(found[1]), int(found[2]))) if root and found else None


WHOLE = Shard()
"""A batch that is not divided."""


def shards_in(root: ObjectStoragePath) -> list[tuple[int, int]]:
    """
    Return index and number of the shards that have a folder in that of a batch.

    :raises VeoJournalError: it can't be read.
    """
    found = (_NAME.fullmatch(name) for name in _names(root / SHARDS))
    return sorted((int(each[1]), int(each[2])) for each in found if each)


def _names(folder: ObjectStoragePath) -> list[str]:
    try:
        return atomic.names(folder)
    except Exception as error:  # of any storage library
        raise VeoJournalError(f"Could not list {folder}: {error}\n{_NOTHING_SENT}") from error


def _reserved(path: ObjectStoragePath) -> Decimal | None:
    """Return what a shard has reserved; ``None`` if it has not begun, or has no limit."""
    try:
        content = atomic.read(path)
    except Exception as error:  # of any storage library
        raise VeoJournalError(f"Could not read {path}: {error}\n{_NOTHING_SENT}") from error
    if content is None:
        return None
    try:
        amount = Decimal(json.loads(content)["reserved"])
        if not amount.is_finite():
            raise ValueError("not a finite number")
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise VeoJournalRecordError(
            f"Could not use {path}, what a shard of this batch has reserved of max_cost: {error!r:.200}\n"
            "Nothing was sent in this try. Remove the file and clear that shard, which writes it again."
        ) from error
    return amount


_NOTHING_SENT = "Nothing was sent in this try. Check the storage, then try again."


def _cost(jobs: Iterable[Any], price: Callable[[Any], Any]) -> Decimal:
    """Return the price of jobs; existing videos are free."""
    costs = Counter(price(job) or 0 for job in jobs if job.existing_veo_task_id is None)
    return sum((_exact(cost) * count for cost, count in costs.items()), Decimal(0))


def _exact(amount: Any) -> Decimal:
    return Decimal(str(amount))
