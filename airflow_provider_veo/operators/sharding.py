"""A task that works on a batch, or on a shard of one: its folder, its journal, and its part of the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.journal.identity import owner_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_veo.batch.budget import Budget
    from airflow_provider_veo.batch.inputs import Jobs
    from airflow_provider_veo.batch.shards import Shard
    from airflow_provider_veo.journal.batch_journal import BatchJournal
    from airflow_provider_veo.log import Log


class Sharded:
    """Mixin for a task with ``result_path``, ``shards`` and ``shard``."""

    result_path: str | XComArg
    shards: int
    shard: int

    @property
    def as_shard(self) -> Shard:
        """The part of the batch that this task works on."""
        from airflow_provider_veo.batch.shards import Shard

        return Shard(self.shard, self.shards)

    @property
    def batch_uri(self) -> str:
        """URI of the folder of the whole batch."""
        return str(self.result_path).rstrip("/")

    @property
    def folder_uri(self) -> str:
        """URI of the folder with this task's records and results."""
        return f"{self.batch_uri}{self.as_shard.below}"

    @property
    def folder(self) -> ObjectStoragePath:
        """The folder with this task's records and results."""
        return ObjectStoragePath(self.folder_uri)

    def refuse_another_division(self) -> None:
        """
        Refuse to work on a batch that began with another number of shards.

        :raises VeoValidationError: it did.
        """
        self.as_shard.refuse_another_division(ObjectStoragePath(self.batch_uri))

    def journal(self, context: Context, log: Log) -> BatchJournal:
        """
        Return the journal of this task.

        :raises VeoValidationError: the batch began with another number of shards.
        """
        from airflow_provider_veo.batch.shards import JOURNAL
        from airflow_provider_veo.journal.batch_journal import BatchJournal

        self.refuse_another_division()
        return BatchJournal(self.folder / JOURNAL, owner_of(context), log)

    def limit(self, budget: Budget, max_cost: float | None, read: Jobs) -> None:
        """Limit the budget of a shard to its part of the maximum; a batch that is not divided has all of it."""
        if max_cost is not None and not self.as_shard.is_whole:
            root = ObjectStoragePath(self.batch_uri)
            parts = (max_cost, read.jobs, read.whole, budget.committed, budget.price)
            budget.use_part(self.as_shard.limit(root, *parts))
