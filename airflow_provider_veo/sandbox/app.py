"""
The relay's HTTP endpoints, in both forms. Each request goes through :func:`~.exchange.exchange`.

Videos are accepted in :func:`_create` and :func:`_openai_create` only, and never in a request that a fault keeps from
arriving.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from airflow_provider_veo.sandbox import contract, control, openai_contract, openapi
from airflow_provider_veo.sandbox.answers import Answer, Refusal, envelope, json_answer
from airflow_provider_veo.sandbox.contract import OPENAI, UNIFIED
from airflow_provider_veo.sandbox.delivery import Delivery
from airflow_provider_veo.sandbox.description import UPSAMPLED, created, describe
from airflow_provider_veo.sandbox.exchange import LARGEST_BODY, Exchange, exchange
from airflow_provider_veo.sandbox.files import file_answer
from airflow_provider_veo.sandbox.render import Scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_veo.sandbox.contract import Order
    from airflow_provider_veo.sandbox.relay import Relay
    from airflow_provider_veo.sandbox.video import Video

PATHS = {
    "/v1/video/create": "create",
    "/v1/video/query": "query",
    "/v1/videos": "create",
    "/v1/models": "models",
}
"""The endpoints by path, for requests with the wrong method."""


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
    app.add_api_route("/v1/videos", openai_create, methods=["POST"])
    # `path`, since an id can contain a slash, which a server sees decoded.
    app.add_api_route("/v1/videos/{name:path}/content", content, methods=["GET", "HEAD"])
    app.add_api_route("/v1/videos/{name:path}", openai_query, methods=["GET"])
    app.add_api_route("/v1/models", models, methods=["GET"])
    app.add_api_route("/files/{name:path}", file, methods=["GET", "HEAD"])
    app.add_api_route("/redirected/files/{name:path}", redirected_file, methods=["GET", "HEAD"])
    app.add_api_route("/redirected/v1/videos/{name:path}/content", redirected_content, methods=["GET", "HEAD"])
    app.add_api_route("/openapi.json", description, methods=["GET"])
    app.include_router(control.router)
    app.add_exception_handler(HTTPException, no_endpoint)
    app.add_exception_handler(Refusal, refused)
    return app


async def create(request: Request) -> Response:
    """Accept a video, or refuse to."""
    return await exchange(request, "create", _create)


async def query(request: Request) -> Response:
    """Return the status of a video."""
    return await exchange(request, "query", _query, request.query_params.get("id"))


async def openai_create(request: Request) -> Response:
    """Accept a video in the form of OpenAI, or refuse to."""
    return await exchange(request, "create", _openai_create)


async def openai_query(request: Request, name: str) -> Response:
    """Return the status of a video in the form of OpenAI."""
    return await exchange(request, "query", _openai_query, name)


async def content(request: Request, name: str) -> Response:
    """Serve a video's file to those who have the key."""
    return await exchange(request, "file", _content, name)


async def models(request: Request) -> Response:
    """List the models that the key may use."""
    return await exchange(request, "models", _models)


async def file(request: Request, name: str) -> Response:
    """Serve a video's file."""
    return await exchange(request, "file", _file, _video_id(name))


async def redirected_file(request: Request, name: str) -> Response:
    """Serve a file to a client that followed a redirect. No fault applies here."""
    return await exchange(request, "redirected", _file, _video_id(name))


async def redirected_content(request: Request, name: str) -> Response:
    """Serve a file to a client that followed a redirect, as the storage behind a gateway does: without a key."""
    return await exchange(request, "redirected", _finished_file, name)


async def description() -> Response:
    """Describe this API. It needs no key, is not counted, and no fault applies."""
    return Delivery(json_answer(openapi.document()))


async def no_endpoint(request: Request, error: Exception) -> Response:
    """Answer a request whose path or method is wrong."""
    assert isinstance(error, HTTPException)  # noqa: S101 (the type it is registered for)
    place = "redirected" if request.url.path.startswith("/redirected/") else PATHS.get(request.url.path, "other")

    async def refuse(exchange: Exchange) -> Answer:
        message = f"Invalid URL ({request.method} {request.url.path})"
        raise Refusal(error.status_code, message, headers=dict(error.headers or {}))

    return await exchange(request, place, refuse, faultless=True)


async def refused(request: Request, error: Exception) -> Response:
    """Answer a request that a control endpoint refused."""
    assert isinstance(error, Refusal)  # noqa: S101 (the type it is registered for)
    return Delivery(error.answer)


async def _create(exchange: Exchange) -> Answer:
    relay, request = exchange.relay, exchange.request
    relay.require_key(request)
    if relay.settings.strict:
        _require_json(request, 400, "accept")
    if exchange.content_type != "application/json":
        raise Refusal(415, "Content-Type must be application/json")
    _require_size(exchange)
    return _accepted(relay, contract.read_order(exchange.body, relay.models, relay.settings.strict))


async def _openai_create(exchange: Exchange) -> Answer:
    relay, request = exchange.relay, exchange.request
    relay.require_key(request)
    _require_size(exchange)
    return _accepted(relay, await openai_contract.read_order(request, exchange.body, relay.models))


def _accepted(relay: Relay, order: Order) -> Answer:
    return json_answer(created(relay.accept(order), relay.settings))


async def _query(exchange: Exchange) -> Answer:
    relay, request = exchange.relay, exchange.request
    relay.require_key(request)
    if relay.settings.strict:
        _require_json(request, 422, "accept", "content-type")
    return _described(exchange, relay.find(request.query_params.get("id", ""), UNIFIED))


async def _openai_query(exchange: Exchange) -> Answer:
    exchange.relay.require_key(exchange.request)
    return _described(exchange, exchange.relay.find(exchange.request.path_params["name"], OPENAI))


def _described(exchange: Exchange, video: Video) -> Answer:
    video.queries += 1
    hidden = exchange.faults.peek("not-found-first")
    if hidden and video.queries <= hidden.value[0]:
        exchange.faults.take("not-found-first")
        raise Refusal(hidden.value[1], "task not found", "task_not_exist")
    return json_answer(describe(video, exchange.relay.settings, exchange.faults, str(exchange.request.base_url)))


async def _models(exchange: Exchange) -> Answer:
    exchange.relay.require_key(exchange.request)
    listed = [{"id": name, "object": "model", "owned_by": "veo"} for name in exchange.relay.models]
    return json_answer({"object": "list", "data": listed})


async def _file(exchange: Exchange) -> Answer:
    video = exchange.video
    upsampled = exchange.request.url.path.endswith(f"{UPSAMPLED}.mp4")
    if not video or not video.progress(exchange.relay.settings.generation_seconds).finished:
        return envelope(404, "no such file")
    if upsampled and not video.order.enable_upsample:
        return envelope(404, "no such file")
    return await _mp4(exchange, video, upsampled)


async def _content(exchange: Exchange) -> Answer:
    exchange.relay.require_key(exchange.request)
    return await _finished_file(exchange)


async def _finished_file(exchange: Exchange) -> Answer:
    relay, request = exchange.relay, exchange.request
    video = relay.find(request.path_params["name"], OPENAI)
    variant = request.query_params.get("variant", "video")
    if variant != "video":
        raise Refusal(400, f"the variant {variant} is not supported", "invalid_parameter")
    state = relay.faults.state(video, video.progress(relay.settings.generation_seconds).finished)
    if state != "succeeded":
        raise Refusal(400, f"the video is not completed: {state}", "video_not_ready")
    return await _mp4(exchange, video, upsampled=False)


async def _mp4(exchange: Exchange, video: Video, upsampled: bool) -> Answer:
    scene = Scene(
        video_id=video.id,
        model=video.order.model,
        prompt=video.order.prompt,
        aspect_ratio=video.order.aspect_ratio,
        upsampled=upsampled,
        seconds=exchange.relay.settings.video_seconds,
    )
    data = await exchange.relay.files.get(scene)
    return file_answer(data, exchange.request.method, exchange.request.headers, exchange.faults)


def _require_json(request: Request, status: int, *names: str) -> None:
    for name in names:
        if "application/json" not in request.headers.get(name, "").lower():
            raise Refusal(status, f"{name.title()} must be application/json")


def _require_size(exchange: Exchange) -> None:
    if len(exchange.body) > LARGEST_BODY:
        raise Refusal(413, "the body is too large", headers={"connection": "close"})


def _video_id(name: str) -> str:
    return name.removesuffix(".mp4").removesuffix(UPSAMPLED)
