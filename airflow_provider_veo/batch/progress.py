"""The progress of a batch, in one line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.journal.submission import STORED, SUCCEEDED
from airflow_provider_veo.protocol.prices import NOTHING, number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from decimal import Decimal

    from airflow_provider_veo.journal.submission import Submission

SECONDS_BETWEEN = 30.0
"""Between two progress lines in the log."""


@dataclass(frozen=True)
class Progress:
    """
    The progress of a batch.

    :param total: number of jobs.
    :param done: videos that are ready.
    :param failed: jobs that ended without a video.
    :param generating: videos that are being generated.
    :param to_submit: jobs that are still to be submitted.
    :param since: epoch seconds of this try's first submission, or of its start.
    :param cost: price of everything that was accepted; ``None`` if any of it has no price.
    :param ended_before: jobs that had ended when this try began.
    :param folder: ``ObjectStoragePath`` of the records and results.
    """

    total: int
    done: int
    failed: int
    generating: int
    to_submit: int
    since: float | None = None
    cost: float | None = None
    ended_before: int = 0
    folder: str | None = None

    @classmethod
    def of(
        cls,
        total: int,
        records: Mapping[str, Submission],
        generating: Collection[str],
        to_submit: Collection[str],
        began: float | None = None,
        ended_before: int = 0,
    ) -> Progress:
        """
        Compute the progress from the records.

        :param total: number of jobs.
        :param records: their records, by key.
        :param generating: keys of the jobs whose videos are being generated.
        :param to_submit: keys of the jobs to submit, for the first time or again.
        :param began: epoch seconds when this try began.
        :param ended_before: jobs that had ended by then.
        """
        ended = [record for key, record in records.items() if key not in generating and key not in to_submit]
        done = sum(record.state in (SUCCEEDED, STORED) for record in ended)
        submitted = (record.submitted for record in records.values())
        since = min((each for each in submitted if began is None or each >= began), default=began)
        failed = max(0, total - done - len(generating) - len(to_submit))
        cost = number(cost_of(records.values()))
        return cls(total, done, failed, len(generating), len(to_submit), since, cost, ended_before)

    def with_ended(self, done: int, failed: int) -> Progress:
        """Return a copy in which this many more of the generating videos have ended."""
        return replace(
            self, done=self.done + done, failed=self.failed + failed, generating=self.generating - done - failed
        )

    def per_minute(self, now: float) -> float:
        """Return the number of jobs that end per minute in this try."""
        seconds = now - self.since if self.since else 0.0
        ended = max(0, self.done + self.failed - self.ended_before)
        return ended * 60 / seconds if seconds > 0 else 0.0

    def line(self, now: float) -> str:
        """Return the progress as text, e.g. ``412/1000 done, 3 failed, 20 generating, 565 to submit, 18.2/min, …``."""
        parts = [f"{self.done}/{self.total} done", f"{self.failed} failed", f"{self.generating} generating"]
        parts.append(f"{self.to_submit} to submit")
        left, rate = self.generating + self.to_submit, self.per_minute(now)
        if rate:
            parts.append(f"{rate:.1f}/min")
        if rate and left:
            parts.append(f"about {max(1, round(left / rate))} min left")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict."""
        known = asdict(self)
        if not self.ended_before:
            del known["ended_before"]
        return known


def cost_of(records: Iterable[Submission]) -> Decimal | None:
    """Return the price of everything that was accepted, in all tries; ``None`` if any of it has no price."""
    costs = [record.cost for record in records]
    known = [cost for cost in costs if cost is not None]
    return sum(known, NOTHING) if len(known) == len(costs) else None
