"""Batches that several tasks share: the page shows them as one, in the place of the first shard."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.models.xcom import XComModel
from airflow.utils.state import State, TaskInstanceState
from sqlalchemy import not_, or_

from airflow_provider_veo.batch.results import STATES
from airflow_provider_veo.batch.shards import SHARDS, split
from airflow_provider_veo.ui import values
from airflow_provider_veo.ui.cards import number
from airflow_provider_veo.ui.loops import locate

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from sqlalchemy.sql import ColumnElement, Select

    from airflow_provider_veo.batch.progress import Progress

_FOLDER = "folder"
_MOST = 100
"""Shards of a batch that are shown together."""


def is_first() -> ColumnElement[bool]:
    """Return the condition that excludes all shards of a batch but the first."""
    folder = values.field(_FOLDER)
    is_shard = folder.contains(f"/{SHARDS}/", autoescape=True)
    return or_(not_(is_shard), folder.contains(f"/{SHARDS}/0-of-", autoescape=True))


def folder_in(row: Any) -> Any:
    """Return the folder that a row names; ``None`` if it names none."""
    return row.value.get(_FOLDER) if isinstance(row.value, dict) else None


def shards_of(session: Session, row: Any, batches: Select[Any]) -> list[Any]:
    """
    Return the rows of all shards of a batch, in order, given its first one; none for any other row.

    :param session: of the database.
    :param row: of a batch.
    :param batches: selects the rows of batches.
    """
    divided = _divided(row)
    if divided is None or divided[1].index:
        return []
    root, first = divided
    statement = batches.where(
        XComModel.dag_run_id == row.dag_run_id,
        values.field(_FOLDER).startswith(f"{root}/{SHARDS}/", autoescape=True),
    )
    found = {}
    for each in map(values.read, session.execute(statement.limit(_MOST))):
        place = _divided(each)
        if place and place[0] == root and place[1].count == first.count:
            found[place[1].index] = each
    rows = [found[index] for index in sorted(found)]
    locate(session, rows)
    return rows


def together(row: Any, progress_of: Callable[[Any], Progress]) -> Any:
    """
    Return a row in which all shards of a batch are one.

    :param row: of the first shard, with all of them as ``shards``.
    :param progress_of: reads a progress, or raises ValueError.
    """
    rows = row.shards
    each = [progress_of(shard.value) for shard in rows]
    counts = ("total", "done", "failed", "generating", "to_submit", "ended_before")
    value = {name: sum(getattr(progress, name) for progress in each) for name in counts}
    value["since"] = min((progress.since for progress in each if progress.since is not None), default=None)
    value["cost"] = _sum([progress.cost for progress in each])
    return SimpleNamespace(
        **{
            **vars(row),
            "value": {**value, _FOLDER: row.value[_FOLDER]},
            "task_state": _state(rows),
            "result": _result([shard.result for shard in rows]),
            "timestamp": max(shard.timestamp for shard in rows),
        }
    )


def _divided(row: Any) -> Any:
    folder = folder_in(row)
    return split(folder) if isinstance(folder, str) else None


def _state(rows: list[Any]) -> Any:
    """Return the state of a shard that has not ended or, of those that have, of one that has failed."""
    working = [row.task_state for row in rows if row.task_state not in State.finished]
    failed = [row.task_state for row in rows if row.task_state in State.failed_states]
    active = [state for state in working if state == TaskInstanceState.RUNNING]
    return next(iter([*active, *working, *failed]), rows[0].task_state)


def _result(results: list[Any]) -> dict[str, Any] | None:
    """Return the sums of the results of shards; ``None`` if one has none, because it failed or has not ended."""
    if not all(isinstance(result, dict) for result in results):
        return None
    sums = {state: _sum([number(result.get(state)) for result in results]) for state in STATES}
    return {**sums, "cost": _sum([number(result.get("cost")) for result in results])}


def _sum(amounts: list[Any]) -> Any:
    return None if None in amounts else round(sum(amounts), 6)
