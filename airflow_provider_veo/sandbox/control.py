"""
The sandbox's control endpoints, under `/_sandbox`: read what was received, and set what happens next.

They need no key, are not subject to faults and are not counted, so that reading them changes nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from airflow_provider_veo.sandbox.answers import Refusal, json_answer
from airflow_provider_veo.sandbox.delivery import Delivery
from airflow_provider_veo.sandbox.faults import FaultSpecError
from airflow_provider_veo.sandbox.settings import SettingsError

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox.relay import Relay

PREFIX = "/_sandbox"
LARGEST_DOCUMENT = 1024 * 1024
"""Maximum bytes of a request to a control endpoint."""
router = APIRouter(prefix=PREFIX)


@router.get("/stats")
async def stats(request: Request) -> Response:
    """Return the requests, the accepted videos, the prompts accepted more than once, and the faults that fired."""
    relay = _relay(request)
    log = relay.request_log
    return _ok(
        {
            "requests": log.requests,
            "answers": log.answers,
            "accepted": len(relay.videos),
            "accepted_by_prompt": log.accepted_by_prompt,
            "paid_twice": log.paid_twice,
            "faults": relay.faults.specs,
            "faults_fired": relay.faults.fired,
        }
    )


@router.get("/videos")
async def videos(request: Request) -> Response:
    """List the accepted videos in order of acceptance."""
    relay = _relay(request)
    listed = []
    for video in relay.videos.values():
        progress = video.progress(relay.settings.generation_seconds)
        listed.append(
            {
                "id": video.id,
                "api": video.order.api,
                "model": video.order.model,
                "prompt": video.order.prompt,
                "aspect_ratio": video.order.aspect_ratio,
                "images": len(video.order.images),
                "state": relay.faults.state(video, progress.finished),
                "status": progress.status,
                "accepted_at": video.accepted_at,
                "queries": video.queries,
            }
        )
    return _ok(listed)


@router.get("/requests")
async def requests(request: Request, endpoint: str = "create") -> Response:
    """List the last requests to an endpoint, or to `all` of them."""
    return _ok(_relay(request).request_log.records(endpoint))


@router.post("/faults")
async def faults(request: Request) -> Response:
    """Replace all faults."""
    relay = _relay(request)
    specs = (await _document(request)).get("faults")
    if not isinstance(specs, list) or not all(isinstance(spec, str) for spec in specs):
        return _wrong('send {"faults": ["SPEC", ...]}')
    try:
        relay.faults.replace(specs, relay.videos.values())
    except FaultSpecError as error:
        return _wrong(str(error))
    return _ok({"faults": relay.faults.specs})


@router.get("/config")
async def config(request: Request) -> Response:
    """Return the settings except the key."""
    return _ok(_relay(request).settings.public())


@router.post("/config")
async def configure(request: Request) -> Response:
    """Change some settings."""
    relay = _relay(request)
    try:
        relay.configure(await _document(request))
    except SettingsError as error:
        return _wrong(str(error))
    return _ok(relay.settings.public())


@router.post("/reset")
async def reset(request: Request) -> Response:
    """Forget everything since the start."""
    _relay(request).reset()
    return _ok({})


def _relay(request: Request) -> Relay:
    relay: Relay = request.app.state.relay
    return relay


async def _document(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_DOCUMENT:
            raise Refusal(413, f"at most {LARGEST_DOCUMENT} bytes are accepted", headers={"connection": "close"})
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _ok(document: Any) -> Response:
    return Delivery(json_answer(document))


def _wrong(message: str) -> Response:
    return Delivery(json_answer({"error": message}, 400))
