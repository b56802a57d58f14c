"""The budget of a batch: what it may spend, and what it has spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_veo.journal.submission import INTENDED
from airflow_provider_veo.protocol import VeoError, VeoValidationError
from airflow_provider_veo.protocol.prices import NOTHING, exact, written

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from decimal import Decimal

    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.connection import VeoConnection
    from airflow_provider_veo.journal.submission import Submission


class Budget:
    """
    Adds up the price of everything that was, or may have been, accepted in all tries.

    :param settings: the connection, with its prices.
    :param max_cost: the maximum that may be spent; ``None``: no limit.
    """

    def __init__(self, settings: VeoConnection, max_cost: float | None = None) -> None:
        self.account = settings.billed
        """Who is billed."""
        self._settings = settings
        self._max_cost = None if max_cost is None else exact(max_cost)
        self._note = ""
        self._committed = NOTHING

    def begin(self, jobs: Iterable[Job], records: Iterable[Submission]) -> None:
        """Add what is on record. Submissions that had no known price are added at the current one."""
        prices = {job.key: self.price(job) or NOTHING for job in jobs}
        for record in records:
            price = prices.get(record.key, NOTHING)
            cost = price * len(record.billed_ids) if record.cost is None else record.cost
            self._committed += cost + record.may_have_cost
            if record.state == INTENDED and record.price is None:
                self._committed += price

    def use_part(self, limit: Decimal) -> None:
        """Spend no more than this shard's part of the maximum."""
        self._max_cost, self._note = limit, " This is the part of one shard: clear all of them."

    @property
    def committed(self) -> Decimal:
        """What was spent, or may have been spent."""
        return self._committed

    def refuse_other_accounts(self, records: Collection[Submission]) -> None:
        """
        Refuse to work on videos that this account can't poll.

        :param records: those in flight with another account.
        :raises VeoValidationError: there are such records.
        """
        if not records:
            return
        names, mine = ", ".join(sorted({repr(record.account) for record in records})), self.account.name
        raise VeoValidationError(
            "Videos of this batch are in flight that were submitted with another account. Nothing was sent.",
            [
                f"{len(records)} jobs are in flight with the account {names}, and this task uses {mine!r}: set "
                "veo_conn_id back until they have ended; or, if both connections bill the same account, give both the "
                "same extra field account; or choose another result_path to be billed for them again"
            ],
        )

    def price(self, job: Job) -> Decimal | None:
        """Return the price of a job; ``None`` if it is not known."""
        return self._settings.price_of(job.body)

    def commit(self, job: Job) -> None:
        """
        Reserve the price of a job before it is sent.

        :raises VeoError: the remaining budget does not cover it, or its price is not known.
        """
        price = self.price(job)
        if price is None and self._max_cost is not None:
            raise VeoError(
                f"max_cost={written(self._max_cost)} can't be kept: {job.body['model']} has no known price. "
                "Add it to the connection's prices, and clear this task to submit it."
            )
        price = price or NOTHING
        if self._max_cost is not None and self._committed + price > self._max_cost:
            committed, most = written(self._committed), written(self._max_cost)
            raise VeoError(
                f"It costs {written(price)}, and {committed} of max_cost={most} is already spent. "
                f"Raise max_cost and clear this task to submit it.{self._note}"
            )
        self._committed += price

    def release(self, job: Job) -> None:
        """Return the price of a job that was not accepted to the budget."""
        self._committed -= self.price(job) or NOTHING
