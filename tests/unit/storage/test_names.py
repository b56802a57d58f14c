"""Names of files made from ids: safe, readable, and each id's own."""

from __future__ import annotations

from datetime import date, datetime, timezone

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_veo.files import remote
from airflow_provider_veo.storage import destination_for, safe_name, video_name

ID = "veo3-fast:1795349140-vTC4J9nmx5"


def path_for(destination="file:///videos/", **fields):
    return destination_for(
        destination, **{"veo_task_id": ID, "dag_id": "nightly_video", "run_date": "2026-11-22", **fields}
    )


def test_a_folder_gets_a_file_by_dag_date_and_id():
    assert path_for().path == "/videos/nightly_video/2026-11-22/veo3-fast_1795349140-vTC4J9nmx5.mp4"
    assert path_for("/videos/").path == "/videos/nightly_video/2026-11-22/veo3-fast_1795349140-vTC4J9nmx5.mp4"
    assert path_for("s3://bucket/a/").path.startswith("bucket/a/nightly_video/2026-11-22/veo3-fast_")


@pytest.mark.parametrize("run_date", ["2026-11-22", date(2026, 11, 22), datetime(2026, 11, 22, 1, tzinfo=timezone.utc)])
def test_the_date_is_written_in_one_way(run_date):
    assert path_for(run_date=run_date) == path_for()


def test_a_file_is_taken_as_it_is():
    assert path_for("file:///videos/x.mov").path == "/videos/x.mov"


def test_the_storages_connection_is_kept():
    path = path_for("file:///videos/", conn_id="my_files")
    assert str(path).startswith("file://my_files@/videos/")
    assert path.samestore(path_for("file://my_files@/videos/"))
    assert not path.samestore(path_for())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (ID, "veo3-fast_1795349140-vTC4J9nmx5"),
        ("033fa60e-f37c-4ff6-a44d-5585ffea938d", "033fa60e-f37c-4ff6-a44d-5585ffea938d"),
        ("12345", "12345"),
    ],
)
def test_ordinary_ids_stay_readable(text, name):
    assert video_name(text) == name


@pytest.mark.parametrize("text", ["nightly_video", "2026-11-22", "team.dag-1"])
def test_ordinary_names_stay_as_they_are(text):
    assert safe_name(text) == text


TRICKS = [
    "..", ".", "", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "..\\x", "a\0b", "x\n", ".hidden", "~",
    "a b", "%2e%2e%2f", "a%2Fb", "夜", "é", "e\u0301", "a:b_c", "a_b:c", "a_b_c", "a:b:c", "x" * 300, "x" * 301,
    "s3://other/x", "?q", "#f", "*", "{x}", "C:", "-", "--rm",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("field", ["veo_task_id", "dag_id", "run_date"])
def test_the_destination_is_never_left(trick, field):
    for root in ("file:///videos/", "memory://bucket/videos/"):
        path = path_for(root, **{field: trick})
        folder = ObjectStoragePath(root)
        assert path.parent.parent.parent == folder
        assert path.path.startswith(f"{folder.path}/")
        assert not {"..", ".", ""} & set(path.path.strip("/").split("/"))
        assert len(path.name) < 130


@pytest.mark.parametrize("name", [safe_name, video_name])
def test_each_trick_has_a_name_of_its_own(name):
    assert len({name(trick) for trick in TRICKS}) == len(TRICKS)


SIMILAR = st.text(max_size=50) | st.text(alphabet="ab:_./ ", max_size=6)


@given(SIMILAR, SIMILAR)
def test_no_two_ids_share_a_name(one, other):
    for name in (safe_name, video_name):
        assert (name(one) == name(other)) == (one == other)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/videos/x.mp4", "file:///videos/x.mp4"),
        ("file:///videos/x y.mp4", "file:///videos/x y.mp4"),
    ],
)
def test_uri_contains_no_connection(path, uri):
    assert remote.uri(ObjectStoragePath(path)) == uri
