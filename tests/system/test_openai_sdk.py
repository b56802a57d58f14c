"""The OpenAI SDK creates, polls and downloads videos of the sandbox, as it does with a gateway."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image

from airflow_provider_veo import sandbox

pytestmark = [
    pytest.mark.long,  # only make test-system installs the SDK
    pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning"),
]
ORDER = {"model": "veo_3_1-fast", "prompt": "牛飞上天了", "seconds": "8", "size": "1280x720"}


@pytest.fixture(scope="module")
def gateway():
    with sandbox.running(generation_seconds=0.3, video_seconds=0.5, long_ids=True) as gateway:
        yield gateway


@pytest.fixture
def openai():
    import openai

    return openai


@pytest.fixture
def client(gateway, openai):
    gateway.reset()
    with openai.OpenAI(api_key=gateway.api_key, base_url=f"{gateway.url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "first.png"
    Image.new("RGB", (64, 36), "red").save(path)
    return path


def ended(client, video):
    deadline = time.monotonic() + 60
    while video.status in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.1)
        video = client.videos.retrieve(video.id)
    return video


@pytest.mark.parametrize("with_image", [False, True])
def test_video_is_created_polled_and_downloaded(client, gateway, picture, tmp_path, with_image):
    images = {"input_reference": picture} if with_image else {}
    created = client.videos.create(**ORDER, **images)
    assert created.status == "queued"
    assert created.model_dump(include=ORDER.keys()) == ORDER
    video = ended(client, created)
    assert (video.id, video.status, video.progress, video.error) == (created.id, "completed", 100, None)
    file = tmp_path / "video.mp4"
    client.videos.download_content(video.id).write_to_file(file)
    assert file.read_bytes()[4:8] == b"ftyp"
    stats = gateway.stats()
    assert stats["accepted_by_prompt"] == {ORDER["prompt"]: 1}
    assert (stats["requests"]["create"], stats["requests"]["file"]) == (1, 1)
    assert gateway.videos()[0]["images"] == with_image


def test_image_as_an_open_file_or_bytes(client, gateway, picture):
    with picture.open("rb") as file:
        client.videos.create(**ORDER, input_reference=file)
    client.videos.create(**ORDER, input_reference=("a.png", io.BytesIO(picture.read_bytes()), "image/png"))
    assert [video["images"] for video in gateway.videos()] == [1, 1]


def test_create_and_poll_returns_the_failed_video(client, gateway):
    gateway.set_faults("failed=unsafe prompt")
    video = client.videos.create_and_poll(**ORDER, poll_interval_ms=100)
    assert (video.status, video.error.code, video.error.message) == ("failed", "generation_failed", "unsafe prompt")


def test_errors_are_those_of_the_sdk(client, gateway, openai):
    with pytest.raises(openai.AuthenticationError, match="无效的令牌"):
        client.with_options(api_key="wrong").videos.create(**ORDER)
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve("video_unknown")
    gateway.configure(generation_seconds=600)
    with pytest.raises(openai.BadRequestError, match="not completed"):
        client.videos.download_content(client.videos.create(**ORDER).id)
    gateway.set_faults("rate-limit=1")
    with pytest.raises(openai.RateLimitError) as caught:
        client.videos.create(**ORDER)
    assert caught.value.response.headers["retry-after"] == "1"


def test_key_is_not_sent_to_the_host_of_a_redirect(client, gateway):
    video = ended(client, client.videos.create(**ORDER))
    gateway.set_faults("redirect-host")
    assert client.videos.download_content(video.id).read()[4:8] == b"ftyp"
    assert [request["authorized"] for request in gateway.requests("redirected")] == [False]
