"""Keyset pagination, newest first: a page begins where the previous one ended, so the database skips no rows."""

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
"""The sort key, unique among the rows of one XCom key."""
_TASK_ID = re.compile("[^\x00-\x1f\ud800-\udfff]{1,1000}")


@dataclass(frozen=True)
class Cursor:
    """
    Where a page begins.

    :param newer: whether the page has the rows newer than the place, instead of the older ones.
    :param place: of the adjacent row.
    """

    newer: bool
    place: tuple[datetime, int, str, int]

    @classmethod
    def read(cls, text: str) -> Cursor:
        """
        Read the output of :meth:`__str__`.

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
    :param older: cursor of the next page; ``None`` if there is none.
    :param newer: cursor of the previous page; likewise.
    """

    rows: Sequence[Any]
    older: str | None
    newer: str | None


def page_of(session: Session, statement: Select[Any], cursor: Cursor | None, limit: int) -> Page:
    """Return a page of XCom rows, which must have the columns of their place."""
    found = [values.read(row) for row in session.execute(_from_cursor(statement, cursor).limit(limit + 1))]
    rows, has_more = found[:limit], len(found) > limit
    if cursor and cursor.newer:
        return _page(rows[::-1], has_older=True, has_newer=has_more)
    return _page(rows, has_older=has_more, has_newer=cursor is not None)


def _from_cursor(statement: Select[Any], cursor: Cursor | None) -> Select[Any]:
    """Sort the rows by their distance from the cursor, on its side of the adjacent row."""
    if cursor is None:
        return statement.order_by(*(column.desc() for column in _PLACE))
    place = tuple_(*(literal(value, column.type) for value, column in zip(cursor.place, _PLACE, strict=True)))
    if cursor.newer:
        return statement.where(tuple_(*_PLACE) > place).order_by(*(column.asc() for column in _PLACE))
    return statement.where(tuple_(*_PLACE) < place).order_by(*(column.desc() for column in _PLACE))


def _page(rows: Sequence[Any], *, has_older: bool, has_newer: bool) -> Page:
    if not rows:
        return Page([], None, None)
    older = str(Cursor(False, _place(rows[-1]))) if has_older else None
    newer = str(Cursor(True, _place(rows[0]))) if has_newer else None
    return Page(rows, older, newer)


def _place(row: Any) -> tuple[datetime, int, str, int]:
    return row.timestamp, row.dag_run_id, row.task_id, row.map_index


def _is_integer(value: object, limit: int) -> bool:
    return type(value) is int and -limit <= value < limit
