"""Through LiteLLM's proxy, a real gateway, to the sandbox: with the configuration of the documentation."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from airflow_provider_veo import sandbox
from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoGenerationFailedError,
    payload,
)
from airflow_provider_veo.storage import store_video
from tests.conftest import CANARY
from tests.system.conftest import PROJECT
from tests.system.supervised import free_port, launch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

UV = str(Path(sys.executable).with_name("uv"))
CONFIGURATION = PROJECT / "docs" / "snippets" / "litellm.yaml"
UPSTREAM_KEY = "sk-upstream-canary-5c1de0b2"
SECONDS_TO_START = 240
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def litellm(tmp_path_factory):
    """An environment of its own: LiteLLM and Airflow disagree about the versions of what they need."""
    folder = tmp_path_factory.mktemp("litellm")
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    install = [UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", folder / "bin" / "python"]
    constraints = PROJECT / "constraints" / "litellm.txt"
    subprocess.run([*install, "--constraint", constraints, "litellm[proxy]"], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def gateway(litellm, tmp_path_factory):
    """LiteLLM's proxy between the hook and a sandbox."""
    folder = tmp_path_factory.mktemp("gateway")
    with sandbox.running(generation_seconds=1, video_seconds=0.5, api_key=UPSTREAM_KEY) as relay:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))},
            "UPSTREAM_URL": f"{relay.url}/v1",
            "UPSTREAM_KEY": UPSTREAM_KEY,
            "LITELLM_MASTER_KEY": CANARY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
        }
        port = free_port()
        command = [litellm / "bin" / "litellm", "--config", CONFIGURATION, "--host", "127.0.0.1", "--port", port]
        process = launch([str(each) for each in command], folder / "log", cwd=folder, environment=environment)
        try:
            _wait_until_it_answers(process.main, f"http://127.0.0.1:{port}/health/liveliness", folder / "log")
            yield SimpleNamespace(url=f"http://127.0.0.1:{port}", relay=relay)
        finally:
            process.end()


def _wait_until_it_answers(process, url, log):
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and process.is_running():
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.5)
    pytest.fail(f"LiteLLM did not start:\n{log.read_text('utf-8', 'replace')[-5000:]}")


@pytest.fixture
def hook(gateway, monkeypatch):
    gateway.relay.reset()
    yield _hook(gateway, monkeypatch, CANARY)


def _hook(gateway, monkeypatch, key):
    extra = {"api": "openai", "default_model": "veo-studio", "models": {"veo-studio": {"max_images": 1}}}
    document = {"conn_type": "veo", "host": gateway.url, "password": key, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", json.dumps(document))
    return VeoHook()


def body(prompt, hook, **fields):
    return payload.build(prompt, "veo-studio", catalog=hook.settings.catalog, **fields)


def wait(hook, video):
    return hook.wait_for_video(video.id, poll_interval=0.5, timeout=120)


def test_the_connection_test_lists_the_gateways_models(hook):
    assert hook.test_connection() == (
        True,
        f"{hook.settings.base_url} accepts the key, which may use 1 models, 1 of them Veo: veo-studio.",
    )


def test_a_video_is_created_waited_for_and_stored(gateway, hook, tmp_path, caplog):
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    video = hook.create_video(body("a cow flies", hook, extra_body={"seconds": "8"}))
    assert len(video.id) > 100
    done = wait(hook, video)
    assert done.video_url.startswith(f"{gateway.url}/v1/videos/")
    target = ObjectStoragePath(f"file://{tmp_path}/a.mp4")
    stored = store_video(done.video_url, target, settings=hook.settings, log=hook.log, veo_task_id=video.id)
    assert stored.bytes == (tmp_path / "a.mp4").stat().st_size
    assert stored.verified
    (request,) = gateway.relay.requests()
    assert "1280x720" in request["body"]
    assert gateway.relay.stats()["accepted_by_prompt"] == {"a cow flies": 1}
    assert CANARY not in caplog.text


def test_an_image_arrives(gateway, hook):
    image = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert wait(hook, hook.create_video(body("a cow flies", hook, images=[image]))).state == "succeeded"
    (video,) = gateway.relay.videos()
    assert video["images"] == 1


def test_a_video_that_fails_is_a_failure(gateway, hook):
    gateway.relay.set_faults("failed=the sky is closed")
    with pytest.raises(VeoGenerationFailedError, match="the sky is closed"):
        wait(hook, hook.create_video(body("a cow flies", hook)))


def test_a_wrong_key_is_named(gateway, monkeypatch):
    wrong = _hook(gateway, monkeypatch, "sk-wrong")
    with pytest.raises(VeoAuthenticationError):
        wrong.create_video(body("a cow flies", wrong))
    said, message = wrong.test_connection()
    assert not said
    assert "does not accept the API key" in message


def test_a_wrong_key_of_the_gateway_is_named(gateway, hook):
    gateway.relay.configure(api_key="another")
    with pytest.raises(VeoAuthenticationError):
        hook.create_video(body("a cow flies", hook))


def test_an_answer_that_the_gateway_loses_is_never_sent_again(gateway, hook):
    gateway.relay.set_faults("drop-after")
    with pytest.raises(VeoAmbiguousSubmitError):
        hook.create_video(body("a cow flies", hook))
    assert gateway.relay.stats()["accepted_by_prompt"] == {"a cow flies": 1}
