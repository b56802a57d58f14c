"""Batches and their videos: from the task's XComs, and from its folder if the page may read it."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import State
from sqlalchemy import and_, select
from sqlalchemy.orm import aliased

from airflow_provider_veo.batch.progress import Progress
from airflow_provider_veo.batch.results import NOT_SUBMITTED, STATES, TIMED_OUT, UNKNOWN
from airflow_provider_veo.batch.shards import split
from airflow_provider_veo.ui import cards, settings, sharded, values
from airflow_provider_veo.ui.access import admit
from airflow_provider_veo.ui.approvals import note_approvals
from airflow_provider_veo.ui.cards import OFF, OWNER, address, described, number, played, query, text
from airflow_provider_veo.ui.folders import Folder, ShardedFolder
from airflow_provider_veo.ui.loops import IDENTITY, in_region, locate, region_of
from airflow_provider_veo.ui.paging import page_of
from airflow_provider_veo.ui.videos import GENERATING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlalchemy.orm import Session
    from sqlalchemy.sql import Select

    from airflow_provider_veo.ui.lines import Line
    from airflow_provider_veo.ui.paging import Cursor, Page
    from airflow_provider_veo.ui.videos import Filters

PROGRESS = "progress"
WAITING = "waiting"
_WHILE_IT_RUNS = {TIMED_OUT: GENERATING, UNKNOWN: GENERATING, NOT_SUBMITTED: WAITING}
"""While a batch runs, jobs in these final states are shown in another one."""
_COUNTS = ("total", "done", "failed", "generating", "to_submit")
_LARGEST_COUNT = 10**9
_YEAR_10000 = 253_402_300_800.0


def page(session: Session, readable: Any, filters: Filters, cursor: Cursor | None, limit: int) -> Page:
    """Return a page of rows, newest first; :func:`card` makes a card of each."""
    statement = readable.to_orm(_batches()).where(*filters.of_rows(), sharded.is_first())
    found = page_of(session, statement, cursor, limit)
    locate(session, found.rows)
    note_approvals(session, found.rows)
    for row in found.rows:
        row.shards = sharded.shards_of(session, row, _batches())
    return found


def find(session: Session, dag_id: str, run_id: str, task_id: str, map_index: int, region: UUID | None) -> Any:
    """Return the row of a batch; ``None`` if there is none."""
    statement = _batches().where(
        XComModel.dag_id == dag_id,
        XComModel.run_id == run_id,
        XComModel.task_id == task_id,
        XComModel.map_index == map_index,
    )
    found = session.execute(in_region(statement, region).limit(1)).one_or_none()
    if found is None:
        return None
    row = values.read(found)
    locate(session, [row])
    note_approvals(session, [row])
    row.shards = sharded.shards_of(session, row, _batches())
    return row


def card(row: Any) -> dict[str, Any]:
    """Make a card of a batch."""
    place = _place(row)
    return cards.made(lambda: _card(row, place), place, address(*place.values()))


def folder_of(row: Any) -> Folder | None:
    """Return the folder of a batch; ``None`` if the page may not read it."""
    roots = settings.page_roots()
    folders = []
    for each in row.shards or [row]:
        recorded = sharded.folder_in(each)
        if admitted := admit(recorded, each.dag_id, roots):
            divided = split(recorded)
            batch = admit(divided[0], each.dag_id, roots) if divided else None
            folders.append(Folder(admitted, each.owner, has_ended=_has_ended(each), batch=batch))
    if row.shards and folders:
        return ShardedFolder(folders)
    return folders[0] if folders else None


def videos(
    row: Any, folder: Folder, filters: Filters, cursor: Any, limit: int
) -> tuple[list[dict[str, Any]], str | None, str | None]:
    """
    Return cards of a batch's videos, in the order of its jobs, and the cursors of the pages after and before them.

    :param row: from :func:`find`.
    :param folder: its folder. Reading it blocks.
    :param filters: which videos to show.
    :param cursor: where the page begins.
    :param limit: maximum number of cards.
    :raises UnreadableError: its folder can't be read.
    """
    place = _place(row)
    made: dict[int, dict[str, Any]] = {}

    def is_wanted(line: Line) -> bool:
        card = cards.made(partial(_video, row, place, line), place, f"{address(*place.values())}/{line.begin}")
        # Error cards are shown only without a filter on videos.
        wanted = filters.are_for_any_video if card.get("broken") else filters.suits(card)
        if wanted:
            made[line.begin] = card
        return wanted

    page = folder.page(cursor, limit, is_wanted)
    return [made[line.begin] for line in page.lines], page.older, page.newer


def _place(row: Any) -> dict[str, Any]:
    return {**{name: getattr(row, name) for name in OWNER}, **row.loop}


def _has_ended(row: Any) -> bool:
    return row.task_state in State.finished


def _card(row: Any, place: Mapping[str, Any]) -> dict[str, Any]:
    row = sharded.together(row, _progress) if row.shards else row
    progress = _progress(row.value)
    has_ended = _has_ended(row)
    rate = number(progress.per_minute(row.timestamp.timestamp() if has_ended else time.time())) or None
    result = row.result if has_ended and isinstance(row.result, dict) else {}
    counts = {state: number(result[state]) for state in STATES if state in result}
    return {
        **place,
        "task_state": row.task_state,
        **{name: getattr(progress, name) for name in _COUNTS},
        "counts": counts or None,
        "per_minute": rate,
        "seconds_left": None if has_ended else _seconds_left(progress, rate),
        "cost": number(result.get("cost", progress.cost)),
        "since": progress.since and _iso_time(progress.since),
        "updated_at": row.timestamp.isoformat(),
        "awaits_approval": row.awaits_approval,
        "preview": None if admit(progress.folder, row.dag_id, settings.page_roots()) else OFF,
    }


def _seconds_left(progress: Progress, per_minute: float | None) -> float | None:
    left = progress.generating + progress.to_submit
    return number(left / per_minute * 60) if per_minute and left else None


def _iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat(timespec="seconds")


def _progress(value: Any) -> Progress:
    """
    Read the progress of a batch.

    :raises ValueError: it is invalid.
    """
    fields = {name: value.get(name) for name in Progress.__dataclass_fields__}
    if fields["ended_before"] is None:  # none had ended, or an earlier version wrote it
        fields["ended_before"] = 0
    for name in (*_COUNTS, "ended_before"):
        if type(fields[name]) is not int or not 0 <= fields[name] < _LARGEST_COUNT:
            raise ValueError(f"{name}: expected a count")
    since = number(fields["since"])
    if fields["since"] is not None and (since is None or not 0 <= since < _YEAR_10000):
        raise ValueError("since: expected epoch seconds")
    return Progress(**{**fields, "since": since, "cost": number(fields["cost"])})


def _batches() -> Select[Any]:
    result = aliased(XComModel)
    return (
        select(
            XComModel.dag_run_id,
            *(getattr(XComModel, name) for name in IDENTITY),
            values.raw().label("value"),
            XComModel.timestamp,
            TaskInstance.state.label("task_state"),
            values.raw(result).label("result"),
        )
        .outerjoin(TaskInstance, and_(*(getattr(TaskInstance, each) == getattr(XComModel, each) for each in IDENTITY)))
        .outerjoin(
            result,
            and_(
                result.dag_run_id == XComModel.dag_run_id,
                *(getattr(result, each) == getattr(XComModel, each) for each in IDENTITY[2:]),
                result.key == "return_value",
            ),
        )
        # Other tasks may use the same XCom key.
        .where(
            XComModel.key == PROGRESS,
            values.field("folder").is_not(None),
            values.field("to_submit").is_not(None),
        )
    )


def _video(batch: Any, place: Mapping[str, Any], line: Line) -> dict[str, Any]:
    row = line.row
    if row is None or not isinstance(row.get("state"), str):
        raise ValueError("expected the row of a job")
    has_ended = all(map(_has_ended, batch.shards or [batch]))
    state = row["state"] if has_ended else _WHILE_IT_RUNS.get(row["state"], row["state"])
    is_over = state not in (GENERATING, WAITING)
    where = address(*(place[name] for name in OWNER))
    request = row.get("request")
    facts = {**row, **(request if isinstance(request, dict) else {})}
    asked = query({"key": row.get("key"), "at": line.begin, **region_of(batch)})
    href = f"api/files/{where}{asked}" if row.get("file") else None
    poster = text(row.get("poster")) or ""
    # Not by the offset of the row, which changes while the batch runs: a browser would load the poster again.
    named = query({"name": poster.rpartition("/")[2], **region_of(batch)})
    poster_href = f"api/posters/{where}{named}" if href and poster else None
    return {
        **described({**facts, "error": row.get("error") if is_over else None}),
        **played(row, href, poster_href, is_off=False),
        "key": f"{address(*place.values())}/{text(row.get('key'))}",
        "state": text(state),
        "task_state": batch.task_state,
        "name": text(row.get("key")),
        "attempts": number(row.get("attempts")),
        "finished_at": text(row.get("finished_at")),
        "file": text(row.get("file")),
        **place,
    }
