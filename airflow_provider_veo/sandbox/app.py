"""
The relay's HTTP endpoints, and the one path that every request takes through the faults.

A request is received and matched with faults. A fault or the relay answers it, and the answer is delivered. Videos are
accepted in :func:`_create` only, and never in a request that a fault keeps from arriving.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from airflow_provider_veo.sandbox import control
from airflow_provider_veo.sandbox.answers import Answer, Refusal, envelope, json_answer
from airflow_provider_veo.sandbox.contract import read_order
from airflow_provider_veo.sandbox.delivery import MANNERS, NOTHING, UNARRIVED, Delivery
from airflow_provider_veo.sandbox.description import UPSAMPLED, created, describe
from airflow_provider_veo.sandbox.faulty import CORRUPTED, INSTEAD
from airflow_provider_veo.sandbox.files import file_answer
from airflow_provider_veo.sandbox.render import Scene

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox.faults import MatchedFaults
    from airflow_provider_veo.sandbox.relay import Relay
    from airflow_provider_veo.sandbox.video import Video

LARGEST_BODY = 64 * 1024 * 1024
"""Maximum bytes of a request body. Three images as data URIs fit easily."""
PATHS = {"/v1/video/create": "create", "/v1/video/query": "query", "/v1/models": "models"}
"""The endpoints by path, for requests with the wrong method."""


@dataclasses.dataclass
class Exchange:
    """One request that reached the relay."""

    relay: Relay
    request: Request
    body: bytes
    faults: MatchedFaults
    video: Video | None = None


Handler = Callable[[Exchange], Awaitable[Answer]]


def build(relay: Relay) -> FastAPI:
    """Return the application that serves this relay."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        relay.files.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.relay = relay
    app.add_api_route("/v1/video/create", create, methods=["POST"])
    app.add_api_route("/v1/video/query", query, methods=["GET"])
    app.add_api_route("/v1/models", models, methods=["GET"])
    app.add_api_route("/files/{name:path}", file, methods=["GET", "HEAD"])
    app.add_api_route("/redirected/files/{name:path}", redirected_file, methods=["GET", "HEAD"])
    app.include_router(control.router)
    app.add_exception_handler(HTTPException, no_endpoint)
    app.add_exception_handler(Refusal, refused)
    return app


async def create(request: Request) -> Response:
    """Accept a video, or refuse to."""
    return await _exchange(request, "create", _create)


async def query(request: Request) -> Response:
    """Return the status of a video."""
    return await _exchange(request, "query", _query, request.query_params.get("id"))


async def models(request: Request) -> Response:
    """List the models that the key may use."""
    return await _exchange(request, "models", _models)


async def file(request: Request, name: str) -> Response:
    """Serve a video's file."""
    return await _exchange(request, "file", _file, _video_id(name))


async def redirected_file(request: Request, name: str) -> Response:
    """Serve a file to a client that followed a redirect. No fault applies here."""
    return await _exchange(request, "redirected", _file, _video_id(name))


async def no_endpoint(request: Request, error: Exception) -> Response:
    """Answer a request whose path or method is wrong."""
    assert isinstance(error, HTTPException)  # noqa: S101 (the type it is registered for)
    place = "redirected" if request.url.path.startswith("/redirected/") else PATHS.get(request.url.path, "other")

    async def refuse(exchange: Exchange) -> Answer:
        message = f"Invalid URL ({request.method} {request.url.path})"
        raise Refusal(error.status_code, message, headers=dict(error.headers or {}))

    return await _exchange(request, place, refuse, faultless=True)


async def refused(request: Request, error: Exception) -> Response:
    """Answer a request that a control endpoint refused."""
    assert isinstance(error, Refusal)  # noqa: S101 (the type it is registered for)
    return Delivery(error.answer)


async def _exchange(
    request: Request, endpoint: str, handler: Handler, video_id: str | None = None, faultless: bool = False
) -> Response:
    relay: Relay = request.app.state.relay
    try:
        body = await _read(request)
    except ClientDisconnect:
        return Response(status_code=400)  # the client is gone
    record = relay.request_log.receive(request, endpoint, body, relay.settings.api_key, relay.authorized(request))
    video = relay.videos.get(video_id or "")
    model, prompt = (video.order.model, video.order.prompt) if video else _subject(body)
    faults = relay.faults.match("" if faultless else endpoint, model, prompt, video)
    manner = faults.take(*MANNERS)
    if manner and manner.kind.name in UNARRIVED:
        answer = NOTHING
    else:
        answer = await _answer(Exchange(relay, request, body, faults, video), handler)
    delivery = Delivery(answer, manner)
    relay.request_log.answer(record, delivery.seen_status)
    return delivery


async def _answer(exchange: Exchange, handler: Handler) -> Answer:
    fault = exchange.faults.take(*INSTEAD)
    if fault:
        return INSTEAD[fault.kind.name](fault, exchange.request)
    try:
        answer = await handler(exchange)
    except Refusal as refusal:
        return refusal.answer
    # Only an accepted request's answer can be corrupted.
    fault = exchange.faults.take(*CORRUPTED) if answer.ok else None
    return CORRUPTED[fault.kind.name](fault, answer) if fault else answer


async def _create(exchange: Exchange) -> Answer:
    relay, request = exchange.relay, exchange.request
    relay.require_key(request)
    if relay.settings.strict:
        _require_json(request, 400, "accept")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "Content-Type must be application/json")
    if len(exchange.body) > LARGEST_BODY:
        raise Refusal(413, "the body is too large", headers={"connection": "close"})
    order = read_order(exchange.body, relay.models, relay.settings.strict)
    return json_answer(created(relay.accept(order), relay.settings))


async def _query(exchange: Exchange) -> Answer:
    relay, request = exchange.relay, exchange.request
    relay.require_key(request)
    if relay.settings.strict:
        _require_json(request, 422, "accept", "content-type")
    video = relay.find(request.query_params.get("id", ""))
    video.queries += 1
    hidden = exchange.faults.peek("not-found-first")
    if hidden and video.queries <= hidden.value[0]:
        exchange.faults.take("not-found-first")
        raise Refusal(hidden.value[1], "task not found", "task_not_exist")
    return json_answer(describe(video, relay.settings, exchange.faults, str(request.base_url)))


async def _models(exchange: Exchange) -> Answer:
    exchange.relay.require_key(exchange.request)
    listed = [{"id": name, "object": "model", "owned_by": "veo"} for name in exchange.relay.models]
    return json_answer({"object": "list", "data": listed})


async def _file(exchange: Exchange) -> Answer:
    video, request = exchange.video, exchange.request
    upsampled = request.url.path.endswith(f"{UPSAMPLED}.mp4")
    if not video or not video.progress(exchange.relay.settings.generation_seconds).finished:
        return envelope(404, "no such file")
    if upsampled and not video.order.enable_upsample:
        return envelope(404, "no such file")
    scene = Scene(
        video_id=video.id,
        model=video.order.model,
        prompt=video.order.prompt,
        aspect_ratio=video.order.aspect_ratio,
        upsampled=upsampled,
        seconds=exchange.relay.settings.video_seconds,
    )
    data = await exchange.relay.files.get(scene)
    return file_answer(data, request.method, request.headers, exchange.faults)


def _require_json(request: Request, status: int, *names: str) -> None:
    for name in names:
        if "application/json" not in request.headers.get(name, "").lower():
            raise Refusal(status, f"{name.title()} must be application/json")


async def _read(request: Request) -> bytes:
    """Return the body. Stop reading once it exceeds the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            break
    return bytes(body)


def _subject(body: bytes) -> tuple[str | None, str | None]:
    """Return the model and the prompt of a body, even if the rest of it is invalid."""
    if not body:
        return None, None
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(document, dict):
        return None, None
    model, prompt = document.get("model"), document.get("prompt")
    return model if isinstance(model, str) else None, prompt if isinstance(prompt, str) else None


def _video_id(name: str) -> str:
    return name.removesuffix(".mp4").removesuffix(UPSAMPLED)
