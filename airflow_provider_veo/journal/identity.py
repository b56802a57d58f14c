"""Which task instance a record belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def identity_of(task_instance: Any) -> dict[str, Any]:
    """Return what names a task instance in XComs: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``."""
    ti = task_instance
    map_index = -1 if ti.map_index is None else ti.map_index
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": map_index}


def owner_of(context: Context) -> dict[str, Any]:
    """
    Return what identifies a task instance in records: :func:`identity_of`, and ``loop_index`` in a task loop.

    The iterations of a loop (Airflow 3.4) have all four in common. Airflow tells them apart by a region and an index in
    it, but a clear that repeats iterations gives them a new region. The number of the iteration stays the same.
    """
    index = getattr(context.get("loop"), "index", None)
    # Outside a loop, a decorated function may have an argument of that name.
    in_a_loop = {"loop_index": index} if isinstance(index, int) else {}
    return {**identity_of(context["ti"]), **in_a_loop}


def was_cleared(context: Context) -> bool:
    """Whether somebody has cleared this task instance after a try. It then has more tries than its retries allow."""
    ti = context["ti"]
    return ti.try_number > 1 and ti.max_tries != ti.task.retries
