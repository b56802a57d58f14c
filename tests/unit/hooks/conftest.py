"""A hook on a relay, and a body to submit."""

from __future__ import annotations

import pytest
import tenacity

from airflow_provider_veo.hooks import VeoHook, sync
from airflow_provider_veo.protocol import payload

BODY = payload.build("a cow flies", "veo3-fast")


async def create_video(hook, body):
    """Submit a video with the hook of a batch, as a batch does."""
    return await hook.submit(await hook.prepare(body))


@pytest.fixture
def hook(relay):
    hook = VeoHook()
    yield hook
    hook.close()


@pytest.fixture
def impatient(monkeypatch):
    """Retry as often as ever, with less time in between."""
    monkeypatch.setattr(sync, "_backoff", tenacity.wait_fixed(0.02))
