"""The download operator: mistakes in a DAG file, and the file that a try stores. Parsing loads no client library."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Asset, AssetAlias

from airflow_provider_veo.decorators import _VeoVideoDecoratedOperator
from airflow_provider_veo.links import VideoLink
from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator
from airflow_provider_veo.protocol import VeoDownloadError, VeoValidationError
from airflow_provider_veo.sensors import VeoVideoSensor
from tests.airflow_lines import ASSET

RIGHT = {"task_id": "store", "veo_task_id": "veo3:1-x", "destination": "s3://aws_default@bucket/videos/"}
CREATE = {"task_id": "create", "prompt": "a cow"}
SOURCES = "expected one of veo_task_id, video_url, veo_video, got "


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"veo_task_id": None}, SOURCES + "none of them"),
        ({"veo_task_id": ""}, SOURCES + "none of them"),
        ({"video_url": "https://example.com/x.mp4"}, SOURCES + "veo_task_id and video_url"),
        ({"veo_video": {"id": "veo3:1-x"}}, SOURCES + "veo_task_id and veo_video"),
        ({"destination": ""}, "destination: expected the URI of a file, or of a folder that ends in /"),
        ({"destination": "  "}, "destination: expected the URI of a file, or of a folder that ends in /"),
        ({"overwrite": "if_newer"}, "overwrite: expected 'never' or 'always', got 'if_newer'"),
        ({"overwrite": True}, "overwrite: expected 'never' or 'always', got True"),
        ({"max_bytes": 0}, "max_bytes: expected a number above 0, got 0"),
        ({"max_bytes": "2 GiB"}, "max_bytes: expected a number above 0, got '2 GiB'"),
        ({"timeout": -1}, "timeout: expected a number above 0, got -1"),
        ({"timeout": True}, "timeout: expected a number above 0, got True"),
        ({"timeout": float("nan")}, "timeout: expected a number above 0, got nan"),
    ],
)
def test_a_mistake_in_a_dag_file_fails_while_it_is_parsed(arguments, part):
    with pytest.raises(VeoValidationError) as caught:
        VeoDownloadVideoOperator(**{**RIGHT, **arguments})
    assert "The arguments of task 'store' are not valid." in str(caught.value)
    (mistake,) = caught.value.mistakes
    assert part in mistake


def test_all_mistakes_of_a_task_are_reported_together():
    with pytest.raises(VeoValidationError) as caught:
        VeoDownloadVideoOperator(task_id="store", destination="", overwrite="", max_bytes=0, timeout=0)
    assert len(caught.value.mistakes) == 5


def test_a_file_can_be_stored_only_by_a_task_that_waits():
    with pytest.raises(VeoValidationError, match="set wait_for_completion=True"):
        VeoCreateVideoOperator(**CREATE, download_to="file:///videos/")
    VeoCreateVideoOperator(**CREATE, download_to="file:///videos/", wait_for_completion=True)
    VeoCreateVideoOperator(**CREATE)


@pytest.mark.parametrize(
    "source",
    [
        {"veo_task_id": "{{ ti.xcom_pull('create') }}"},
        {"video_url": "{{ ti.xcom_pull('create', key='video_url') }}"},
        {"veo_video": {"id": "veo3:1-x", "video_url": None}},
        {"veo_video": "{{ ti.xcom_pull('create', key='veo_video') }}"},
    ],
)
def test_one_source_is_enough(source):
    VeoDownloadVideoOperator(task_id="store", destination="file:///videos/x.mp4", **source)


def test_xcomargs_are_not_validated_at_parse_time():
    with DAG("veo", schedule=None):
        create = VeoCreateVideoOperator(**CREATE)
        fields = dict.fromkeys(("veo_task_id", "destination", "destination_conn_id", "veo_conn_id"), create.output)
        store = VeoDownloadVideoOperator(task_id="store", **fields)
        assert store.upstream_task_ids == {"create"}


def test_mapped_task_is_validated_at_run_time():
    with DAG("veo", schedule=None):
        create = VeoCreateVideoOperator.partial(task_id="create").expand(prompt=["a cow", "a goat"])
        store = VeoDownloadVideoOperator.partial(task_id="store", destination="file:///videos/").expand(
            veo_task_id=create.output
        )
        assert store.upstream_task_ids == {"create"}


def test_template_fields():
    assert set(VeoDownloadVideoOperator.template_fields) == {
        "veo_task_id",
        "video_url",
        "veo_video",
        "destination",
        "destination_conn_id",
        "veo_conn_id",
    }


@pytest.mark.parametrize(
    "operator", [VeoCreateVideoOperator, VeoDownloadVideoOperator, VeoVideoSensor, _VeoVideoDecoratedOperator]
)
def test_every_task_that_knows_a_video_links_to_it(operator):
    (link,) = operator.operator_extra_links
    assert isinstance(link, VideoLink)
    assert link.name == "Video"


PARSING = """
import sys
from airflow.providers.common.compat.sdk import DAG, AssetAlias, BaseOperator
with DAG("any", schedule=None):
    BaseOperator(task_id="any", outlets=[AssetAlias("x")])
before = set(sys.modules)
from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator
from airflow_provider_veo.sensors import VeoVideoSensor
import airflow_provider_veo.decorators
with DAG("veo", schedule=None):
    create = VeoCreateVideoOperator(
        task_id="create", prompt="a cow", wait_for_completion=True, download_to="s3://b/x/", outlets=[AssetAlias("x")]
    )
    wait = VeoVideoSensor(task_id="wait", veo_task_id=create.output, deferrable=True)
    VeoDownloadVideoOperator(task_id="store", veo_video=wait.output, destination="s3://b/x/")
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
CLIENTS = {"requests", "aiohttp", "tenacity", "jsonschema", "av", "fsspec", "s3fs", "openlineage"}


@pytest.mark.slow
def test_parsing_a_dag_loads_no_client(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PARSING],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "airflow_provider_veo" in loaded
    assert not loaded & CLIENTS


# --- execute ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path):
    return tmp_path / "videos" / "cow.mp4"


@pytest.fixture
def store(relay, target):
    """Make the task that stores a video at the target."""
    relay.configure(video_seconds=0.5)

    def make(**arguments):
        return VeoDownloadVideoOperator(**{"task_id": "store", "destination": target.as_uri(), **arguments})

    return make


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_execute_stores_the_file_and_returns_its_facts(relay, ti, submit, store, target):
    veo_task_id = submit()
    stored = store(veo_task_id=veo_task_id).execute(ti.context)
    content = target.read_bytes()
    assert stored == {
        "uri": target.as_uri(),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content_type": "video/mp4",
        "width": 640,
        "height": 360,
        "duration_seconds": 0.5,
        "veo_task_id": veo_task_id,
        "verified": True,
        "poster": target.with_suffix(".jpg").as_uri(),
    }
    assert content[4:8] == b"ftyp"
    assert files_in(target.parent) == [target.with_suffix(".jpg"), target]


def test_execute_pushes_the_facts_the_path_and_the_link(relay, ti, submit, store, target):
    stored = store(veo_task_id=submit()).execute(ti.context)
    assert ti.xcoms["veo_file"] == stored
    assert ti.xcoms["veo_path"] == target.as_uri()
    assert ti.xcoms["_link_VideoLink"].startswith(relay.url)


def test_folder_gets_a_file_named_after_dag_date_and_video(relay, ti, submit, store, tmp_path):
    veo_task_id = submit()
    stored = store(veo_task_id=veo_task_id, destination=f"{tmp_path.as_uri()}/").execute(ti.context)
    assert stored["uri"].startswith(f"{tmp_path.as_uri()}/veo/2026-11-22/veo3-fast_")
    assert files_in(tmp_path) == [Path(urlsplit(stored[each]).path) for each in ("poster", "uri")]


@pytest.mark.parametrize("source", ["video_url", "veo_video", "veo_video as a string"])
def test_a_known_url_is_not_requested_again(relay, ti, submit, store, target, source):
    VeoVideoSensor(task_id="wait", veo_task_id=submit(), deferrable=False).execute(ti.context)
    video = ti.xcoms["veo_video"]
    sources = {"video_url": video["video_url"], "veo_video": video}
    name, _, as_string = source.partition(" as a ")
    value = repr(sources[name]) if as_string else sources[name]
    before = relay.stats()["requests"]["query"]
    stored = store(**{name: value}).execute(ti.context)
    assert stored["bytes"] == target.stat().st_size
    assert stored.get("veo_task_id") == (None if name == "video_url" else video["id"])
    assert relay.stats()["requests"]["query"] == before


def test_expired_url_is_replaced_by_a_new_one(relay, ti, submit, store, target):
    video = {"id": submit(), "state": "succeeded", "video_url": f"{relay.url}/files/expired.mp4"}
    stored = store(veo_video=video).execute(ti.context)
    assert (stored["veo_task_id"], stored["bytes"]) == (video["id"], target.stat().st_size)


def test_existing_file_of_the_video_is_verified_and_kept(relay, ti, submit, store, target):
    veo_task_id = submit()
    first = store(veo_task_id=veo_task_id).execute(ti.context)
    os.utime(target, (1, 1))
    ti.next_try()
    assert store(veo_task_id=veo_task_id).execute(ti.context) == first == ti.xcoms["veo_file"]
    assert target.stat().st_mtime == 1


def test_another_file_under_the_name_fails_for_good(relay, ti, submit, store, target):
    target.parent.mkdir()
    target.write_bytes(b"another file")
    with pytest.raises(AirflowFailException, match="another file exists there"):
        store(veo_task_id=submit()).execute(ti.context)
    assert target.read_bytes() == b"another file"
    assert "veo_file" not in ti.xcoms
    assert store(veo_task_id=submit(), overwrite="always").execute(ti.context)["bytes"] == target.stat().st_size


def test_video_that_is_not_ready_may_be_retried(relay, ti, submit, store, target):
    relay.configure(generation_seconds=600)
    with pytest.raises(VeoDownloadError, match="with a VeoVideoSensor upstream"):
        store(veo_task_id=submit()).execute(ti.context)
    assert not target.parent.exists()


def test_url_of_a_video_that_is_still_being_generated_is_not_stored(relay, ti, submit, store, target):
    relay.set_faults("query:status-word=video_upsampling")
    with pytest.raises(VeoDownloadError, match="is not ready: the relay's status is 'video_upsampling'"):
        store(veo_task_id=submit()).execute(ti.context)
    assert not target.parent.exists()


def test_failed_generation_fails_for_good(relay, ti, submit, store, target):
    relay.set_faults("failed=blocked")
    with pytest.raises(AirflowFailException, match="blocked"):
        store(veo_task_id=submit()).execute(ti.context)
    assert not target.parent.exists()


@pytest.mark.parametrize(
    ("limit", "error"), [({"max_bytes": 100}, AirflowFailException), ({"timeout": 1e-9}, Exception)]
)
def test_limits_of_a_download_leave_no_file(relay, ti, submit, store, target, limit, error):
    with pytest.raises(error):
        store(veo_task_id=submit(), **limit).execute(ti.context)
    assert files_in(target.parent) == []
    assert "veo_file" not in ti.xcoms


def test_invalid_rendered_arguments_are_reported_together_before_a_request(relay, ti, store):
    operator = store(veo_task_id="{{ none }}", video_url=None, destination="{{ '' }}")
    operator.render_template_fields(ti.context)
    with pytest.raises(AirflowFailException) as caught:
        operator.execute(ti.context)
    assert "expected one of veo_task_id, video_url, veo_video" in str(caught.value)
    assert "destination: expected the URI" in str(caught.value)
    assert relay.stats()["requests"] == {}


def test_events_of_outlets_get_the_facts_of_the_file(relay, ti, submit, store, target):
    asset, alias = Asset("x-test://videos"), AssetAlias("videos")
    context = ti.context
    stored = store(veo_task_id=submit(), outlets=[asset, alias]).execute(context)
    assert context["outlet_events"][asset].extra == stored
    (event,) = getattr(context["outlet_events"][alias], f"{ASSET}_alias_events")
    assert target.as_uri() in str(event)
    assert stored["sha256"] in str(event)
