"""The budget of a batch: what it may spend, and what it has spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_veo.journal.submission import INTENDED
from airflow_provider_veo.protocol import VeoError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.connection import VeoConnection
    from airflow_provider_veo.journal.submission import Submission

_ROUNDING = 1e-9


class Budget:
    """
    Adds up the price of everything that was, or may have been, accepted in all tries.

    :param settings: the connection, with its prices.
    :param max_cost: the maximum that may be spent; ``None``: no limit.
    """

    def __init__(self, settings: VeoConnection, max_cost: float | None = None) -> None:
        self.account = settings.billed
        """Who is billed."""
        self._prices = settings.prices
        self._max_cost = max_cost
        self._committed = 0.0

    def begin(self, jobs: Iterable[Job], records: Iterable[Submission]) -> None:
        """Add what is on record."""
        prices = {job.key: self.price(job) or 0.0 for job in jobs}
        for record in records:
            self._committed += (record.cost or 0.0) + record.may_have_cost
            if record.state == INTENDED and record.price is None:  # recorded by an earlier version
                self._committed += prices.get(record.key, 0.0)

    def price(self, job: Job) -> float | None:
        """Return the price of a job; ``None`` if its model has none."""
        return self._prices.get(job.body["model"])

    def commit(self, job: Job) -> None:
        """
        Reserve the price of a job before it is sent.

        :raises VeoError: the remaining budget does not cover it.
        """
        price = self.price(job) or 0.0
        if self._max_cost is not None and self._committed + price > self._max_cost * (1 + _ROUNDING):
            raise VeoError(
                f"It costs {price:g}, and {self._committed:g} of max_cost={self._max_cost:g} is already spent. "
                "Raise max_cost and clear this task to submit it."
            )
        self._committed += price

    def release(self, job: Job) -> None:
        """Return the price of a job that was not accepted to the budget."""
        self._committed -= self.price(job) or 0.0
