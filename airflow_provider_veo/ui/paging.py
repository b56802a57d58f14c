"""Pages of a long list, newest first, that begin where the one before has ended: the database skips nothing."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.models.xcom import XComModel
from sqlalchemy import literal, tuple_

from airflow_provider_veo.ui import values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session
    from sqlalchemy.sql import Select

_PLACE = (XComModel.timestamp, XComModel.dag_run_id, XComModel.task_id, XComModel.map_index)
"""What the rows of one key are in order by. No two of them have the same."""
_TASK_ID = re.compile("[^\x00-\x1f\ud800-\udfff]{1,1000}")


@dataclass(frozen=True)
class Cursor:
    """
    Where a page begins.

    :param newer: whether it is what is newer than the place, instead of older.
    :param place: of the row beside it.
    """

    newer: bool
    place: tuple[datetime, int, str, int]

    @classmethod
    def read(cls, text: str) -> Cursor:
        """
        Read what :meth:`__str__` wrote.

        :raises ValueError: it is something else.
        """
        try:
            newer, moment, dag_run_id, task_id, map_index = json.loads(base64.urlsafe_b64decode(text[:4096].encode()))
            place = (datetime.fromisoformat(moment).astimezone(timezone.utc), dag_run_id, task_id, map_index)
            is_place = _is_integer(dag_run_id, 2**63) and isinstance(task_id, str) and _is_integer(map_index, 2**31)
            if isinstance(newer, bool) and is_place and _TASK_ID.fullmatch(task_id):
                return cls(newer, place)
        except (ValueError, TypeError, OverflowError, RecursionError):
            pass
        raise ValueError("cursor: expected one that this page returned")

    def __str__(self) -> str:
        moment, *rest = self.place
        return base64.urlsafe_b64encode(json.dumps([self.newer, moment.isoformat(), *rest]).encode()).decode()


@dataclass(frozen=True)
class Page:
    """
    A page of rows.

    :param rows: newest first.
    :param older: where the next page begins; ``None``: there is none.
    :param newer: likewise of the one before.
    """

    rows: Sequence[Any]
    older: str | None
    newer: str | None


def page_of(session: Session, statement: Select, cursor: Cursor | None, limit: int) -> Page:
    """Return a page of XCom rows, each with the columns that are its place, and whether there are others beside it."""
    newer = cursor is not None and cursor.newer
    if cursor:
        place = tuple_(*(literal(value, column.type) for value, column in zip(cursor.place, _PLACE, strict=True)))
        statement = statement.where(tuple_(*_PLACE) > place if newer else tuple_(*_PLACE) < place)
    order = [column.asc() if newer else column.desc() for column in _PLACE]
    found = [values.read(row) for row in session.execute(statement.order_by(*order).limit(limit + 1))]
    rows = found[:limit]
    has_more = len(found) > limit
    if newer:
        rows.reverse()
    if not rows:
        return Page([], None, None)
    older = str(Cursor(False, _place(rows[-1]))) if has_more or newer else None
    before = str(Cursor(True, _place(rows[0]))) if (has_more if newer else cursor is not None) else None
    return Page(rows, older, before)


def _place(row: Any) -> tuple[datetime, int, str, int]:
    return row.timestamp, row.dag_run_id, row.task_id, row.map_index


def _is_integer(value: object, limit: int) -> bool:
    return type(value) is int and -limit <= value < limit
