"""Which task instance a record belongs to, and whether a clear may have deleted it."""

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
    index = _loop_index(context)
    return identity_of(context["ti"]) | ({} if index is None else {"loop_index": index})


def lost_by_a_clear(context: Context) -> str:
    """
    Explain how a clear may have lost the records of this task instance in Airflow's store. Empty: it can't have.

    A cleared task has as many retries as before its first try, so it may have more tries than its retries allow. An
    iteration of a loop that is repeated has no earlier tries: Airflow does not tell whether it is.
    """
    ti, index = context["ti"], _loop_index(context)
    if ti.try_number > 1 and ti.max_tries != ti.task.retries:
        return (
            "This task was cleared, and Airflow has deleted the record of what its earlier tries submitted. Airflow "
            "3.4 does so unless 'Keep task state and resume' is ticked (keep_task_state in the API), and every version "
            "does with [state_store] clear_on_success."
        )
    if index and context["dag_run"].clear_number:
        return (
            f"This run was cleared, and nothing is on record for iteration {index} of the loop. If the clear repeats "
            "the iteration, Airflow has lost the record of what it submitted before."
        )
    return ""


def _loop_index(context: Context) -> int | None:
    index = getattr(context.get("loop"), "index", None)
    # Outside a loop, a decorated function may have an argument of that name.
    return index if isinstance(index, int) else None
