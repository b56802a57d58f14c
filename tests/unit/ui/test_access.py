"""Which recorded paths the page reads, by ``[veo] page_roots``."""

from __future__ import annotations

import pytest

from airflow_provider_veo.ui import settings
from airflow_provider_veo.ui.access import admit


def admitted(recorded: object, dag_id: str = "mine") -> bool:
    return admit(recorded, dag_id, settings.page_roots()) is not None


@pytest.mark.parametrize(
    ("root", "recorded"),
    [
        ("file:///videos", "file:///videos/a.mp4"),
        ("file:///videos", "/videos/a/b.mp4"),
        ("/videos/", "file:///videos/a.mp4"),
        ("file:///videos/{dag_id}", "file:///videos/mine/2026-11-27/a.mp4"),
        ("s3://bucket/videos", "s3://bucket/videos/a.mp4"),
        ("s3://aws_default@bucket/{dag_id}", "s3://aws_default@bucket/mine/manual__2026-11-27T00:00:00+00:00/a.mp4"),
        ("gs://bucket", "gs://bucket/a.mp4"),
    ],
)
def test_a_path_below_a_root_is_read(roots, root, recorded):
    roots(root)
    assert admitted(recorded)


@pytest.mark.parametrize(
    ("root", "recorded"),
    [
        ("file:///videos", "file:///videos2/a.mp4"),
        ("file:///videos", "file:///videos/../etc/passwd"),
        ("file:///videos", "file:///videos/%2e%2e/etc/passwd"),
        ("file:///videos", "file:///videos/%252e%252e/etc/passwd"),
        ("file:///videos", "file:///videos/a%2F..%2F..%2Fb"),
        ("file:///videos", "file:///VIDEOS/a.mp4"),
        ("file:///videos", "file://host/videos/a.mp4"),
        ("file:///videos", "videos/a.mp4"),
        ("file:///videos", "file:///videos/\0a.mp4"),
        ("file:///videos", "file:///videos/\ud800.mp4"),
        ("file:///videos", "simplecache::file:///videos/a.mp4"),
        ("file:///videos", "zip://a.mp4::file:///videos/x.zip"),
        ("file:///videos", "s3://bucket/videos/a.mp4"),
        ("file:///videos", "/" + "a" * 5000),
        ("file:///videos", None),
        ("file:///videos", {"a": 1}),
        ("file:///videos/{dag_id}", "file:///videos/theirs/a.mp4"),
        ("file:///videos/{dag_id}", "file:///videos/mine/../theirs/a.mp4"),
        ("file:///videos/{dag_id}", "file:///videos/{dag_id}/a.mp4"),
        ("s3://aws_default@bucket/videos", "s3://bucket/videos/a.mp4"),
        ("s3://aws_default@bucket/videos", "s3://other@bucket/videos/a.mp4"),
        ("s3://bucket/videos", "s3://aws_default@bucket/videos/a.mp4"),
        ("s3://bucket/videos", "s3://bucket2/videos/a.mp4"),
        ("s3://bucket/videos", "s3://bucket/videos/a.mp4?versionId=1"),
        ("s3://bucket/videos", "s3a://bucket/videos/a.mp4"),
        ("s3://bucket/videos", "s3://bucket/videos\\..\\x.mp4"),
    ],
)
def test_no_other_path_is_read(roots, root, recorded):
    roots(root)
    assert not admitted(recorded)


def test_nothing_is_read_without_roots(roots):
    roots("")
    assert not admitted("file:///videos/a.mp4")


@pytest.mark.parametrize("entry", ["videos", "../videos", "file:///videos/{run_id}", "s3://{dag_id}/x", "[1, 2", "[7]"])
def test_an_invalid_entry_opens_nothing(roots, entry):
    roots(entry)
    assert settings.page_roots() == ()
    assert not admitted("/videos/a.mp4")


@pytest.mark.parametrize("dag_id", ["..", ".", "a/b", "../theirs", "x" * 500])
def test_a_dag_id_is_one_folder_whatever_it_is(roots, dag_id):
    roots("file:///videos/{dag_id}")
    assert not admitted("file:///videos/theirs/a.mp4", dag_id)
    assert not admitted("file:///a.mp4", dag_id)


def test_a_json_list_may_hold_commas(roots, monkeypatch):
    monkeypatch.setenv("AIRFLOW__VEO__PAGE_ROOTS", '["file:///a,b", "s3://bucket"]')
    assert admitted("file:///a,b/x.mp4")
    assert admitted("s3://bucket/x.mp4")
    assert not admitted("file:///a/x.mp4")


@pytest.mark.parametrize(
    ("hosts", "url", "may"),
    [
        ("", "https://videos.example.com/a.mp4", False),
        ("videos.example.com", "https://videos.example.com/a.mp4", True),
        ("videos.example.com", "https://VIDEOS.example.com:443/a.mp4", True),
        ("videos.example.com", "http://videos.example.com/a.mp4", False),
        ("videos.example.com", "https://videos.example.com:8443/a.mp4", False),
        ("videos.example.com", "https://videos.example.com@evil.example/a.mp4", False),
        ("videos.example.com", "https://videos.example.com.evil.example/a.mp4", False),
        ("videos.example.com", "https://evil.example/?videos.example.com", False),
        ("videos.example.com", "https://evil.example\\@videos.example.com/a.mp4", False),
        ("http://videos.example.com:8080", "http://videos.example.com:8080/a.mp4", True),
        ("*", "https://videos.example.com/a.mp4", False),
        ("videos.example.com; script-src *", "https://videos.example.com/a.mp4", False),
    ],
)
def test_browsers_play_from_named_hosts_only(monkeypatch, hosts, url, may):
    monkeypatch.setenv("AIRFLOW__VEO__PAGE_MEDIA_HOSTS", hosts)
    assert settings.may_play(url) is may
    assert not any(set(";* ").intersection(origin) for origin in settings.media_origins())
