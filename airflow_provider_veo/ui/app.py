"""
The application behind the page. Airflow mounts a plugin's application without any protection of its own.

So every route requires a logged-in user and the right to read XComs of the DAG, through Airflow's own dependencies: the
auth manager decides. Lists are filtered by the DAGs that the user may read. Nothing is written.

A session of the metadata database is held only while it is queried, never while a storage is read.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timezone
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import ReadableXComFilterDep, get_user, requires_access_dag
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from sqlalchemy.orm import Session

from airflow_provider_veo.batch.results import STATES as STATES_IN_BATCHES
from airflow_provider_veo.protocol.models import CATALOG
from airflow_provider_veo.ui import batches, files, settings, spend, videos
from airflow_provider_veo.ui.access import Admitted
from airflow_provider_veo.ui.cards import OFF
from airflow_provider_veo.ui.lines import LineCursor
from airflow_provider_veo.ui.opening import UnreadableError
from airflow_provider_veo.ui.paging import Cursor
from airflow_provider_veo.ui.reads import RETRY_AFTER_SECONDS, BusyError, reads_of

BUILT = Path(__file__).parent / "page" / "dist"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; media-src {media}; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Allows only the page's own scripts, whatever a prompt contains, and media only from this server and the hosts in
``[veo] page_media_hosts``."""
_ASSETS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_NOTHING_HERE = "There is nothing to show here."
_MAX_MAP_INDEX = 2**31 - 1
_MAX_OFFSET = 2**62
_MAX_CHARACTERS = 1000
_TEXT = r"^[^\x00]*$"

log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

may_read_xcoms = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))
page_routes = APIRouter(dependencies=[Depends(get_user)])
data_routes = APIRouter(prefix="/api", dependencies=[may_read_xcoms])


@cache
def app() -> FastAPI:
    """Return the application that Airflow mounts."""
    made = FastAPI(title="Veo videos", docs_url=None, redoc_url=None, openapi_url=None)
    made.include_router(page_routes)
    made.include_router(data_routes)
    made.state.auth_manager = get_auth_manager()  # where Airflow's dependencies look for it
    made.middleware("http")(_with_headers)
    return made


ShortText = Annotated[str | None, Query(max_length=_MAX_CHARACTERS, pattern=_TEXT)]
Limit = Annotated[int, Query(ge=1, le=100)]
Id = Annotated[str, InPath(max_length=_MAX_CHARACTERS, pattern=_TEXT)]
MapIndex = Annotated[int, InPath(ge=-1, le=_MAX_MAP_INDEX)]
Region = Annotated[UUID | None, Query()]
"""Tells the iterations of a task loop apart."""


def filters(
    dag_id: str | None = None,  # in the path of a batch, otherwise in the query
    run_id: str | None = None,
    state: ShortText = None,
    model: ShortText = None,
    since: Annotated[date | None, Query(alias="from")] = None,
    until: Annotated[date | None, Query(alias="to")] = None,
    text: Annotated[str | None, Query(max_length=500, pattern=_TEXT)] = None,
) -> videos.Filters:
    """Read the filters."""
    if any("\0" in each or len(each) > _MAX_CHARACTERS for each in (dag_id or "", run_id or "")):
        raise HTTPException(422, "dag_id, run_id: expected ids")
    return videos.Filters(dag_id, run_id, state, model, _midnight(since), _midnight(until), text)


def cursor(cursor: str | None = None) -> Cursor | None:
    """Read where a page begins."""
    return _read_or_422(Cursor.read, cursor) if cursor else None


def line_cursor(cursor: str | None = None) -> LineCursor:
    """Read where a page of a batch's videos begins."""
    return _read_or_422(LineCursor.parse, cursor) if cursor else LineCursor()


def batch(dag_id: Id, run_id: Id, task_id: Id, map_index: MapIndex, region: Region = None) -> Any:
    """Find a batch."""
    with _session() as session:
        found = batches.find(session, dag_id, run_id, task_id, map_index, region)
    if found is None:
        raise HTTPException(404, _NOTHING_HERE)
    return found


Filters = Annotated[videos.Filters, Depends(filters)]
Place = Annotated[Cursor | None, Depends(cursor)]
LinePlace = Annotated[LineCursor, Depends(line_cursor)]
Batch = Annotated[Any, Depends(batch)]


@page_routes.get("/")
def document() -> FileResponse:
    """Return the page."""
    return _document("index.html")


@page_routes.get("/help")
def help_page() -> FileResponse:
    """Return the page about its settings."""
    return _document("help.html")


@page_routes.get("/assets/{name}")
def asset(name: str) -> FileResponse:
    """Return a script, style or image of the page."""
    path = BUILT / "assets" / name
    if path.suffix not in _ASSETS or path not in (BUILT / "assets").iterdir():
        raise HTTPException(404, "There is no such file.")
    return FileResponse(path, media_type=_ASSETS[path.suffix])


@data_routes.get("/filters")
def choices(readable: ReadableXComFilterDep) -> dict[str, list[str]]:
    """Return the choices of the filters."""
    with _session() as session:
        found = (videos.dag_ids(session, readable, key) for key in (videos.VIDEO, batches.PROGRESS))
        dag_ids = {dag_id for each in found for dag_id in each}
    states = dict.fromkeys((*videos.STATES, batches.WAITING, *STATES_IN_BATCHES))
    return {"dag_ids": sorted(dag_ids), "models": list(CATALOG), "states": list(states)}


@data_routes.get("/videos")
def list_videos(readable: ReadableXComFilterDep, filters: Filters, place: Place, limit: Limit = 24) -> dict[str, Any]:
    """Return cards of single tasks' videos, newest first."""
    with _session() as session:
        page = videos.page(session, readable, filters, place, limit)
        cards = videos.cards_of(session, page.rows)
    return {"videos": cards, "older": page.older, "newer": page.newer}


@data_routes.get("/batches")
def list_batches(readable: ReadableXComFilterDep, filters: Filters, place: Place, limit: Limit = 24) -> dict[str, Any]:
    """Return cards of batches."""
    with _session() as session:
        page = batches.page(session, readable, filters, place, limit)
    return {"batches": [batches.card(row) for row in page.rows], "older": page.older, "newer": page.newer}


@data_routes.get("/batches/{dag_id}/{run_id}/{task_id}/{map_index}")
def show_batch(batch: Batch) -> dict[str, Any]:
    """Return the card of a batch."""
    return batches.card(batch)


@data_routes.get("/batches/{dag_id}/{run_id}/{task_id}/{map_index}/videos")
async def list_videos_of_batch(batch: Batch, filters: Filters, place: LinePlace, limit: Limit = 24) -> dict[str, Any]:
    """Return cards of a batch's videos, in the order of its jobs."""
    folder = batches.folder_of(batch)
    if folder is None:
        return {"videos": [], "older": None, "newer": None, "preview": OFF}
    read = partial(batches.videos, batch, folder, filters, place, limit)
    shown, older, newer = await _from_storage(reads_of(folder.root).run(read))
    return {"videos": shown, "older": older, "newer": newer, "preview": None}


@data_routes.get("/spend")
def show_spend(
    readable: ReadableXComFilterDep, filters: Filters, by: Literal["model", "dag_id"] = "model"
) -> dict[str, Any]:
    """Return what videos cost, by day, DAG and model."""
    return _spent(readable, filters).view(by)


@data_routes.get("/spend.csv")
def download_spend(readable: ReadableXComFilterDep, filters: Filters) -> Response:
    """Return the same as a file."""
    spent = _spent(readable, filters)
    headers = {"Content-Disposition": f'attachment; filename="{spent.file_name}"'}
    return Response(spent.csv(), media_type="text/csv; charset=utf-8", headers=headers)


def _spent(readable: Any, filters: videos.Filters) -> spend.Spent:
    try:
        with spend.at_most_a_few(), _session() as session:
            return spend.read(session, readable, filters)
    except BusyError:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        raise HTTPException(503, "Too many records are being read.", headers) from None


def recorded_file(
    dag_id: Id, run_id: Id, task_id: Id, map_index: MapIndex, key: str | None = None, region: Region = None
) -> Any:
    """Find the recorded file of a task, or the folder of the batch that a job belongs to."""
    if key is not None:
        return batches.folder_of(batch(dag_id, run_id, task_id, map_index, region))
    with _session() as session:
        return videos.file_of(session, dag_id, run_id, task_id, map_index, region)


@data_routes.get("/files/{dag_id}/{run_id}/{task_id}/{map_index}")
async def file(
    recorded: Annotated[Any, Depends(recorded_file)],
    key: Annotated[str | None, Query(max_length=_MAX_CHARACTERS)] = None,
    at: Annotated[int, Query(ge=0, le=_MAX_OFFSET)] = 0,
    requested: Annotated[str | None, Header(alias="Range")] = None,
) -> Response:
    """Return the file that a task or a batch's job has stored, or a part of it."""
    if recorded is None:
        raise HTTPException(404, _NOTHING_HERE)
    admitted = recorded
    if not isinstance(recorded, Admitted):
        admitted = await _from_storage(reads_of(recorded.root).run(partial(recorded.file_of, key, at)))
    return await _from_storage(files.serve(admitted, requested))


def recorded_poster(
    dag_id: Id, run_id: Id, task_id: Id, map_index: MapIndex, name: str | None = None, region: Region = None
) -> Any:
    """Find the recorded file of a task, or the folder of the batch that a poster belongs to."""
    return recorded_file(dag_id, run_id, task_id, map_index, name, region)


@data_routes.get("/posters/{dag_id}/{run_id}/{task_id}/{map_index}")
async def poster(
    recorded: Annotated[Any, Depends(recorded_poster)],
    name: Annotated[str | None, Query(max_length=_MAX_CHARACTERS)] = None,
    known: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """Return the poster of the file that a task or a batch's job has stored."""
    if recorded is None:
        raise HTTPException(404, _NOTHING_HERE)
    find = (lambda: recorded.poster) if isinstance(recorded, Admitted) else partial(recorded.poster_of, name)
    return await _from_storage(files.serve_poster(recorded.root, find, known))


async def _from_storage(answer: Awaitable[_Answer]) -> _Answer:
    """
    Wait for a read from a storage.

    All unreadable files get the same answer: different ones would reveal which files exist.
    """
    try:
        return await answer
    except BusyError:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        raise HTTPException(503, "Too many files are being read.", headers) from None
    except asyncio.TimeoutError:
        log.warning("A storage did not answer in time")
    except UnreadableError as error:
        log.info("A recorded file is not shown: %s", error)
    except Exception as error:  # of any storage library
        log.warning("A recorded file can't be read: %s", type(error).__name__)
    raise HTTPException(404, _NOTHING_HERE)


@contextmanager
def _session() -> Iterator[Session]:
    with create_session(scoped=False) as session:
        yield session


def _document(name: str) -> FileResponse:
    policy = POLICY.format(media=" ".join(("'self'", *settings.media_origins())))
    return FileResponse(BUILT / name, headers={"Content-Security-Policy": policy})


def _read_or_422(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), timezone.utc) if day else None


async def _with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Cache-Control", "private, no-cache")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
    return response
