"""
Batches and their videos: from the XComs of the task, and from its folder.

While a batch runs, its folder has records of what is submitted; when it has ended, a list of what became of each job.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from datetime import datetime, timezone
from threading import Lock
from typing import TYPE_CHECKING, Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.utils.state import State
from sqlalchemy import and_, select
from sqlalchemy.orm import aliased

from airflow_provider_veo.batch import given
from airflow_provider_veo.batch.ledger import Ledger
from airflow_provider_veo.batch.progress import Progress
from airflow_provider_veo.batch.results import NOT_SUBMITTED, RESULTS, STATES, TIMED_OUT, UNKNOWN, Results
from airflow_provider_veo.operators.batch import JOURNAL, VIDEOS
from airflow_provider_veo.protocol import VeoError
from airflow_provider_veo.ui.cards import OWNER, address, described, is_number, number, played, text
from airflow_provider_veo.ui.paging import page_of
from airflow_provider_veo.ui.videos import GENERATING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy.orm import Session
    from sqlalchemy.sql import Select

    from airflow_provider_veo.ui.paging import Cursor, Page
    from airflow_provider_veo.ui.videos import Filters

PROGRESS = "progress"
WAITING = "waiting"
_WHILE_IT_RUNS = {TIMED_OUT: GENERATING, UNKNOWN: GENERATING, NOT_SUBMITTED: WAITING}
"""What jobs are that would have ended so, had the batch ended."""
_SECONDS_KEPT = 5.0
_BYTES_KEPT = 32 * 1024 * 1024
_COUNTS = ("total", "done", "failed", "generating", "to_submit")

log = logging.getLogger(__name__)


class _Kept:
    """What was read of batches a moment ago: several pages ask for the same, every few seconds."""

    def __init__(self) -> None:
        self._rows: dict[Any, tuple[float, list[bytes]]] = {}
        self._lock = Lock()

    def rows(self, batch: Any) -> list[bytes]:
        """Return the rows of a batch, each as JSON."""
        place = (*(getattr(batch, name) for name in OWNER), batch.task_state)
        with self._lock:
            since = time.monotonic() - _SECONDS_KEPT
            self._rows = {each: kept for each, kept in self._rows.items() if kept[0] > since}
            if place in self._rows:
                return self._rows[place][1]
        rows = self._read(batch, place)
        with self._lock:
            if sum(map(len, rows)) <= _BYTES_KEPT:
                self._rows[place] = (time.monotonic(), rows)
        return rows

    def _read(self, batch: Any, place: object) -> list[bytes]:
        try:
            return list(_rows(batch))
        except VeoError:
            raise
        except Exception as error:  # of any storage library
            log.warning("The folder of batch %s can't be read", place, exc_info=True)
            raise VeoError(f"The folder of this batch can't be read from here: {type(error).__name__}.") from error


_kept = _Kept()


def page(session: Session, readable: Any, filters: Filters, cursor: Cursor | None, limit: int) -> Page:
    """Return a page of rows, those first of which there was news last; :func:`card` makes a card of each."""
    return page_of(session, readable.to_orm(_batches()).where(*filters.of_rows()), cursor, limit)


def find(session: Session, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
    """Return the row of a batch; ``None`` if there is none."""
    statement = _batches().where(
        XComModel.dag_id == dag_id,
        XComModel.run_id == run_id,
        XComModel.task_id == task_id,
        XComModel.map_index == map_index,
    )
    found = session.execute(statement).one_or_none()
    return found if found and _is_of_a_batch(found) else None


def cards(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Make cards of those rows that batches have left: others may call something their progress, too."""
    return [card(row) for row in rows if _is_of_a_batch(row)]


def card(row: Any) -> dict[str, Any]:
    """Make a card of a batch."""
    progress = Progress(**{name: row.value.get(name) for name in Progress.__dataclass_fields__})
    has_ended = row.task_state in State.finished
    now = row.timestamp.timestamp() if has_ended else time.time()
    rate, left = progress.per_minute(now), progress.generating + progress.to_submit
    result = row.result if isinstance(row.result, dict) else {}
    since = progress.since and datetime.fromtimestamp(progress.since, tz=timezone.utc).isoformat(timespec="seconds")
    return {
        **{name: getattr(row, name) for name in OWNER},
        "task_state": row.task_state,
        **{name: getattr(progress, name) for name in _COUNTS},
        "counts": {state: result[state] for state in STATES if state in result} or None if has_ended else None,
        "per_minute": rate or None,
        "seconds_left": round(left / rate * 60) if rate and left and not has_ended else None,
        "cost": number(result.get("cost", progress.cost) if has_ended else progress.cost),
        "since": since,
        "updated_at": row.timestamp.isoformat(),
    }


def videos(batch: Any, filters: Filters, begin: int, limit: int) -> tuple[list[dict[str, Any]], str | None, str | None]:
    """
    Return cards of a batch's videos, in the order of its jobs, and where the pages after and before them begin.

    :param batch: what :func:`find` has found.
    :param filters: which of them.
    :param begin: the number of the first one, of those that are to be shown.
    :param limit: the most cards.
    :raises VeoError: its folder can't be read.
    """
    suiting = filter(filters.suits, (_video(batch, json.loads(line)) for line in _kept.rows(batch)))
    shown = list(itertools.islice(suiting, begin, begin + limit + 1))
    after = str(begin + limit) if len(shown) > limit else None
    return shown[:limit], after, str(max(0, begin - limit)) if begin else None


def file_of(batch: Any, key: str) -> ObjectStoragePath | None:
    """Return where the file of a job is; ``None`` if there is none."""
    for line in _kept.rows(batch):
        row = json.loads(line)
        if row["key"] == key and row.get("file"):
            return _folder(batch) / VIDEOS / str(row["file"]).rpartition("/")[2]
    return None


def _is_of_a_batch(row: Any) -> bool:
    counts = (row.value.get(name) for name in _COUNTS)
    return all(isinstance(count, int) for count in counts) and is_number(row.value.get("since"), or_none=True)


def _batches() -> Select:
    result = aliased(XComModel)
    return (
        select(
            XComModel.dag_run_id,
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.value,
            XComModel.timestamp,
            TaskInstance.state.label("task_state"),
            result.value.label("result"),
        )
        .outerjoin(TaskInstance, and_(*(getattr(TaskInstance, each) == getattr(XComModel, each) for each in OWNER)))
        .outerjoin(
            result,
            and_(
                result.dag_run_id == XComModel.dag_run_id,
                result.task_id == XComModel.task_id,
                result.map_index == XComModel.map_index,
                result.key == "return_value",
            ),
        )
        .where(
            XComModel.key == PROGRESS,
            XComModel.value["folder"].as_string().is_not(None),
            XComModel.value["to_submit"].as_string().is_not(None),
        )
    )


def _folder(batch: Any) -> ObjectStoragePath:
    return ObjectStoragePath(str(batch.value["folder"]))


def _rows(batch: Any) -> Iterator[bytes]:
    if batch.task_state in State.finished:
        path = _folder(batch) / RESULTS
        if content := _content(path):
            yield from content.splitlines()
            return
    yield from (json.dumps(row).encode() for row in _recorded(batch))


def _content(path: ObjectStoragePath) -> bytes | None:
    from airflow_provider_veo.storage import whole

    return whole.read(path)


def _recorded(batch: Any) -> Iterator[Mapping[str, Any]]:
    """Return what is on record of a batch's jobs, as rows of its results."""
    ledger = Ledger(_folder(batch) / JOURNAL, {name: getattr(batch, name) for name in OWNER}, log)
    jobs = given.recorded(ledger)
    has_ended = batch.task_state in State.finished
    for row in Results(jobs, ledger.read(), None, download=True).rows():
        state = row["state"]
        yield row if has_ended else {**row, "state": _WHILE_IT_RUNS.get(state, state)}


def _video(batch: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    owner = {name: getattr(batch, name) for name in OWNER}
    where = address(*owner.values())
    is_over = row["state"] not in (GENERATING, WAITING)
    return {
        **described({**row, **(row.get("request") or {}), "error": row.get("error") if is_over else None}),
        **played(row, f"api/files/{where}?key={address(row['key'])}" if row.get("file") else None),
        "key": f"{where}/{row['key']}",
        "state": row["state"],
        "task_state": batch.task_state,
        "name": text(row["key"]),
        "attempts": number(row.get("attempts")),
        "finished_at": text(row.get("finished_at")),
        "file": text(row.get("file")),
        **owner,
    }
