"""
The videos of single tasks, from their XComs.

A create task pushes ``veo_video``, with the prompt. A task of the same run that waits for the video (a sensor) pushes
one without it; a task that stores it pushes ``veo_file``. A card combines all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import and_, case, func, or_, select, tuple_
from sqlalchemy.orm import aliased

from airflow_provider_veo.protocol import words
from airflow_provider_veo.ui import cards, settings, values
from airflow_provider_veo.ui.access import Admitted, admit
from airflow_provider_veo.ui.cards import OWNER, address, described, played, query, text
from airflow_provider_veo.ui.loops import IDENTITY, in_region, locate, region_of
from airflow_provider_veo.ui.paging import page_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from sqlalchemy.orm import Session
    from sqlalchemy.sql import Select
    from sqlalchemy.sql.elements import ColumnElement

    from airflow_provider_veo.ui.paging import Cursor, Page

VIDEO, FILE, PATH = "veo_video", "veo_file", "veo_path"
GENERATING, SUCCEEDED, FAILED, BLOCKED, TIMED_OUT, SUBMITTED = STATES = (
    "generating",
    "succeeded",
    "failed",
    "blocked",
    "timed_out",
    "submitted",
)
"""
The states of a video; see :data:`airflow_provider_veo.batch.results.STATES` for those of a batch's jobs.

``submitted``: the run has ended, and no task in it waited for the video.
"""
_WAIT_HAS_ENDED = ("failed", "upstream_failed", "removed")
_RUN_HAS_ENDED = ("success", "failed")


@dataclass(frozen=True)
class Filters:
    """
    Which videos to show; ``None`` or an empty string: all.

    :param dag_id: of this DAG.
    :param run_id: of this run.
    :param state: in this state.
    :param model: of this model.
    :param since: submitted or ended on this day or later.
    :param until: on this day or earlier.
    :param text: contained in the prompt, case-insensitively.
    """

    dag_id: str | None = None
    run_id: str | None = None
    state: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    def of_rows(self) -> list[ColumnElement[bool]]:
        """Return the conditions that apply to any XCom."""
        conditions: list[ColumnElement[bool]] = []
        if self.dag_id:
            conditions.append(XComModel.dag_id == self.dag_id)
        if self.run_id:
            conditions.append(XComModel.run_id == self.run_id)
        if self.since:
            conditions.append(XComModel.timestamp >= self.since)
        if self.until and self.until.date() < date.max:
            conditions.append(XComModel.timestamp < self.until + timedelta(days=1))
        return conditions

    def of_videos(self) -> list[ColumnElement[bool]]:
        """Return the conditions on a ``veo_video``."""
        conditions = self.of_rows()
        if self.model:
            conditions.append(values.field("model") == self.model)
        if self.text:
            conditions.append(func.lower(values.field("prompt")).contains(self.text.lower(), autoescape=True))
        return conditions

    @property
    def are_for_any_video(self) -> bool:
        """Whether videos of any state, model and prompt are shown."""
        return not (self.state or self.model or self.text)

    def suits(self, card: Mapping[str, Any]) -> bool:
        """Whether to show a card: the same conditions, for videos that are not in the database."""
        if self.state and card["state"] != self.state:
            return False
        if self.model and card["model"] != self.model:
            return False
        return not self.text or self.text.lower() in (card["prompt"] or "").lower()


def page(session: Session, readable: Any, filters: Filters, cursor: Cursor | None, limit: int) -> Page:
    """
    Return a page of rows, newest first; :func:`cards_of` makes cards of them.

    :param session: of the metadata database.
    :param readable: Airflow's filter of the rows that the user may read.
    :param filters: which videos to show.
    :param cursor: where the page begins.
    :param limit: maximum number of cards.
    """
    created = _rows(VIDEO).where(values.field("prompt").is_not(None))
    statement = readable.to_orm(created).where(*filters.of_videos())
    if filters.state:
        statement = _in_state(statement, filters.state)
    return page_of(session, statement, cursor, limit)


def cards_of(session: Session, rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Make a card of each row, with the XComs of other tasks of its run about the same video."""
    rows = list(rows)
    locate(session, rows)
    ids = {_its(row) for row in rows if isinstance(row.value, dict)}
    ends = _left(session, VIDEO, "id", ids)
    files = _left(session, FILE, "veo_task_id", ids)
    locate(session, files.values())
    paths = _paths(session, files.values())
    states = _task_states(session, rows)
    ended = _ended_runs(session, rows)

    def make(row: Any) -> dict[str, Any]:
        its = _its(row)
        file = files.get(its)
        path = paths.get(_task(file)) if file else None
        return _card(row, states.get(_task(row)), row.dag_run_id in ended, ends.get(its), file, path)

    return [cards.made(partial(make, row), {name: getattr(row, name) for name in OWNER}, _key(row)) for row in rows]


def dag_ids(session: Session, readable: Any, key: str) -> list[str]:
    """Return the ids of the DAGs that have XComs of a key."""
    statement = select(XComModel.dag_id).where(XComModel.key == key).distinct()
    return sorted(session.execute(readable.to_orm(statement)).scalars())


def file_of(
    session: Session, dag_id: str, run_id: str, task_id: str, map_index: int, region: UUID | None
) -> Admitted | None:
    """Return the path of the file that a task has stored; ``None`` if it has none that may be read."""
    statement = select(values.raw()).where(
        XComModel.dag_id == dag_id,
        XComModel.run_id == run_id,
        XComModel.task_id == task_id,
        XComModel.map_index == map_index,
        XComModel.key == PATH,
    )
    path = values.parse(session.execute(in_region(statement, region).limit(1)).scalar_one_or_none())
    return admit(path, dag_id, settings.page_roots())


def _rows(key: str) -> Select[Any]:
    return select(
        XComModel.dag_run_id,
        *(getattr(XComModel, name) for name in IDENTITY),
        values.raw().label("value"),
        XComModel.timestamp,
    ).where(XComModel.key == key)


def _in_state(statement: Select[Any], state: str) -> Select[Any]:
    """Select the rows in a state: :func:`_state` in SQL."""
    other = aliased(XComModel)
    ends = (
        select(
            other.dag_run_id.label("dag_run_id"),
            values.field("id", other).label("id"),
            func.max(values.field("state", other)).label("state"),
            func.max(values.field("error", other)).label("error"),
        )
        .where(other.key == VIDEO, values.field("prompt", other).is_(None))
        .group_by(other.dag_run_id, values.field("id", other))
        .subquery()
    )
    known = func.coalesce(ends.c.state, values.field("state"))
    error = func.coalesce(ends.c.error, values.field("error"))
    gave_up = or_(error.is_not(None), TaskInstance.state.in_(_WAIT_HAS_ENDED))
    reason = func.replace(func.replace(func.lower(error), "_", " "), "-", " ")
    is_blocked = or_(*(reason.contains(phrase, autoescape=True) for phrase in words.BLOCKED))
    # Up to SQLAlchemy 1.4, case() takes its branches as positional arguments.
    its = case(
        (and_(known == FAILED, is_blocked), BLOCKED),
        (known.in_((SUCCEEDED, FAILED)), known),
        (gave_up, TIMED_OUT),
        (DagRun.state.in_(_RUN_HAS_ENDED), SUBMITTED),
        else_=GENERATING,
    )
    of_its_end = and_(ends.c.dag_run_id == XComModel.dag_run_id, ends.c.id == values.field("id"))
    of_its_task = and_(*(getattr(TaskInstance, name) == getattr(XComModel, name) for name in IDENTITY))
    joined = statement.outerjoin(ends, of_its_end).outerjoin(TaskInstance, of_its_task)
    return joined.outerjoin(DagRun, DagRun.id == XComModel.dag_run_id).where(its == state)


def _left(session: Session, key: str, its_id: str, ids: set[tuple[int, str]]) -> dict[tuple[int, str], Any]:
    """Return the XComs of other tasks of the same runs about these videos."""
    if not ids:
        return {}
    statement = _rows(key).where(
        XComModel.dag_run_id.in_({dag_run_id for dag_run_id, _ in ids}),
        values.field(its_id).in_({veo_task_id for _, veo_task_id in ids}),
    )
    if key == VIDEO:
        statement = statement.where(values.field("prompt").is_(None))
    found = map(values.read, session.execute(statement))
    return {_its(row, its_id): row for row in found if isinstance(row.value, dict)}


def _paths(session: Session, files: Iterable[Any]) -> dict[tuple[Any, ...], Any]:
    """Return the paths of files, by the tasks that have stored them."""
    columns = [getattr(XComModel, name) for name in IDENTITY]
    tasks = [_task(file) for file in files]
    if not tasks:
        return {}
    statement = select(*columns, values.raw().label("value")).where(XComModel.key == PATH, tuple_(*columns).in_(tasks))
    return {_task(row): values.parse(row.value) for row in session.execute(statement)}


def _task_states(session: Session, rows: Iterable[Any]) -> dict[tuple[Any, ...], str | None]:
    columns = [getattr(TaskInstance, name) for name in IDENTITY]
    statement = select(*columns, TaskInstance.state).where(tuple_(*columns).in_([_task(row) for row in rows]))
    return {_task(row): row.state for row in session.execute(statement)}


def _ended_runs(session: Session, rows: Iterable[Any]) -> set[int]:
    ids = {row.dag_run_id for row in rows}
    statement = select(DagRun.id).where(DagRun.id.in_(ids), DagRun.state.in_(_RUN_HAS_ENDED))
    return set(session.execute(statement).scalars())


def _task(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in IDENTITY)


def _its(row: Any, its_id: str = "id") -> tuple[int, str]:
    """
    Return the identity of a video.

    An id that databases reject is replaced by one that no video has.
    """
    veo_task_id = row.value.get(its_id)
    return row.dag_run_id, text(veo_task_id if isinstance(veo_task_id, (str, int)) else None) or ""


def _key(row: Any) -> str:
    return "/".join(map(str, (row.dag_run_id, row.task_id, row.map_index, *row.loop.values())))


def _state(video: Mapping[str, Any], task_state: str | None, *, run_has_ended: bool) -> str:
    if video.get("state") == FAILED and words.is_blocked(text(video.get("error")) or ""):
        return BLOCKED
    if video.get("state") in (SUCCEEDED, FAILED):
        return str(video["state"])
    if video.get("error") or task_state in _WAIT_HAS_ENDED:
        return TIMED_OUT
    return SUBMITTED if run_has_ended else GENERATING


def _card(row: Any, task_state: str | None, run_has_ended: bool, end: Any, file: Any, path: Any) -> dict[str, Any]:
    known = {name: value for name, value in (end.value if end else {}).items() if value is not None}
    video = {**row.value, **known}
    state = _state(video, task_state, run_has_ended=run_has_ended)
    ended_at = video.get("updated_at") or (end or row).timestamp.isoformat()
    request = {name: row.value.get(name) for name in ("prompt", "model", "aspect_ratio", "submitted_at", "cost")}
    return {
        **described({**video, **request}),
        **_preview(video.get("video_url"), file, path),
        "key": _key(row),
        "state": state,
        "task_state": task_state,
        "name": None,
        "attempts": None,
        "finished_at": text(ended_at) if state in (SUCCEEDED, FAILED, BLOCKED) else None,
        **{name: getattr(row, name) for name in OWNER},
        **row.loop,
    }


def _preview(url: Any, file: Any, path: Any) -> dict[str, Any]:
    if not file:
        return {**played({"video_url": url}, None, is_off=False), "file": None}
    may_read = admit(path, file.dag_id, settings.page_roots()) is not None
    where = address(*(getattr(file, name) for name in OWNER))
    href = f"api/files/{where}{query(region_of(file))}" if may_read else None
    poster_href = f"api/posters/{where}{query(region_of(file))}" if may_read and file.value.get("poster") else None
    facts = played({**file.value, "video_url": url}, href, poster_href, is_off=not may_read)
    return {**facts, "file": text(file.value.get("uri"))}
