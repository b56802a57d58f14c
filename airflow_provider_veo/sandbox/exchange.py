"""
The one path that every request to the relay takes through the faults.

A request is received and matched with faults. A fault or the relay answers it, and the answer is delivered.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from airflow_provider_veo.sandbox import forms
from airflow_provider_veo.sandbox.answers import Answer, Refusal
from airflow_provider_veo.sandbox.delivery import MANNERS, NOTHING, UNARRIVED, Delivery
from airflow_provider_veo.sandbox.faulty import CORRUPTED, INSTEAD

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox.faults import MatchedFaults
    from airflow_provider_veo.sandbox.relay import Relay
    from airflow_provider_veo.sandbox.video import Video

LARGEST_BODY = 64 * 1024 * 1024
"""Maximum bytes of a request body. Three images as data URIs fit easily."""


@dataclasses.dataclass
class Exchange:
    """One request that reached the relay."""

    relay: Relay
    request: Request
    body: bytes
    faults: MatchedFaults
    video: Video | None = None

    @property
    def content_type(self) -> str:
        """The type of the body, in lower case and without parameters."""
        return forms.content_type(self.request.headers)


Handler = Callable[[Exchange], Awaitable[Answer]]


async def exchange(
    request: Request, endpoint: str, handler: Handler, video_id: str | None = None, faultless: bool = False
) -> Response:
    """
    Answer a request.

    :param endpoint: The endpoint for faults and statistics.
    :param handler: Answers it in the relay's place, unless a fault does.
    :param video_id: The video that it is about, if it exists.
    :param faultless: Whether no fault applies.
    """
    relay: Relay = request.app.state.relay
    try:
        body = await _read(request)
    except ClientDisconnect:
        return Response(status_code=400)  # the client is gone
    record = relay.request_log.receive(request, endpoint, body, relay.settings.api_key, relay.authorized(request))
    video = relay.videos.get(video_id or "")
    model, prompt = (video.order.model, video.order.prompt) if video else await _subject(request, body)
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


async def _read(request: Request) -> bytes:
    """Return the body. Stop reading once it exceeds the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            break
    return bytes(body)


async def _subject(request: Request, body: bytes) -> tuple[str | None, str | None]:
    """Return the model and the prompt of a body, even if the rest of it is invalid."""
    if not body:
        return None, None
    document: Any
    try:
        if forms.content_type(request.headers) == forms.MULTIPART:
            document = (await forms.read(request, body)).fields
        else:
            document = json.loads(body)
    except (Refusal, ValueError, RecursionError):
        return None, None
    if not isinstance(document, dict):
        return None, None
    model, prompt = document.get("model"), document.get("prompt")
    return model if isinstance(model, str) else None, prompt if isinstance(prompt, str) else None
