"""What a file was made of, as a real Airflow reports it to the hook lineage collector and to OpenLineage."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.system.conftest import DAGS, make_airflow
from tests.unit.storage import s3

pytest.importorskip("airflow.providers.openlineage")

DAG_ID = "veo_lineage"
SIGNATURE = "signature-91c4e07d2b6fa835"
IMAGES = ["https://images.example.com/a.png", "https://images.example.com/b.png"]
READER = '''
"""Writes down what each task has told the hook lineage collector."""

import json, os
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.providers.common.compat.sdk import HookLineageReader


class Listener:
    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        lineage = HookLineageReader().retrieve_hook_lineage()
        # All tasks of `airflow dags test` share a process, and with it the collector.
        mine = lambda told: [each.asset.uri for each in told if each.context is task_instance.task]
        line = [task_instance.task_id, task_instance.map_index, mine(lineage.inputs), mine(lineage.outputs)]
        with open(os.environ["READER_FILE"], "a") as file:
            print(json.dumps(line), file=file)


class Reader(AirflowPlugin):
    name = "reader"
    hook_lineage_readers = [HookLineageReader]
    listeners = [Listener()]
'''


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    root = tmp_path_factory.mktemp("lineage")
    home, told, events = root / "airflow", root / "told.jsonl", root / "events.jsonl"
    shutil.copytree(migrated_home, home)
    (home / "plugins").mkdir(exist_ok=True)
    (home / "plugins" / "reader.py").write_text(READER)
    with (
        sandbox.running(generation_seconds=0, video_seconds=0.5, api_key=CANARY) as relay,
        s3.serving() as objects,
    ):
        bucket = objects.bucket()
        transport = {"type": "file", "log_file_path": str(events), "append": True}
        airflow = make_airflow(
            home,
            DAGS.with_name("dags_files"),
            AIRFLOW_CONN_VEO_DEFAULT=relay.connection,
            AIRFLOW_CONN_AWS_DEFAULT=objects.connection,
            AIRFLOW__CORE__PLUGINS_FOLDER=str(home / "plugins"),
            AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(transport),
            AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT="120",  # 10 s may be short for a busy machine
            READER_FILE=str(told),
            FILES_FOLDER=f"file://{root}/videos",
            FILES_S3_FOLDER=f"s3://aws_default@{bucket.name}/videos/",
            FILES_SIGNATURE=SIGNATURE,
        )
        airflow.learn_of_assets()
        output = airflow.run("dags", "test", DAG_ID, "2026-11-22")
    return SimpleNamespace(
        xcoms=airflow.xcoms(DAG_ID),
        told={(task_id, index): sides for task_id, index, *sides in map(json.loads, told.read_text().splitlines())},
        events=[json.loads(line) for line in events.read_text().splitlines()],
        written=told.read_text() + events.read_text(),
        output=output,
    )


def stored(ran, task_id, index=-1):
    return ran.xcoms[task_id, "return_value" if task_id.startswith("downloads") else "veo_file", index]


def completed(ran, task_id):
    """Return the events of a task's end, one for each of a mapped task."""
    events = [event for event in ran.events if event["job"]["name"] == f"{DAG_ID}.{task_id}"]
    return [event for event in events if event["eventType"] == "COMPLETE"]


TASKS = [
    ("stores", -1, IMAGES),
    ("stores_deferred", -1, IMAGES),
    ("stores_in_s3", -1, IMAGES),
    ("stores_private", -1, IMAGES),
    ("mapped", 0, IMAGES),
    ("mapped", 1, IMAGES),
    ("decorated", -1, IMAGES),
    ("downloads", -1, IMAGES),
    ("downloads_by_id", -1, []),
]


@pytest.mark.parametrize(("task_id", "index", "images"), TASKS)
def test_a_hook_lineage_reader_gets_images_in_and_the_file_out(ran, task_id, index, images):
    assert ran.told[task_id, index] == [images, [stored(ran, task_id, index)["uri"]]]


@pytest.mark.parametrize(("task_id", "index", "images"), TASKS)
def test_openlineage_gets_images_in_and_the_file_with_its_facts_out(ran, task_id, index, images):
    facts = stored(ran, task_id, index)
    name = urlsplit(facts["uri"]).path
    events = completed(ran, task_id)
    (event,) = [each for each in events if name.endswith(each["outputs"][0]["name"])]
    assert [(each["namespace"], each["name"]) for each in event["inputs"]] == [
        ("https://images.example.com", urlsplit(image).path.lstrip("/")) for image in images
    ]
    (file,) = event["outputs"]
    statistics = file["outputFacets"]["outputStatistics"]
    assert (statistics["size"], statistics["fileCount"]) == (facts["bytes"], 1)
    told = {name: value for name, value in file["facets"]["veo_file"].items() if not name.startswith("_")}
    assert told == {name: value for name, value in facts.items() if name not in ("uri", "bytes", "poster")}


def test_openlineage_knows_the_file_by_the_name_that_its_asset_has(ran):
    """Else a task that takes the asset as its inlet is not seen to take this file."""
    names = {}
    for task_id in ("stores", "stores_in_s3"):
        ((file,),) = [event["outputs"] for event in completed(ran, task_id)]
        names[task_id] = (file["namespace"], file["name"])
    local, remote = urlsplit(stored(ran, "stores")["uri"]), urlsplit(stored(ran, "stores_in_s3")["uri"])
    assert names == {"stores": ("file", local.path), "stores_in_s3": (f"s3://{remote.netloc}", remote.path[1:])}


def test_task_that_stores_nothing_reports_no_file_to_openlineage(ran):
    (event,) = completed(ran, "only_makes")
    assert event["inputs"] == event["outputs"] == []
    assert ran.told["only_makes", -1] == [[], []]


def test_lineage_has_no_signature_image_or_key(ran):
    assert "X-Amz-Signature" in json.dumps(ran.xcoms["only_makes", "veo_video", -1])
    assert IMAGES[0] in ran.written
    for secret in (SIGNATURE, "X-Amz-Signature", "iVBORw0KGgo", CANARY):
        assert secret not in ran.written


def test_openlineage_has_nothing_to_complain_of(ran):
    assert "OpenLineage method failed" not in ran.output
    assert "Failed to extract OpenLineage" not in ran.output
