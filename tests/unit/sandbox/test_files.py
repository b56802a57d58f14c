"""The MP4s are real, show the requested content, and are served as by a file server."""

from __future__ import annotations

import concurrent.futures
import io
from typing import TYPE_CHECKING

import av
import pylopdf_fonts_zh_cn
import pytest
import requests
from PIL import Image, ImageChops, ImageDraw, ImageFont

from airflow_provider_veo.sandbox.render import Scene, render

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox import Sandbox

    from .conftest import Client


def frames_of(data: bytes) -> list[Image.Image]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def scene(prompt: str, seconds: float = 0.1) -> Scene:
    return Scene("veo3:1", "veo3", prompt, "16:9", upsampled=False, seconds=seconds)


@pytest.mark.parametrize(("ratio", "size"), [("16:9", (640, 360)), ("9:16", (360, 640))])
def test_video_has_the_requested_ratio_and_motion(client: Client, ratio: str, size: tuple[int, int]) -> None:
    data = client.send("GET", client.video_url(aspect_ratio=ratio)).content
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 24)
        assert (stream.width, stream.height) == size
    frames = frames_of(data)
    assert len(frames) == 12  # the fixture's video_seconds
    assert max(high for _, high in ImageChops.difference(frames[0], frames[6]).getextrema()) > 30


def test_default_video_is_three_seconds_with_the_index_in_front() -> None:
    data = render(scene("a cow", seconds=3.0))
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as container:
        assert container.duration == 3_000_000


def test_upsampled_video_is_larger(client: Client) -> None:
    video = client.accepted(enable_upsample=True, aspect_ratio="9:16")
    answer = client.query(video).json()
    upsampled = frames_of(client.send("GET", answer["video_url"]).content)[0]
    plain = frames_of(client.send("GET", answer["detail"]["video_url"]).content)[0]
    assert upsampled.size == (720, 1280)
    assert plain.size == (360, 640)


def test_chinese_is_drawn_and_not_replaced_by_boxes() -> None:
    one, other, boxes = (frames_of(render(scene(text)))[0] for text in ("牛飞", "马跑", "\U0010fffe\U0010fffd"))
    for left, right in ((one, other), (one, boxes), (other, boxes)):
        difference = ImageChops.difference(left, right).convert("L").point(lambda value: 255 * (value > 100))
        assert difference.histogram()[255] > 100
    font = ImageFont.truetype(str(pylopdf_fonts_zh_cn.sans_path()), 36)
    expected = Image.new("L", one.size)
    ImageDraw.Draw(expected).text((320, 360 * 0.46), "牛飞", fill=255, font=font, anchor="mm")
    strokes = [one.getpixel((x, y)) for x in range(640) for y in range(360) if expected.getpixel((x, y)) == 255]
    bright = sum(min(colour) > 180 for colour in strokes if isinstance(colour, tuple))
    assert bright > 0.9 * len(strokes) > 100


@pytest.mark.parametrize("prompt", ["word " * 900, "很" * 1500, "x" * 500, "\n\n", "a\tb", "🐄"])
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    assert frames_of(render(scene(prompt)))


def test_same_scene_renders_to_the_same_file() -> None:
    assert render(scene("a cow")) == render(scene("a cow"))
    assert render(scene("a cow")) != render(scene("a horse"))


def test_ranges_add_up_to_the_complete_file(client: Client) -> None:
    url = client.video_url()
    whole = client.send("GET", url)
    size = len(whole.content)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-length"] == str(size)
    assert whole.headers["accept-ranges"] == "bytes"
    first = client.send("GET", url, headers={"Range": "bytes=0-999"})
    rest = client.send("GET", url, headers={"Range": "bytes=1000-", "If-Range": whole.headers["etag"]})
    assert first.status_code == rest.status_code == 206
    assert first.headers["content-range"] == f"bytes 0-999/{size}"
    assert first.content + rest.content == whole.content
    assert client.send("GET", url, headers={"Range": "bytes=-10"}).content == whole.content[-10:]


@pytest.mark.parametrize("wanted", ["bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=-"])
def test_invalid_range_is_ignored(client: Client, wanted: str) -> None:
    assert client.send("GET", client.video_url(), headers={"Range": wanted}).status_code == 200


def test_range_beyond_the_end_is_refused(client: Client) -> None:
    url = client.video_url()
    size = client.send("HEAD", url).headers["content-length"]
    for wanted in (f"bytes={size}-", "bytes=-0"):
        answer = client.send("GET", url, headers={"Range": wanted})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{size}"


def test_other_etag_returns_the_complete_file(client: Client) -> None:
    answer = client.send("GET", client.video_url(), headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert answer.status_code == 200


def test_head_matches_get_and_needs_no_key(client: Client) -> None:
    url = client.video_url()
    head, get = (requests.request(method, url, timeout=10) for method in ("HEAD", "GET"))
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    assert head.headers["etag"] == get.headers["etag"]


def test_unfinished_video_has_no_file(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(generation_seconds=1000)
    video = client.accepted()
    assert client.send("GET", f"/files/{video}.mp4").status_code == 404
    assert client.send("GET", "/files/nobody.mp4").status_code == 404


def test_concurrent_requests_render_a_file_once(client: Client) -> None:
    url = client.video_url()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: requests.get(url, timeout=10), range(8)))
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert len({answer.content for answer in answers}) == 1


def test_faults_apply_to_downloads(client: Client, sandbox: Sandbox) -> None:
    url = client.video_url()
    good = client.send("GET", url)
    sandbox.set_faults("file:bare=404")
    assert client.send("GET", url).status_code == 404
    sandbox.set_faults("html-200")
    assert client.send("GET", url).headers["content-type"] == "text/html"
    sandbox.set_faults("html-200=video/mp4")
    assert client.send("GET", url).text.startswith("<html>")
    sandbox.set_faults("file:empty")
    assert client.send("GET", url).content == b""
    sandbox.set_faults("wrong-length")
    assert client.send("GET", url).content == good.content[:-1000]
    for spec in ("file:cut-off", "wrong-length=10"):
        sandbox.set_faults(spec)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            client.send("GET", url)
    sandbox.set_faults("file:drip=0.3")
    assert client.send("GET", url).content == good.content
    sandbox.set_faults("file:cut-off@1")
    broken = client.send("GET", url, stream=True)
    part = broken.raw.read(1000)
    broken.close()
    assert part + client.send("GET", url, headers={"Range": "bytes=1000-"}).content == good.content


def test_no_range_and_changing_etags_return_the_complete_file(client: Client, sandbox: Sandbox) -> None:
    url = client.video_url()
    sandbox.set_faults("no-range")
    answer = client.send("GET", url, headers={"Range": "bytes=5-"})
    assert (answer.status_code, answer.headers.get("accept-ranges")) == (200, None)
    sandbox.set_faults("etag-changes")
    first, second = (client.send("HEAD", url).headers["etag"] for _ in range(2))
    assert first != second
    assert client.send("GET", url, headers={"Range": "bytes=5-", "If-Range": first}).status_code == 200


def test_file_can_be_redirected(client: Client, sandbox: Sandbox) -> None:
    url = client.video_url()
    sandbox.set_faults("file:redirect")
    moved = client.send("GET", url)
    assert moved.status_code == 307
    followed = client.send("GET", moved.headers["location"])
    assert followed.status_code == 200
    assert followed.headers["content-type"] == "video/mp4"
    assert len(sandbox.requests("redirected")) == 1
