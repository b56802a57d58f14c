"""What a batch may spend, and what it has spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_veo.batch.entry import ACCEPTED, INTENDED
from airflow_provider_veo.protocol import VeoError, VeoValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_veo.batch.entry import Entry
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.connection import VeoConnection

_ROUNDING = 1e-9


class Budget:
    """
    Counts the price of everything that was accepted, in all tries, and of what may have been.

    :param settings: the connection, with its prices.
    :param max_cost: the most that may be spent; ``None``: anything.
    """

    def __init__(self, settings: VeoConnection, max_cost: float | None = None) -> None:
        self.account = settings.billed
        """Who is billed."""
        self._prices = settings.prices
        self._max_cost = max_cost
        self._committed = 0.0

    def begin(self, jobs: Iterable[Job], entries: Iterable[Entry]) -> None:
        """Count what is on record."""
        prices = {job.key: self.price(job) or 0.0 for job in jobs}
        for entry in entries:
            self._committed += (entry.cost or 0.0) + entry.may_have_cost
            if entry.state == INTENDED and entry.price is None:  # recorded by an earlier version
                self._committed += prices.get(entry.key, 0.0)

    def refuse_another_account(self, jobs: Iterable[Job], entries: Mapping[str, Entry]) -> None:
        """
        Make sure that what is on the way was submitted with this account.

        :raises VeoValidationError: it was not. Asking here for it is no use, and submitting it here pays twice.
        """
        known = (entries[job.key] for job in jobs if job.key in entries)
        others = [
            entry
            for entry in known
            if entry.state in (INTENDED, ACCEPTED) and entry.account not in (None, self.account.name)
        ]
        if not others:
            return
        names = ", ".join(sorted({repr(entry.account) for entry in others}))
        raise VeoValidationError(
            "What this batch has on the way was submitted with another account. Nothing was sent.",
            [
                f"{len(others)} jobs are on the way with the account {names}, and this task uses "
                f"{self.account.name!r}: set veo_conn_id back until they have ended; or, if both connections bill the "
                "same account, say so by the same extra field account in both; or choose another result_path to pay "
                "for them again"
            ],
        )

    def price(self, job: Job) -> float | None:
        """Return what a job costs; ``None`` where nobody has said."""
        return self._prices.get(job.body["model"])

    def commit(self, job: Job) -> None:
        """
        Set the price of a job aside, before it is sent.

        :raises VeoError: there is not enough left for it.
        """
        price = self.price(job) or 0.0
        if self._max_cost is not None and self._committed + price > self._max_cost * (1 + _ROUNDING):
            raise VeoError(
                f"It costs {price:g}, and {self._committed:g} of max_cost={self._max_cost:g} are spent already. "
                "Raise max_cost and clear this task to have it made."
            )
        self._committed += price

    def release(self, job: Job) -> None:
        """Give the price of a job back that was not accepted."""
        self._committed -= self.price(job) or 0.0
