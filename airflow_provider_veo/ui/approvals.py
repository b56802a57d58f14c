"""Which runs wait for a person's answer, on Airflow's page *Required Actions*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import select, tuple_

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

_WAITING = ("awaiting_input", "deferred")
"""States of a task that waits for an answer: from Airflow 3.3 on, and before."""


def note_approvals(session: Session, rows: Iterable[Any]) -> None:
    """Set ``awaits_approval`` of rows that have the columns ``dag_id`` and ``run_id``."""
    rows = list(rows)
    runs = {(row.dag_id, row.run_id) for row in rows}
    statement = (
        select(TaskInstance.dag_id, TaskInstance.run_id)
        .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
        .where(
            tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(runs),
            TaskInstance.state.in_(_WAITING),
            HITLDetail.responded_at.is_(None),
        )
        .distinct()
    )
    waiting = {tuple(found) for found in session.execute(statement)} if runs else set()
    for row in rows:
        row.awaits_approval = (row.dag_id, row.run_id) in waiting
