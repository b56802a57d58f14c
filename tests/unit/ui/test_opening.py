"""Files of the page: opened once, regular files below their root only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

import pytest

from airflow_provider_veo.ui import files, settings
from airflow_provider_veo.ui.access import admit
from airflow_provider_veo.ui.opening import UnreadableError, open_file

VIDEO = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + b"v" * 4096
SECRET = b"the text of a file that is not a video\n" * 100


@pytest.fixture
def folder(tmp_path, roots):
    roots(f"file://{tmp_path}/videos/{{dag_id}}")
    for name in "mine", "theirs":
        (tmp_path / "videos" / name).mkdir(parents=True)
    (tmp_path / "videos" / "mine" / "a.mp4").write_bytes(VIDEO)
    (tmp_path / "videos" / "theirs" / "film.mp4").write_bytes(VIDEO)
    (tmp_path / "secret.txt").write_bytes(SECRET)
    return tmp_path / "videos" / "mine"


def found(path):
    admitted = admit(f"file://{path}", "mine", settings.page_roots())
    assert admitted is not None
    return admitted


def test_a_file_below_its_root_is_opened(folder):
    file = open_file(found(folder / "a.mp4"))
    assert (file.size, file.read(0, 24)) == (len(VIDEO), VIDEO[:24])
    file.close()


@pytest.mark.parametrize("target", ["../theirs/film.mp4", "../../secret.txt", "/etc/hostname", "/dev/zero"])
def test_a_link_out_of_the_root_is_refused(folder, target):
    (folder / "link.mp4").symlink_to(target)
    with pytest.raises(UnreadableError):
        open_file(found(folder / "link.mp4"))


def test_a_folder_of_a_dag_that_is_a_link_to_anothers_is_refused(folder):
    os.rename(folder, folder.with_name("kept"))
    folder.symlink_to("theirs")
    with pytest.raises(UnreadableError):
        open_file(found(folder / "film.mp4"))


def test_a_link_within_the_root_is_followed(folder):
    (folder / "link.mp4").symlink_to("a.mp4")
    open_file(found(folder / "link.mp4")).close()


def test_a_fifo_a_folder_and_a_socket_are_refused_at_once(folder):
    os.mkfifo(folder / "fifo.mp4")
    (folder / "folder.mp4").mkdir()
    for name in "fifo.mp4", "folder.mp4":
        with pytest.raises(UnreadableError):
            open_file(found(folder / name))


async def served(path) -> bytes | None:
    try:
        response = await files.serve(found(path), None)
    except (UnreadableError, OSError):
        return None
    body = b""
    with contextlib.suppress(UnreadableError):
        async for piece in response.body_iterator:
            body += piece
    return body


def test_a_link_that_flips_while_files_are_served_never_shows_what_is_not_a_video(folder):
    (folder / "text.mp4").write_bytes(SECRET)
    path = folder / "flipping.mp4"
    path.symlink_to("a.mp4")
    done = threading.Event()

    def flip() -> None:
        while not done.is_set():
            for target in "text.mp4", "a.mp4", "../../secret.txt":
                other = folder / "other"
                other.symlink_to(target)
                os.replace(other, path)

    flipping = threading.Thread(target=flip)
    flipping.start()
    try:

        async def serve_many() -> list[bytes | None]:
            return [await served(path) for _ in range(300)]

        answers = asyncio.run(serve_many())
    finally:
        done.set()
        flipping.join()
    assert set(answers) <= {VIDEO, None}
    assert VIDEO in answers


def test_an_object_of_a_connection_that_airflow_does_not_know_is_refused(monkeypatch, roots, s3_server):
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AIRFLOW_CONN_MY_S3", s3_server.connection)
    bucket = s3_server.bucket()
    bucket.client.put_object(Bucket=bucket.name, Key="a.mp4", Body=VIDEO)
    roots(f"s3://my_s3@{bucket.name}", f"s3://nobody_knows@{bucket.name}")
    known, unknown = (
        admit(f"s3://{conn_id}@{bucket.name}/a.mp4", "mine", settings.page_roots())
        for conn_id in ("my_s3", "nobody_knows")
    )
    assert open_file(known).read(0, 12) == VIDEO[:12]
    with pytest.raises(UnreadableError, match="not known"):
        open_file(unknown)
