"""The poster of a stored video: a picture of it, made within limits, and never at the expense of the video."""

from __future__ import annotations

import io
import random
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap

import av
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from PIL import Image, ImageStat

from airflow_provider_veo.sandbox.render import Scene, render
from airflow_provider_veo.storage import frame, poster
from airflow_provider_veo.storage.names import poster_name
from tests.conftest import CANARY
from tests.unit.storage.conftest import files_in
from tests.unit.storage.hosts import Reply
from tests.unit.storage.test_picture import FORMS, STORED, bomb, encoded

KITE = Scene("veo3-fast:1", "veo3-fast", "A red kite over a harbour", "16:9", False, 0.5)
LANTERN = Scene("veo3-fast:2", "veo3-fast", "A lantern over rice fields", "9:16", True, 0.5)


@pytest.fixture(scope="module")
def kite():
    return render(KITE)


def picture_of(content: bytes) -> Image.Image:
    assert len(content) <= frame.MAX_BYTES + 256
    assert poster.is_poster(content)
    image = Image.open(io.BytesIO(content))
    image.load()
    assert image.format == "JPEG"
    assert max(image.size) <= 640
    return image


def brightness(image: Image.Image) -> float:
    return ImageStat.Stat(image.convert("L")).mean[0]


def encode(path, frames, size=(640, 360)):
    """Encode images as H.264."""
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(frames):
            one = av.VideoFrame.from_image(image)
            one.pts = number
            output.mux(stream.encode(one))
        output.mux(stream.encode(None))
    return path.read_bytes()


def noise(size):
    return Image.frombytes("RGB", size, random.Random(1).randbytes(3 * size[0] * size[1]))


# --- real videos -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scene", "size"), [(KITE, (640, 360)), (LANTERN, (360, 640))])
def test_a_video_gets_a_poster_beside_it(host, store, target, scene, size):
    host.content = render(scene)
    stored = store()
    assert files_in(target.parent) == ["x.jpg", "x.mp4"]
    assert stored.poster == f"file://{target.with_suffix('.jpg')}"
    assert stored.to_dict()["poster"] == stored.poster
    image = picture_of(target.with_suffix(".jpg").read_bytes())
    assert image.size == size
    assert brightness(image) > 20


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_video_gets_one(host, store, target, form, tmp_path):
    host.content = encoded(tmp_path / "source", *FORMS[form], frames=12)
    assert store().poster
    assert picture_of(target.with_suffix(".jpg").read_bytes()).size == (320, 180)


def test_a_video_that_begins_black_gets_a_frame_that_is_not(host, store, target, tmp_path):
    light = Image.radial_gradient("L").resize((640, 360)).convert("RGB")
    host.content = encode(tmp_path / "source.mp4", [Image.new("RGB", (640, 360))] * 60 + [light] * 12)
    store()
    assert brightness(picture_of(target.with_suffix(".jpg").read_bytes())) > 80


def test_a_video_that_is_black_gets_a_black_one(host, store, target, tmp_path):
    host.content = encode(tmp_path / "source.mp4", [Image.new("RGB", (640, 360))] * 12)
    store()
    assert brightness(picture_of(target.with_suffix(".jpg").read_bytes())) < 5


def test_noise_in_4k_fits_the_limit(host, store, target, tmp_path):
    size = (3840, 2160)
    host.content = encode(tmp_path / "source.mp4", [noise(size)], size)
    store()
    assert picture_of(target.with_suffix(".jpg").read_bytes()).size == (640, 360)


def test_an_object_gets_one_with_its_content_type(host, store, kite, s3_server, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_MY_S3", s3_server.connection)
    bucket = s3_server.bucket()
    host.content = kite
    stored = store(destination=ObjectStoragePath(f"s3://my_s3@{bucket.name}/videos/x.mp4"))
    assert stored.poster == f"s3://{bucket.name}/videos/x.jpg"
    assert bucket.objects().keys() == {"videos/x.mp4", "videos/x.jpg"}
    assert bucket.uploads() == []
    assert bucket.get("videos/x.jpg")["ContentType"] == "image/jpeg"
    assert picture_of(bucket.content("videos/x.jpg")).size == (640, 360)


def test_a_large_object_gets_none(host, store, kite, s3_server, log, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_MY_S3", s3_server.connection)
    monkeypatch.setattr(poster, "_COPIED_BYTES", len(kite) - 1)
    bucket = s3_server.bucket()
    host.content = kite
    assert store(destination=ObjectStoragePath(f"s3://my_s3@{bucket.name}/x.mp4")).poster is None
    assert bucket.objects().keys() == {"x.mp4"}
    assert f"it has {len(kite)} bytes" in log.lines[-2]


# --- what exists -----------------------------------------------------------------------------------------------------


def test_a_rerun_reuses_the_poster(host, store, target, kite):
    host.content = kite
    first = store()
    before = target.with_suffix(".jpg").stat()
    assert store() == first
    assert store(overwrite="always") == first
    after = target.with_suffix(".jpg").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_rerun_adds_the_poster_that_is_missing(host, store, target, kite, monkeypatch):
    host.content = kite
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "av", None)
        stored = store()
        assert stored.poster is None
        assert "poster" not in stored.to_dict()
    assert files_in(target.parent) == ["x.mp4"]
    assert store().poster
    assert files_in(target.parent) == ["x.jpg", "x.mp4"]


def test_another_video_under_the_name_gets_its_own(host, store, target, kite):
    host.content = kite
    store()
    first = target.with_suffix(".jpg").read_bytes()
    host.content = render(LANTERN)
    assert store(overwrite="always").poster
    second = target.with_suffix(".jpg").read_bytes()
    assert second != first
    assert picture_of(second).size == (360, 640)


@pytest.mark.parametrize("overwrite", ["never", "always"])
def test_a_file_that_is_not_a_poster_is_kept(host, store, target, kite, log, overwrite):
    host.content = kite
    target.parent.mkdir(parents=True)
    first_frame = io.BytesIO()
    Image.new("RGB", (64, 36)).save(first_frame, "JPEG")
    target.with_suffix(".jpg").write_bytes(first_frame.getvalue())
    stored = store(overwrite=overwrite)
    assert (stored.bytes, stored.poster) == (len(kite), None)
    assert target.with_suffix(".jpg").read_bytes() == first_frame.getvalue()
    assert f"file://{target} is stored, but has no poster: x.jpg exists and is not a poster" in " ".join(log.lines)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("boat.mp4", "boat.jpg"), ("a.b.mp4", "a.b.jpg"), ("boat", "boat.jpg"), (".mp4", ".mp4.jpg"), ("x.jpg", "x.jpg")],
)
def test_it_is_named_like_its_video(name, expected):
    assert poster_name(name) == expected


def test_a_video_that_has_the_name_of_its_poster_is_kept(host, store, target, kite):
    host.content = kite
    path = target.with_suffix(".jpg")
    assert store(destination=ObjectStoragePath(f"file://{path}")).poster is None
    assert path.read_bytes() == kite


# --- failures: the video is stored anyway ----------------------------------------------------------------------------


@pytest.fixture
def decoder(tmp_path, monkeypatch):
    """Run a shell script in place of Python."""

    def replaced(script):
        path = tmp_path / "decoder"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return replaced


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "no reason given"),
        ("echo one >&2; echo two >&2; exit 1", "could not be decoded: two"),
        ("kill -9 $$", "ended by signal 9"),
        ("echo not a picture", "no reason given"),
        ("head -c 10000000 /dev/zero", "no reason given"),
        ("head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1", "could not be decoded: x"),
        ("sleep 60", "took more than 0.5 s"),
    ],
)
def test_a_decoder_that_fails_is_a_log_line(host, store, target, kite, log, decoder, monkeypatch, script, reason):
    decoder(script)
    monkeypatch.setattr(poster, "_SECONDS", 0.5 if script.startswith("sleep") else 20)
    host.content = kite
    stored = store()
    assert (stored.bytes, stored.poster) == (len(kite), None)
    assert files_in(target.parent) == ["x.mp4"]
    (line,) = [line for line in log.lines if "poster" in line]
    assert reason in line
    assert len(line) < 1000


def test_the_decoder_gets_no_secrets(host, store, kite, decoder, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", CANARY)
    decoder(f"env > {tmp_path}/env; echo $@ >> {tmp_path}/env")
    host.content = kite
    store()
    said = (tmp_path / "env").read_text()
    assert "PYTHONPATH=" in said
    assert CANARY not in said
    assert "AIRFLOW" not in said


def test_a_storage_that_refuses_the_poster_is_a_log_line(host, store, target, kite, log, monkeypatch):
    host.content = kite
    store()
    target.with_suffix(".jpg").unlink()
    target.with_suffix(".jpg").mkdir()
    assert store().bytes == len(kite)
    assert "IsADirectoryError" in log.lines[-1]


# --- hostile videos --------------------------------------------------------------------------------------------------


def decode(content: bytes, content_type: str = "video/mp4") -> subprocess.CompletedProcess[bytes]:
    program = [sys.executable, "-m", "airflow_provider_veo.storage.frame", content_type]
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return subprocess.run(program, stdin=file, capture_output=True, timeout=60)


def test_memory_is_limited():
    content = bomb(2**26)  # FFmpeg would allocate 1.5 GiB
    assert len(content) < 1000
    done = decode(content)
    assert done.returncode
    assert b"MemoryError" in done.stderr or b"Cannot allocate memory" in done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1024**2


@pytest.mark.slow
def test_processor_time_is_limited():
    script = "from airflow_provider_veo.storage import frame; frame.limit_this_process()\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", script], timeout=120)
    assert done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_a_lower_limit_of_the_environment_stays():
    script = "import resource; from airflow_provider_veo.storage import frame; frame.limit_this_process()"
    script += "; print(resource.getrlimit(resource.RLIMIT_CPU))"
    done = subprocess.run(["bash", "-c", f'ulimit -t 3; exec "{sys.executable}" -c "{script}"'], capture_output=True)
    assert done.stdout.split() == [b"(3,", b"3)"], done.stderr


def test_the_picture_of_a_codec_that_is_not_needed_is_refused(tmp_path):
    content = encoded(tmp_path / "x.mp4", "mp4", "mpeg4", {})
    done = decode(content)
    assert done.returncode
    assert b"no video stream of a known codec" in done.stderr


def test_only_the_demuxer_of_the_content_type_reads_the_file(tmp_path):
    content = encoded(tmp_path / "x.webm", "webm", "libvpx", {}, frames=6)
    assert decode(content, "video/webm").returncode == 0
    assert decode(content, "video/mp4").returncode


def test_a_list_of_other_files_opens_none_of_them(tmp_path):
    """FFmpeg's playlists name files and URLs."""
    secret = tmp_path / "secret.mp4"
    encoded(secret, "mp4", "libx264", {})
    done = decode(f"ffconcat version 1.0\nfile {secret}\n".encode())
    assert done.returncode
    assert done.stdout == b""


@pytest.mark.slow
def test_damaged_videos_end_the_decoder_and_nothing_else(kite):
    chance = random.Random(2)
    for _ in range(40):
        content = bytearray(kite)
        for _ in range(chance.choice((1, 10, 200))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        done = decode(bytes(content[: chance.choice((len(content), len(content) // 2))]))
        assert (done.returncode == 0) == done.stdout.startswith(b"\xff\xd8")
        assert len(done.stdout) <= frame.MAX_BYTES


@pytest.mark.slow
def test_the_library_is_not_loaded_in_the_process_of_the_task(host, kite, tmp_path):
    host.always = Reply(body=kite)
    script = textwrap.dedent(STORED) + "\nprint('av' in sys.modules, stored.poster)"
    done = subprocess.run(
        [sys.executable, "-c", script, host.url, f"file://{tmp_path}/"], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split()[-2:] == ["False", f"file://{tmp_path}/bomb.jpg"], done.stderr
