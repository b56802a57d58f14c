"""
Task loops (Airflow 3.4): their iterations have DAG, run, task and map index in common, and differ in a region.

A mapped task has a region of its own, inside the one of the loop if it is in one. What Airflow stores as the map index
of any other task in a loop is the number of the iteration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.models.xcom import XComModel
from sqlalchemy import select

from airflow_provider_veo.ui.cards import OWNER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

HAS_REGIONS = hasattr(XComModel, "region_id")
IDENTITY = (*OWNER, "region_id") if HAS_REGIONS else OWNER
"""The columns that identify a task instance, also in a loop."""


def locate(session: Session, rows: Iterable[Any]) -> None:
    """
    Set ``loop`` and ``owner`` of rows that have the columns of :data:`IDENTITY`.

    ``loop`` is the place in a loop, for the page; empty outside a loop. ``owner`` is the task instance as in records.
    """
    rows = list(rows)
    regions = _regions(session, {row.region_id for row in rows} if HAS_REGIONS else set())
    for row in rows:
        row.loop = _place(row, regions.get(row.region_id)) if HAS_REGIONS else {}
        row.owner = {name: getattr(row, name) for name in OWNER}
        if row.loop:
            map_index = row.map_index if row.loop["is_mapped"] else -1
            row.owner |= {"map_index": map_index, "loop_index": row.loop["iteration"]}


def in_region(statement: Select[Any], region: UUID | None) -> Select[Any]:
    """Restrict a statement about XComs to a region; ``None``, or a line of Airflow without regions: to none."""
    return statement.where(XComModel.region_id == region) if region and HAS_REGIONS else statement


def region_of(row: Any) -> dict[str, str]:
    """Return the query of an address that names a task instance in a loop; empty outside a loop."""
    return {"region": row.loop["region_id"]} if row.loop else {}


def _place(row: Any, region: Any) -> dict[str, Any]:
    is_mapped = region is not None and region.node_id == row.task_id
    if region is None or (is_mapped and region.parent_region_id is None):
        return {}
    iteration = region.parent_region_index if is_mapped else row.map_index
    return {"region_id": str(row.region_id), "iteration": iteration, "is_mapped": is_mapped}


def _regions(session: Session, ids: set[UUID]) -> dict[UUID, Any]:
    ids = {each for each in ids if each.int}  # all tasks outside loops that are not mapped have the same
    if not ids:
        return {}
    from airflow.models.dynamic_region import DynamicRegion  # type: ignore[import-not-found]  # Airflow 3.4

    columns = ("id", "node_id", "parent_region_id", "parent_region_index")
    found = select(*(getattr(DynamicRegion, name) for name in columns)).where(DynamicRegion.id.in_(ids))
    return {row.id: row for row in session.execute(found)}
