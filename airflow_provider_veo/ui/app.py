"""
What the page asks for. Airflow mounts a plugin's application as it is, without any protection of its own.

So every route here asks for a logged-in user, and for the right to read XComs of the DAG in question, by Airflow's own
dependencies: the auth manager decides. Lists are filtered by the DAGs that the user may read. Nothing is written.
"""

from collections.abc import Awaitable, Callable
from datetime import date, datetime, time, timezone
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import ReadableXComFilterDep, get_user, requires_access_dag
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from airflow_provider_veo.batch.results import STATES as STATES_IN_BATCHES
from airflow_provider_veo.protocol import VeoError
from airflow_provider_veo.protocol.models import CATALOG
from airflow_provider_veo.ui import batches, files, videos
from airflow_provider_veo.ui.paging import Cursor

BUILT = Path(__file__).parent / "page" / "dist"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; media-src 'self' https: http:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""What the document may do: no script but the page's own, whatever a prompt holds. Videos come from where they are."""
_ASSETS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

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
    made.add_exception_handler(VeoError, _unreadable)
    made.middleware("http")(_with_headers)
    return made


def filters(
    dag_id: str | None = None,
    run_id: str | None = None,
    state: str | None = None,
    model: str | None = None,
    since: Annotated[date | None, Query(alias="from")] = None,
    until: Annotated[date | None, Query(alias="to")] = None,
    text: Annotated[str | None, Query(max_length=500)] = None,
) -> videos.Filters:
    """Read what is to be shown."""
    return videos.Filters(dag_id, run_id, state, model, _midnight(since), _midnight(until), text)


def cursor(cursor: str | None = None) -> Cursor | None:
    """Read where a page begins."""
    try:
        return Cursor.read(cursor) if cursor else None
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


def batch(session: SessionDep, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
    """Find the batch that is asked for."""
    found = batches.find(session, dag_id, run_id, task_id, map_index)
    if found is None:
        raise HTTPException(404, "There is no such batch.")
    return found


Filters = Annotated[videos.Filters, Depends(filters)]
Place = Annotated[Cursor | None, Depends(cursor)]
Batch = Annotated[Any, Depends(batch)]
Limit = Annotated[int, Query(ge=1, le=100)]


@page_routes.get("/")
def document() -> FileResponse:
    """Return the page."""
    return FileResponse(BUILT / "index.html", headers={"Content-Security-Policy": POLICY})


@page_routes.get("/assets/{name}")
def asset(name: str) -> FileResponse:
    """Return a file that the page is built of."""
    path = BUILT / "assets" / name
    if path.suffix not in _ASSETS or path not in (BUILT / "assets").iterdir():
        raise HTTPException(404, "There is no such file.")
    return FileResponse(path, media_type=_ASSETS[path.suffix])


@data_routes.get("/filters")
def choices(session: SessionDep, readable: ReadableXComFilterDep) -> dict[str, list[str]]:
    """Return what can be chosen from."""
    dag_ids = {*videos.dag_ids(session, readable, videos.VIDEO), *videos.dag_ids(session, readable, batches.PROGRESS)}
    states = dict.fromkeys((*videos.STATES, batches.WAITING, *STATES_IN_BATCHES))
    return {"dag_ids": sorted(dag_ids), "models": list(CATALOG), "states": list(states)}


@data_routes.get("/videos")
def list_videos(
    session: SessionDep, readable: ReadableXComFilterDep, filters: Filters, place: Place, limit: Limit = 24
) -> dict[str, Any]:
    """Return cards of single tasks' videos, newest first."""
    page = videos.page(session, readable, filters, place, limit)
    return {"videos": videos.cards(session, page.rows), "older": page.older, "newer": page.newer}


@data_routes.get("/batches")
def list_batches(
    session: SessionDep, readable: ReadableXComFilterDep, filters: Filters, place: Place, limit: Limit = 24
) -> dict[str, Any]:
    """Return cards of batches."""
    page = batches.page(session, readable, filters, place, limit)
    return {"batches": batches.cards(page.rows), "older": page.older, "newer": page.newer}


@data_routes.get("/batches/{dag_id}/{run_id}/{task_id}/{map_index}")
def show_batch(batch: Batch) -> dict[str, Any]:
    """Return the card of a batch."""
    return batches.card(batch)


@data_routes.get("/batches/{dag_id}/{run_id}/{task_id}/{map_index}/videos")
def list_videos_of_batch(
    batch: Batch, filters: Filters, cursor: Annotated[int, Query(ge=0)] = 0, limit: Limit = 24
) -> dict[str, Any]:
    """Return cards of a batch's videos, in the order of its jobs."""
    shown, older, newer = batches.videos(batch, filters, cursor, limit)
    return {"videos": shown, "older": older, "newer": newer}


@data_routes.get("/files/{dag_id}/{run_id}/{task_id}/{map_index}")
def file(
    session: SessionDep,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: int,
    key: str | None = None,
    asked: Annotated[str | None, Header(alias="Range")] = None,
) -> Response:
    """Return the file that a task has stored, or that of a batch's job, as a whole or in part."""
    if key is not None:
        path = batches.file_of(batch(session, dag_id, run_id, task_id, map_index), key)
    else:
        path = videos.file_of(session, dag_id, run_id, task_id, map_index)
    if path is None:
        raise HTTPException(404, "No file is recorded for this video.")
    return files.serve(path, asked)


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), timezone.utc) if day else None


def _unreadable(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 502)


async def _with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
    return response
