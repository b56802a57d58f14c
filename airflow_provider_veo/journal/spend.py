"""
What submissions cost, by day and model, for an XCom: a few rows, however many submissions there are.

What may have been billed in addition is never added to a cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.journal.submission import INTENDED
from airflow_provider_veo.protocol.prices import NOTHING, exact, number
from airflow_provider_veo.protocol.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from airflow_provider_veo.journal.submission import Submission

SPEND = "veo_spend"
"""Key of the XCom."""
MAX_ROWS = 100
"""All further rows are one row, without a model."""
MODEL_CHARACTERS = 200


@dataclass
class Row:
    """
    What was spent on a day with a model.

    :param videos: submissions that were accepted.
    :param unpriced: jobs whose cost is not known, because a submission has no price.
    :param cost: of all other jobs' accepted submissions.
    :param unknown: jobs with a submission that may have been accepted.
    :param possible_cost: price of those submissions, as far as it is known. Not part of the cost.
    """

    videos: int = 0
    unpriced: int = 0
    cost: Decimal = NOTHING
    unknown: int = 0
    possible_cost: Decimal = NOTHING

    def add(self, other: Row) -> None:
        """Add another row to this one."""
        self.videos += other.videos
        self.unpriced += other.unpriced
        self.cost += other.cost
        self.unknown += other.unknown
        self.possible_cost += other.possible_cost

    @property
    def size(self) -> Decimal:
        """By what rows are sorted if there are too many."""
        return self.cost + self.possible_cost

    @classmethod
    def of(cls, record: Submission) -> Row:
        """Return what a job, or a task with one video, has cost in all tries."""
        unpriced = int(record.cost is None or record.has_no_price)
        unknown = int(record.state == INTENDED or record.may_have_cost > 0)
        return cls(len(record.billed_ids), unpriced, record.cost or NOTHING, unknown, record.may_have_cost)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Row:
        """Restore a row from :meth:`to_dict`."""
        amounts = {"cost": exact(row["cost"]), "possible_cost": exact(row["possible_cost"])}
        return cls(videos=row["videos"], unpriced=row["unpriced"], unknown=row["unknown"], **amounts)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict."""
        amounts = {"cost": number(self.cost), "possible_cost": number(self.possible_cost)}
        return {"videos": self.videos, "unpriced": self.unpriced, "unknown": self.unknown, **amounts}


def spend_of(records: Iterable[Submission], models: Mapping[str, str]) -> list[dict[str, Any]]:
    """
    Return rows with ``day`` (UTC), ``model`` and the fields of :class:`Row`.

    A job counts on the day of its last submission, with everything that it has cost.

    :param records: of jobs, or of a task with one video.
    :param models: the models of the jobs, by key. What a record says itself comes first.
    """
    rows: dict[tuple[str, str | None], Row] = {}
    for record in records:
        if (row := Row.of(record)) != Row():
            model = (record.request or {}).get("model") or models.get(record.key)
            day = datetime.fromtimestamp(record.submitted, tz=timezone.utc).date().isoformat()
            rows.setdefault((day, model and shortened(model, MODEL_CHARACTERS)), Row()).add(row)
    return _listed(rows)


def merged(lists: Iterable[Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Add up what :func:`spend_of` has returned for several batches."""
    rows: dict[tuple[str, str | None], Row] = {}
    for each in lists:
        for row in each:
            rows.setdefault((row["day"], row["model"]), Row()).add(Row.from_dict(row))
    return _listed(rows)


def _listed(rows: Mapping[tuple[str, str | None], Row]) -> list[dict[str, Any]]:
    shown = sorted(rows.items(), key=lambda each: -each[1].size)
    if len(shown) > MAX_ROWS:
        others = Row()
        for _, row in shown[MAX_ROWS - 1 :]:
            others.add(row)
        last = max(day for (day, _), _ in shown[MAX_ROWS - 1 :])
        shown = [*shown[: MAX_ROWS - 1], ((last, None), others)]
    return [{"day": day, "model": model, **row.to_dict()} for (day, model), row in shown]
