"""Which task instance a record belongs to."""

from __future__ import annotations

from typing import Any


def identity_of(task_instance: Any) -> dict[str, Any]:
    """Return what identifies a task instance: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``."""
    ti = task_instance
    map_index = -1 if ti.map_index is None else ti.map_index
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": map_index}
