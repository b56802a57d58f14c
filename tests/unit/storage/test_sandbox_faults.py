"""The sandbox's faults, through the hook and the connection that a task would use."""

from __future__ import annotations

import dataclasses
import os

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.protocol import VeoDownloadError
from airflow_provider_veo.storage import store_video
from tests.conftest import CANARY
from tests.unit.storage.conftest import files_in

# --- the sandbox's faults --------------------------------------------------------------------------------------------


@pytest.fixture
def made(relay):
    """A video of the sandbox's, and the hook that made it."""
    from airflow_provider_veo.hooks import VeoHook
    from tests.unit.hooks.conftest import BODY

    hook = VeoHook()
    yield hook, hook.get_video(hook.create_video(BODY).id)
    hook.close()


@pytest.fixture
def store_made(made, target, log):
    hook, of_sandbox = made

    def stored(**options):
        path = ObjectStoragePath(f"file://{target}")
        return store_video(
            of_sandbox.video_url,
            path,
            settings=hook.settings,
            log=log,
            veo_task_id=of_sandbox.id,
            fresh_url=lambda: hook.get_video(of_sandbox.id).video_url,
            **options,
        )

    return stored


@pytest.fixture
def held(made):
    """What the sandbox holds."""
    import requests

    return requests.get(made[1].video_url, timeout=10).content


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        ["file:cut-off@1"],
        ["file:cut-off@1-3"],
        ["file:cut-off@1-2", "no-range"],
        ["file:cut-off@1-2", "etag-changes"],
        ["file:reset@1"],
        ["file:drop-before@1-4"],
        ["wrong-length@1"],
        ["wrong-length=1000@1"],
        ["html-200@1"],
        ["html-200=video/mp4@1"],
        ["file:empty@1"],
        ["file:empty=204@1"],
        ["file:bare=404@1"],
        ["file:bare=403@1-2"],
        ["file:status=503@1-3"],
        ["file:rate-limit=0@1"],
        ["file:rate-limit-date=1@1"],
        ["file:drip=0.4"],
        ["file:slow=0.3"],
        ["file:redirect"],
    ],
)
def test_what_the_sandbox_does_for_a_while_is_outlived(relay, store_made, held, target, faults):
    relay.set_faults(*faults)
    stored = store_made()
    assert target.read_bytes() == held
    assert (stored.width, stored.height, stored.duration_seconds) == (640, 360, 3.0)
    assert files_in(target.parent) == ["x.jpg", "x.mp4"]
    os.utime(target, (1, 1))
    relay.set_faults()
    assert store_made() == stored
    assert target.stat().st_mtime == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("wrong-length", "its last part is missing 1000 bytes"),
        ("wrong-length=1000", "the connection broke after"),
        ("html-200", "got a page instead of the file: “<html>"),
        ("html-200=video/mp4", "got a page instead of the file"),
        ("file:empty", "got an empty file"),
        ("file:bare=404", "has expired"),
        ("file:status=503", "HTTP 503"),
        ("file:drop-before", "got no answer"),
        ("file:echo-key=500", "HTTP 500"),
        ("file:hang-before=5", "timed out"),
    ],
)
def test_permanent_fault_of_the_sandbox_is_reported(relay, store_made, held, target, fault, says):
    relay.set_faults(fault)
    with pytest.raises(VeoDownloadError) as caught:
        store_made(timeout=0.5 if "hang" in fault else 30)
    assert says in str(caught.value)
    assert CANARY not in str(caught.value)
    assert files_in(target.parent) == []


def test_the_key_of_the_relay_goes_to_the_relays_files_and_no_further(relay, made, target, log, host):
    hook, of_sandbox = made
    relay.set_faults(f"file:redirect={host.url}")
    settings = dataclasses.replace(hook.settings, allow_private_media=False)
    store_video(of_sandbox.video_url, ObjectStoragePath(str(target)), settings=settings, log=log)
    assert target.read_bytes() == host.content
    assert [headers.get("Authorization") for _, headers in host.asked] == [None]
    sent = relay.requests("file")[-1]
    assert "authorization" in str(sent).lower()
