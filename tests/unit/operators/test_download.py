"""Download arguments: mistakes fail while the DAG file is parsed, and parsing loads no client library."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_veo.decorators import _VeoVideoDecoratedOperator
from airflow_provider_veo.links import VideoLink
from airflow_provider_veo.operators import VeoCreateVideoOperator, VeoDownloadVideoOperator
from airflow_provider_veo.protocol import VeoValidationError
from airflow_provider_veo.sensors import VeoVideoSensor

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
