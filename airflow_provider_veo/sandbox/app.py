"""
The relay's endpoints over HTTP, and the one path that every request takes through the faults.

A request is received, meets its faults, is answered in their place or by the relay, and the answer travels. What is
accepted is accepted in :func:`_create` only, and in no request that a fault keeps from arriving.
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
from airflow_provider_veo.sandbox.faulty import INSTEAD, SPOILT
from airflow_provider_veo.sandbox.files import file_answer
from airflow_provider_veo.sandbox.render import Scene

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox.faults import Met
    from airflow_provider_veo.sandbox.relay import Relay
    from airflow_provider_veo.sandbox.video import Video

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of a request; three images as data URIs fit well."""
PATHS = {"/v1/video/create": "create", "/v1/video/query": "query", "/v1/models": "models"}
"""The endpoints by path, also for those who use the wrong method."""


@dataclasses.dataclass
class Exchange:
    """One request, as the relay sees it once it has arrived."""

    relay: Relay
    request: Request
    body: bytes
    met: Met
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
    app.add_exception_handler(HTTPException, nowhere)
    app.add_exception_handler(Refusal, refused)
    return app


async def create(request: Request) -> Response:
    """Accept a video, or refuse to."""
    return await _exchange(request, "create", _create)


async def query(request: Request) -> Response:
    """Say how a video is doing."""
    return await _exchange(request, "query", _query, request.query_params.get("id"))


async def models(request: Request) -> Response:
    """List the models that the key may use."""
    return await _exchange(request, "models", _models)


async def file(request: Request, name: str) -> Response:
    """Serve a video's file."""
    return await _exchange(request, "file", _file, _video_id(name))


async def redirected_file(request: Request, name: str) -> Response:
    """Serve a file to those who followed a redirect; no fault happens here."""
    return await _exchange(request, "redirected", _file, _video_id(name))


async def nowhere(request: Request, error: Exception) -> Response:
    """Answer a request that no endpoint takes: the path or the method is wrong."""
    assert isinstance(error, HTTPException)  # noqa: S101 (what it is registered for)
    place = "redirected" if request.url.path.startswith("/redirected/") else PATHS.get(request.url.path, "other")

    async def refuse(exchange: Exchange) -> Answer:
        message = f"Invalid URL ({request.method} {request.url.path})"
        raise Refusal(error.status_code, message, headers=dict(error.headers or {}))

    return await _exchange(request, place, refuse, faultless=True)


async def refused(request: Request, error: Exception) -> Response:
    """Answer a request that a control endpoint refused."""
    assert isinstance(error, Refusal)  # noqa: S101 (what it is registered for)
    return Delivery(error.answer)


async def _exchange(
    request: Request, endpoint: str, handler: Handler, video_id: str | None = None, faultless: bool = False
) -> Response:
    relay: Relay = request.app.state.relay
    try:
        body = await _read(request)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    record = relay.ledger.receive(request, endpoint, body, relay.settings.api_key, relay.authorized(request))
    video = relay.videos.get(video_id or "")
    model, prompt = (video.order.model, video.order.prompt) if video else _subject(body)
    met = relay.faults.meeting("" if faultless else endpoint, model, prompt, video)
    manner = met.take(*MANNERS)
    if manner and manner.kind.name in UNARRIVED:
        answer = NOTHING
    else:
        answer = await _answer(Exchange(relay, request, body, met, video), handler)
    delivery = Delivery(answer, manner)
    relay.ledger.answer(record, delivery.seen_status)
    return delivery


async def _answer(exchange: Exchange, handler: Handler) -> Answer:
    fault = exchange.met.take(*INSTEAD)
    if fault:
        return INSTEAD[fault.kind.name](fault, exchange.request)
    try:
        answer = await handler(exchange)
    except Refusal as refusal:
        return refusal.answer
    # Only what the relay did accept can be spoilt afterwards.
    fault = exchange.met.take(*SPOILT) if answer.ok else None
    return SPOILT[fault.kind.name](fault, answer) if fault else answer


async def _create(exchange: Exchange) -> Answer:
    relay, request = exchange.relay, exchange.request
    relay.require_key(request)
    _require_json_accepted(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "Content-Type must be application/json")
    if len(exchange.body) > LARGEST_BODY:
        raise Refusal(413, "the body is too large", headers={"connection": "close"})
    order = read_order(exchange.body, relay.models)
    return json_answer(created(relay.accept(order), relay.settings))


async def _query(exchange: Exchange) -> Answer:
    relay, request = exchange.relay, exchange.request
    relay.require_key(request)
    _require_json_accepted(request)
    video = relay.find(request.query_params.get("id", ""))
    video.queries += 1
    hidden = exchange.met.peek("not-found-first")
    if hidden and video.queries <= hidden.value:
        exchange.met.take("not-found-first")
        raise Refusal(404, "task not found", "task_not_exist")
    return json_answer(describe(video, relay.settings, exchange.met, str(request.base_url)))


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
    return file_answer(data, request.method, request.headers, exchange.met)


def _require_json_accepted(request: Request) -> None:
    # The seed requires the header, with this value.
    if "application/json" not in request.headers.get("accept", "").lower():
        raise Refusal(400, "Accept must be application/json")


async def _read(request: Request) -> bytes:
    """Return the body, or just too much of it if it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            break
    return bytes(body)


def _subject(body: bytes) -> tuple[str | None, str | None]:
    """Return the model and the prompt that a body names, however wrong the rest of it may be."""
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
