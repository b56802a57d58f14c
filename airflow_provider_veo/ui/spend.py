"""
What videos cost, by day, DAG and model, from the XComs ``veo_spend``.

Anyone who may edit XComs of a DAG controls what is shown about that DAG, and nothing else: the DAG is that of the XCom.
A value that is not as a task pushes it is counted as unreadable. What may have been billed is never added to a cost.

What is read is bounded. If there is more, the oldest records are left out, and the answer says so.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow.models.xcom import XComModel
from sqlalchemy import select

from airflow_provider_veo.journal.spend import MAX_ROWS, MODEL_CHARACTERS, SPEND, Row
from airflow_provider_veo.protocol.prices import rounded, written
from airflow_provider_veo.protocol.text import shortened
from airflow_provider_veo.ui import values
from airflow_provider_veo.ui.cards import text
from airflow_provider_veo.ui.reads import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NoReturn

    from sqlalchemy.orm import Session

    from airflow_provider_veo.ui.videos import Filters

DEFAULT_DAYS, MAX_DAYS = 30, 366
MAX_XCOMS = 50_000
MAX_GROUPS = 10_000
"""From then on, further models of a day and DAG are one row."""
MAX_SERIES = 8
ROWS_SHOWN = 500
"""Rows of the table. The file has all."""
_MAX_CHARACTERS = 128 * 1024
_MAX_CHARACTERS_IN_ALL = 64 * 1024 * 1024
_LARGEST_COUNT, _LARGEST_AMOUNT = 10**9, Decimal(10**12)
_ROWS_AT_A_TIME = 1000
_SEPARATORS = re.compile("([;,])")
"""Those of a file that spreadsheets choose by the language of the user, whatever the file is."""
_COLUMNS = ("day", "dag_id", "model", "videos", "unpriced", "cost", "unknown", "possible_cost")
_FORMULAS = ("=", "+", "-", "@", "|", "%", "＝", "＋", "－", "＠")
NO_MODEL, OTHERS = "(no model)", "(others)"

READS_AT_A_TIME = 2
_reading = threading.BoundedSemaphore(READS_AT_A_TIME)


@contextmanager
def at_most_a_few() -> Iterator[None]:
    """
    Read in a few threads only: they are Airflow's own.

    :raises BusyError: the maximum number of reads are running.
    """
    if not _reading.acquire(blocking=False):
        raise BusyError
    try:
        yield
    finally:
        _reading.release()


@dataclass
class Spent:
    """
    What was spent in a range of days.

    :param first: the first day, in UTC.
    :param last: the last day.
    :param groups: by day, DAG and model.
    :param unreadable: records that are not as a task pushes them.
    :param complete_after: if not all records were read: the day after which nothing is missing.
    """

    first: date
    last: date
    groups: dict[tuple[date, str, str | None], Row] = field(default_factory=dict)
    unreadable: int = 0
    complete_after: date | None = None

    @classmethod
    def of(cls, filters: Filters) -> Spent:
        """Return the range of days that is asked for: at most :data:`MAX_DAYS`."""
        last = (filters.until.date() if filters.until else datetime.now(timezone.utc).date()).toordinal()
        first = filters.since.date().toordinal() if filters.since else last - DEFAULT_DAYS + 1
        return cls(date.fromordinal(max(first, last - MAX_DAYS + 1, 1)), date.fromordinal(last))

    @property
    def file_name(self) -> str:
        """Name of the file to download."""
        incomplete = "-incomplete" if self.complete_after else ""
        return f"veo-spend-{self.first}-to-{self.last}{incomplete}.csv"

    def view(self, by: str) -> dict[str, Any]:
        """Return what the page shows, amounts as strings: a browser's numbers are not exact."""
        total = _sum(self.groups.values())
        rows = [{**_place(key), **_facts(row)} for key, row in self._sorted()[:ROWS_SHOWN]]
        return {
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            **self._chart(by),
            "rows": rows,
            "more_rows": len(self.groups) - len(rows),
            "total": _facts(total),
            "unreadable": self.unreadable,
            "complete_after": self.complete_after and self.complete_after.isoformat(),
        }

    def csv(self) -> str:
        """Return all rows as CSV. No text in it is a formula to a spreadsheet."""
        file = io.StringIO()
        rows = csv.DictWriter(file, _COLUMNS)
        rows.writeheader()
        for key, row in self._sorted():
            place = {name: _no_formula(value or "") for name, value in _place(key).items()}
            rows.writerow({**place, **_facts(row)})
        return file.getvalue()

    def _sorted(self) -> list[tuple[tuple[date, str, str | None], Row]]:
        """Return the groups, the newest day first."""
        return sorted(self.groups.items(), key=lambda each: (-each[0][0].toordinal(), each[0][1], each[0][2] or ""))

    def _chart(self, by: str) -> dict[str, Any]:
        """Return the bars: for each day its cost by the largest series, and apart what may have been billed."""
        days: dict[date, dict[str, Row]] = defaultdict(lambda: defaultdict(Row))
        totals: dict[str, Row] = defaultdict(Row)
        for (day, dag_id, model), row in self.groups.items():
            name = dag_id if by == "dag_id" else model or NO_MODEL
            days[day][name].add(row)
            totals[name].add(row)
        names = sorted((name for name in totals if totals[name].cost), key=lambda name: (-totals[name].cost, name))
        shown, others = names[:MAX_SERIES], names[MAX_SERIES:]
        bars = []
        for ordinal in range(self.first.toordinal(), self.last.toordinal() + 1):
            rows = days.get(date.fromordinal(ordinal), {})
            total = _sum(rows.values())
            parts = [rows.get(name, Row()).cost for name in shown]
            parts += [sum((rows[name].cost for name in others if name in rows), Decimal(0))] * bool(others)
            bars.append(
                {
                    "day": date.fromordinal(ordinal).isoformat(),
                    "parts": [written(part) for part in parts],
                    "cost": written(total.cost),
                    "possible_cost": written(total.possible_cost),
                }
            )
        return {"series": [*shown, *([OTHERS] * bool(others))], "days": bars}


def read(session: Session, readable: Any, filters: Filters) -> Spent:
    """
    Add up what was spent.

    :param session: of the metadata database.
    :param readable: Airflow's filter of the rows that the user may read.
    :param filters: the days, the DAG, the run and the model.
    """
    spent = Spent.of(filters)
    # A record is never older than the days in it. A worker's clock may be ahead.
    since = datetime.combine(date.fromordinal(max(1, spent.first.toordinal() - 1)), time(), timezone.utc)
    conditions = [XComModel.key == SPEND, XComModel.timestamp >= since]
    conditions += [XComModel.dag_id == filters.dag_id] if filters.dag_id else []
    conditions += [XComModel.run_id == filters.run_id] if filters.run_id else []
    value = values.raw(characters=_MAX_CHARACTERS).label("value")
    statement = select(XComModel.dag_id, value, XComModel.timestamp).where(*conditions)
    newest = readable.to_orm(statement).order_by(XComModel.timestamp.desc()).limit(MAX_XCOMS + 1)
    characters = 0
    with closing(session.execute(newest.execution_options(yield_per=_ROWS_AT_A_TIME))) as found:
        for count, row in enumerate(found, 1):
            characters += len(row.value or "")
            is_full = count > MAX_XCOMS or characters > _MAX_CHARACTERS_IN_ALL or len(spent.groups) > 2 * MAX_GROUPS
            if is_full:
                last_read = row.timestamp.astimezone(timezone.utc).date()
                spent.complete_after = last_read if last_read >= spent.first else None
                break
            _add(spent, row, filters.model)
    return spent


def _add(spent: Spent, record: Any, model: str | None) -> None:
    try:
        rows = _rows(record.value)
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
        spent.unreadable += 1
        return
    for day, its_model, row in rows:
        if spent.first <= day <= spent.last and (not model or model == its_model):
            key = (day, record.dag_id, its_model)
            if len(spent.groups) >= MAX_GROUPS and key not in spent.groups:
                key = (day, record.dag_id, OTHERS)  # one DAG must not hide what others have cost
            spent.groups.setdefault(key, Row()).add(row)


def _rows(value: Any) -> list[tuple[date, str | None, Row]]:
    """
    Read the rows in a record.

    :raises ValueError: it is not as a task pushes it. So are the other errors that :func:`_add` expects.
    """
    rows = json.loads(value, parse_float=Decimal, parse_constant=_refuse)
    if not isinstance(rows, list) or len(rows) > MAX_ROWS:
        raise ValueError
    return [(date.fromisoformat(row["day"]), _model(row["model"]), _row(row)) for row in rows]


def _row(row: Any) -> Row:
    counts = {name: _count(row[name]) for name in ("videos", "unpriced", "unknown")}
    return Row(**counts, cost=_amount(row["cost"]), possible_cost=_amount(row["possible_cost"]))


def _model(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError
    return text(shortened(value, MODEL_CHARACTERS)) if value else None


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST_COUNT:
        raise ValueError
    return value


def _amount(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 <= value <= _LARGEST_AMOUNT:
        raise ValueError
    return rounded(Decimal(value))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _sum(rows: Iterable[Row]) -> Row:
    total = Row()
    for row in rows:
        total.add(row)
    return total


def _place(key: tuple[date, str, str | None]) -> dict[str, str | None]:
    day, dag_id, model = key
    return {"day": day.isoformat(), "dag_id": dag_id, "model": model}


def _facts(row: Row) -> dict[str, Any]:
    counts = {"videos": row.videos, "unpriced": row.unpriced, "unknown": row.unknown}
    return {**counts, "cost": written(row.cost), "possible_cost": written(row.possible_cost)}


def _no_formula(value: str) -> str:
    """Return a text that spreadsheets show as it is. They calculate what begins like a formula, and trim before."""
    shown = "".join(character if character.isprintable() else " " for character in value)
    cells = "".join(map(_no_formula_cell, _SEPARATORS.split(shown)))
    return f"'{cells}" if shown != value and not cells.startswith("'") else cells


def _no_formula_cell(cell: str) -> str:
    return f"'{cell}" if cell.lstrip(" \xa0\u3000'\"").startswith(_FORMULAS) else cell
