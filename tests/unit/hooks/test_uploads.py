"""Images that are fetched, to be uploaded with a request."""

from __future__ import annotations

import base64
import email
import http.server
import time

import pytest
import tenacity

from airflow_provider_veo.connection import VeoConnection
from airflow_provider_veo.hooks import uploads
from airflow_provider_veo.protocol import VeoImageError, VeoValidationError
from airflow_provider_veo.protocol.api import ApiRequest
from airflow_provider_veo.storage import web
from tests.conftest import CANARY
from tests.unit.storage.conftest import hosting
from tests.unit.storage.hosts import Reply, redirect

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


@pytest.fixture
def host():
    with hosting() as server:
        server.content = PNG
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Try again as often as ever, with less time in between."""
    monkeypatch.setattr(uploads._fetched.retry, "wait", tenacity.wait_fixed(0.01))


def settings(base_url="https://relay.example.com", **more):
    fields = {"connect_timeout": 2.0, "read_timeout": 5.0, "allow_private_media": True, **more}
    return VeoConnection(conn_id="veo_default", base_url=base_url, api_key=CANARY, **fields)


def encode(*images, to=None):
    request = ApiRequest(
        "POST",
        "/v1/videos",
        fields={"prompt": "é", "n": 3, "x": {"a": [1]}},
        files=[("input_reference", image) for image in images],
    )
    return uploads.prepare(request, to or settings())


def parts_of(prepared):
    head = f"Content-Type: {prepared.content_type}\r\n\r\n"
    message = email.message_from_bytes(head.encode() + prepared.content)
    return [
        (part.get_param("name", header="content-disposition"), part.get_filename(), part.get_payload(decode=True))
        for part in message.get_payload()
    ]


def data_uri(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


def test_without_images_the_body_is_json():
    request = ApiRequest("POST", "/v1/videos", fields={"prompt": "é"})
    prepared = uploads.prepare(request, settings())
    assert (prepared.content, prepared.content_type) == (b'{"prompt": "\\u00e9"}', "application/json")


def test_fetched_and_inline_images_are_parts_of_a_form(host):
    jpeg = b"\xff\xd8\xff\xe0" + bytes(50)
    assert parts_of(encode(host.url, data_uri(jpeg))) == [
        ("prompt", None, "é".encode()),
        ("n", None, b"3"),
        ("x", None, b'{"a": [1]}'),
        ("input_reference", "image-1.png", PNG),
        ("input_reference", "image-2.jpeg", jpeg),
    ]


def test_the_key_is_not_sent_even_to_the_relay_itself(host):
    origin = host.url.partition("/v/")[0]
    encode(host.url, to=settings(origin, allow_insecure_http=True))
    assert [name for _, headers in host.asked for name in headers if name.lower() == "authorization"] == []


def test_a_private_address_is_refused_also_if_it_is_the_relays(host):
    origin = host.url.partition("/v/")[0]
    with pytest.raises(VeoValidationError, match=r"images\[0\]: .* is refused: 127.0.0.1 is a loopback address"):
        encode(host.url, to=settings(origin, allow_private_media=False))
    assert host.asked == []


def test_a_redirect_to_a_private_address_is_refused(host):
    host.always = redirect("http://169.254.169.254/latest/meta-data")
    with pytest.raises(VeoValidationError, match="is refused"):
        encode(host.url)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=404), "its host answered HTTP 404"),
        (Reply(body=b"<html>not an image</html>"), "it is none of png, jpeg, gif, webp, bmp"),
        (Reply(body=b""), "it is none of"),
        (Reply(body=b"RIFF\0\0\0\0WAVE"), "it is none of"),
    ],
)
def test_what_can_never_be_uploaded_is_a_mistake(host, reply, said):
    host.always = reply
    with pytest.raises(VeoValidationError) as caught:
        encode(host.url, data_uri(PNG), data_uri(b"no image"))
    first, second = caught.value.mistakes
    assert first.startswith("images[0]: ")
    assert said in first
    assert second.startswith("images[2]: it is none of")
    assert "Nothing was sent or billed" in str(caught.value)
    assert "X-Signature" not in str(caught.value)


def test_an_image_that_is_too_large_is_a_mistake(host, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_IMAGE_BYTES", 5000)
    with pytest.raises(VeoValidationError) as caught:
        encode(host.url, data_uri(PNG))
    assert all("the images have more than 5,000 bytes together" in mistake for mistake in caught.value.mistakes)
    assert len(caught.value.mistakes) == 2


@pytest.mark.parametrize("broken", ["%%%", "aGk", "aGk=\u00e9"])
def test_base64_that_is_not_valid_is_a_mistake(broken):
    with pytest.raises(VeoValidationError, match=r"images\[0\]: its Base64 is not valid"):
        encode("data:image/png;base64," + broken)


@pytest.mark.parametrize("reply", [Reply(status=503), Reply(cut=100), Reply(reset=True, cut=10), Reply(status=429)])
def test_a_host_that_fails_for_now_is_tried_three_times(host, reply):
    host.always = reply
    with pytest.raises(VeoImageError, match="Nothing was sent or billed") as caught:
        encode(host.url)
    assert len(host.asked) == 3
    assert not caught.value.final
    assert "X-Signature" not in str(caught.value)
    host.asked.clear()
    host.always, host.script = Reply(), [reply, reply]
    assert parts_of(encode(host.url))[-1] == ("input_reference", "image-1.png", PNG)
    assert len(host.asked) == 3


@pytest.mark.parametrize("length", [str(len(PNG) + 1), None])
def test_a_slow_image_is_not_complete(serve, monkeypatch, length):
    """Without a length, the connection that the deadline closes looks like the end of the image."""
    monkeypatch.setattr(uploads, "FETCH_SECONDS", 0.5)

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response_only(200)
            if length:
                self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(PNG)
            time.sleep(1.0)

        def log_message(self, *arguments):
            pass

    asked = []
    with pytest.raises(VeoImageError):
        encode(f"http://127.0.0.1:{serve(Slow).server_port}/a.png")
    assert len(asked) == 3


@pytest.mark.parametrize("location", ["http://[", "//[::1", "http://a]b/"])
def test_a_redirect_to_what_is_no_url_is_a_mistake(host, location):
    host.always = redirect(location)
    with pytest.raises(VeoValidationError, match="redirects to a URL that is not valid"):
        encode(host.url)


def test_signatures_of_images_do_not_fill_airflows_masker(host, monkeypatch):
    masked = []
    monkeypatch.setattr(web, "mask_secret", masked.append)
    encode(host.url)
    assert masked == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": "a cow", "note": "x\ud83d"}, "'note': 'utf-8' codec can't encode"),
        ({"no\ud83d": "x"}, r"'no\ud83d': 'utf-8' codec can't encode"),
        ({"seed": 10**5000}, "'seed': Exceeds the limit"),
        ({"seed": float("nan")}, "'seed': Out of range"),
    ],
)
def test_what_has_no_encoding_is_a_mistake(host, fields, said):
    request = ApiRequest("POST", "/v1/videos", fields=fields, files=[("input_reference", host.url)])
    with pytest.raises(VeoValidationError, match="Nothing was sent or billed") as caught:
        uploads.prepare(request, settings())
    assert said in caught.value.mistakes[0]
    assert host.asked == []


def test_a_number_without_json_is_a_mistake():
    with pytest.raises(VeoValidationError, match="Exceeds the limit"):
        uploads.prepare(ApiRequest("POST", "/v1/videos", fields={"seed": 10**5000}), settings())


def test_the_limit_is_for_all_images_together(host, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_IMAGE_BYTES", len(PNG) * 2 + 10)
    assert len(parts_of(encode(host.url, data_uri(PNG)))) == 5
    with pytest.raises(VeoValidationError) as caught:
        encode(host.url, data_uri(PNG), f"{host.url}&third")
    assert [mistake.partition(":")[0] for mistake in caught.value.mistakes] == ["images[2]"]


def test_the_time_limit_includes_redirects(host, monkeypatch):
    monkeypatch.setattr(uploads, "FETCH_SECONDS", 0.6)

    def late(handler):
        time.sleep(0.4)
        return redirect(f"{handler.path}x")

    host.always = late
    started = time.monotonic()
    with pytest.raises(VeoImageError):
        encode(host.url)
    assert len(host.asked) <= 2 * 3
    assert time.monotonic() - started < 10


def test_images_are_requested_uncompressed(host):
    encode(host.url)
    assert host.asked[0][1]["Accept-Encoding"] == "identity"
