"""Storing videos in a real Airflow: where the file is, what is known of it, what fails, and what is billed."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import av
import pytest
import requests

from airflow_provider_veo import sandbox
from airflow_provider_veo.storage.poster import is_poster
from tests.conftest import CANARY
from tests.system.conftest import DAGS, make_airflow
from tests.system.test_create_operator import Outcome
from tests.unit.protocol.test_payload import SEED_REQUEST
from tests.unit.storage import s3

DAG_ID = "veo_files"
FAULTS = (
    "query:unknown-status=rendering@prompt=unfinished",
    "failed=blocked by policy@prompt=blocked",
    "file:status=404@prompt=gives_404_once,1",
    "file:status=403@prompt=gives_403_once,1",
    "file:bare=403@prompt=always_403",
    "file:html-200@prompt=paged",
    "file:cut-off@prompt=breaks_off_once,1",
    "file:status=400@prompt=refused_once,1",
    "file:status=400@prompt=deferred_refused,1",
)


def a_video_elsewhere(media):
    """Make a video at a relay, and return its URL."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers.update({"Authorization": f"Bearer {media.api_key}", "Accept": "application/json"})
        made = session.post(f"{media.url}/v1/video/create", json=SEED_REQUEST)
        return session.get(f"{media.url}/v1/video/query", params={"id": made.json()["id"]}).json()["video_url"]


def served(url):
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url).content


class Files(Outcome):
    """What the DAG did, and the files that it left."""

    def __init__(self, airflow, output, relay, media, elsewhere, folder, bucket):
        super().__init__(airflow, DAG_ID, output, relay)
        self.written = airflow.everything_it_wrote() + relay.output() + media.output() + output
        self.asked = relay.requests("file")
        self.asked_elsewhere = media.requests("file")
        relay.set_faults()
        self.ids = {video["prompt"].removeprefix("files "): video["id"] for video in relay.videos()}
        self.served = {name: served(f"{relay.url}/files/{video_id}.mp4") for name, video_id in self.ids.items()}
        self.served["elsewhere"] = served(elsewhere)
        self.files = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
        self.objects = {key: bucket.content(key) for key in bucket.objects()}
        self.bucket = bucket.name
        self.folder = folder

    def sent(self, task_id):
        return sum(body["prompt"] == f"files {task_id}" for body in self.bodies)

    def requests_for(self, name):
        return [request for request in self.asked if unquote(request["path"]) == f"/files/{self.ids[name]}.mp4"]

    def log_of(self, task_id):
        """Return what was printed while the task ran."""
        return self.output.split(f"[DAG TEST] starting task_id={task_id} ")[1].partition("[DAG TEST] end task")[0]


@pytest.fixture(scope="module")
def outcome(migrated_home, tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    home, folder = root / "airflow", root / "videos"
    shutil.copytree(migrated_home, home)
    with (
        sandbox.running(generation_seconds=0, video_seconds=0.5, api_key=CANARY) as relay,
        sandbox.running(generation_seconds=0, video_seconds=0.5) as media,
        s3.serving() as objects,
    ):
        bucket = objects.bucket()
        elsewhere = a_video_elsewhere(media)
        relay.set_faults(*FAULTS, f"file:redirect={elsewhere}@prompt=redirected")
        airflow = make_airflow(
            home,
            DAGS.with_name("dags_files"),
            AIRFLOW_CONN_VEO_DEFAULT=relay.connection,
            AIRFLOW_CONN_MY_S3=objects.connection,
            FILES_FOLDER=f"file://{folder}",
            FILES_S3_FOLDER=f"s3://{bucket.name}/videos/",
            FILES_ELSEWHERE=elsewhere,
        )
        output = airflow.run("dags", "test", DAG_ID, "2026-11-22", check=False)
        return Files(airflow, output, relay, media, elsewhere, folder, bucket)


def picture_of(content):
    with av.open(io.BytesIO(content)) as video:
        stream = video.streams.video[0]
        return {
            "width": stream.width,
            "height": stream.height,
            "duration_seconds": round(video.duration / av.time_base, 3),
        }


def facts(outcome, uri, name, **more):
    content = outcome.served[name]
    return {
        "uri": uri,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content_type": "video/mp4",
        "verified": True,
        "poster": f"{uri.removesuffix('.mp4')}.jpg",
        **picture_of(content),
        **more,
    }


@pytest.mark.parametrize(
    ("task_id", "file", "made_by"),
    [
        ("by_id", "by_id.mp4", "video"),
        ("by_dict", "by_dict.mp4", "video"),
        ("by_dict_of_the_sensor", "by_dict_of_the_sensor.mp4", "video"),
        ("by_templates", "2026-11-22/by_templates.mp4", "video"),
        ("by_dict_template", "by_dict_template.mp4", "video"),
        ("into_a_folder", "folder/veo_files/2026-11-22/{id}.mp4", "video"),
        ("replaced", "kept.mp4", "another"),
        ("expired_404", "expired_404.mp4", "gives_404_once"),
        ("expired_403", "expired_403.mp4", "gives_403_once"),
    ],
)
def test_the_file_is_what_the_relay_holds_and_xcom_tells_its_facts(outcome, task_id, file, made_by):
    assert outcome.state(task_id) == ("success", 1)
    veo_task_id = outcome.ids[made_by]
    path = file.format(id=veo_task_id.replace(":", "_"))
    assert outcome.files[path] == outcome.served[made_by]
    assert outcome.xcom(task_id) == facts(outcome, f"file://{outcome.folder}/{path}", made_by, veo_task_id=veo_task_id)


@pytest.mark.parametrize("task_id", ["by_url", "by_url_template"])
def test_a_bare_url_is_enough_and_no_id_is_made_up(outcome, task_id):
    assert outcome.state(task_id) == ("success", 1)
    assert outcome.xcom(task_id) == facts(outcome, f"file://{outcome.folder}/{task_id}.mp4", "video")
    assert outcome.files[f"{task_id}.mp4"] == outcome.served["video"]


def test_a_bare_url_names_its_file_in_a_folder_and_takes_no_place_of_an_id(outcome):
    assert outcome.state("by_url_into_a_folder") == ("success", 1)
    uri = outcome.xcom("by_url_into_a_folder")["uri"]
    assert Path(uri).parent == Path(outcome.xcom("into_a_folder")["uri"]).parent
    assert uri != outcome.xcom("into_a_folder")["uri"]
    assert outcome.files[uri.removeprefix(f"file://{outcome.folder}/")] == outcome.served["video"]


def test_files_go_to_s3_by_a_connection_in_the_uri_or_beside_it(outcome):
    name = outcome.ids["video"].replace(":", "_")
    for task_id, key in (
        ("in_s3", f"videos/veo_files/2026-11-22/{name}.mp4"),
        ("in_s3_by_conn_id", "videos/by_conn_id.mp4"),
    ):
        assert outcome.state(task_id) == ("success", 1)
        assert outcome.objects.pop(key) == outcome.served["video"]
        assert is_poster(outcome.objects.pop(f"{key.removesuffix('.mp4')}.jpg"))
        uri = f"s3://{outcome.bucket}/{key}"
        assert outcome.xcom(task_id) == facts(outcome, uri, "video", veo_task_id=outcome.ids["video"])
    assert outcome.objects == {}


def test_the_same_video_at_the_same_place_is_reused(outcome):
    assert outcome.state("again") == ("success", 1)
    assert outcome.xcom("again") == outcome.xcom("by_id")
    assert "reusing it" in outcome.log_of("again")


def test_another_video_at_the_same_place_fails_for_good_and_leaves_it_as_it_was(outcome):
    assert outcome.served["another"] != outcome.served["video"]
    assert outcome.state("over_another") == ("failed", 1)
    assert outcome.files["by_id.mp4"] == outcome.served["video"]
    assert "another file exists there" in outcome.log_of("over_another")
    assert "the existing file was not changed" in outcome.log_of("over_another")


@pytest.mark.parametrize(
    ("task_id", "tries", "part"),
    [
        ("not_ready", 2, "which is not ready: the relay's status is 'rendering'"),
        ("failed", 1, "blocked by policy"),
        ("unknown", 1, "veo3:1-unknown"),
        ("gone", 2, "Give the video's veo_task_id instead of its URL"),
        ("page", 2, "got a page instead of the file: “"),
        ("too_large", 1, "max_bytes allows 100"),
        ("nothing", 1, "expected one of veo_task_id, video_url, veo_video, got none of them"),
    ],
)
def test_a_video_that_cannot_be_had_leaves_no_file_and_says_why(outcome, task_id, tries, part):
    assert outcome.state(task_id) == ("failed", tries)
    assert part in outcome.log_of(task_id)
    assert f"{task_id}.mp4" not in outcome.files
    assert outcome.xcom(task_id) is None


@pytest.mark.parametrize("name", ["gives_404_once", "gives_403_once"])
def test_an_expired_url_is_asked_for_anew(outcome, name):
    assert [request["status"] for request in outcome.requests_for(name)] == [name[6:9], "200"]
    assert "the relay returned a new one" in outcome.output


@pytest.mark.parametrize(
    ("task_id", "file", "tries"),
    [
        ("synchronous", "synchronous.mp4", 1),
        ("deferred", "2026-11-22/veo_files/2026-11-22/{id}.mp4", 1),
        ("decorated", "decorated.mp4", 1),
        ("says_where", "says_where.mp4", 1),
        ("breaks_off_once", "breaks_off_once.mp4", 1),
        ("refused_once", "refused_once.mp4", 2),
        ("deferred_refused", "deferred_refused.mp4", 2),
    ],
)
def test_the_task_that_makes_a_video_stores_it_and_pays_once(outcome, task_id, file, tries):
    assert outcome.state(task_id) == ("success", tries)
    veo_task_id = outcome.ids[task_id]
    path = file.format(id=veo_task_id.replace(":", "_"))
    assert outcome.files[path] == outcome.served[task_id]
    assert outcome.xcom(task_id) == veo_task_id
    assert outcome.xcom(task_id, "veo_file") == facts(
        outcome, f"file://{outcome.folder}/{path}", task_id, veo_task_id=veo_task_id
    )
    assert outcome.accepted[f"files {task_id}"] == 1


def test_each_of_a_mapped_task_stores_its_own(outcome):
    for index in range(2):
        assert outcome.state("mapped", index) == ("success", 1)
        veo_task_id = outcome.ids[f"mapped {index}"]
        assert outcome.xcom("mapped", index=index) == veo_task_id
        path = f"mapped/veo_files/2026-11-22/{veo_task_id.replace(':', '_')}.mp4"
        assert outcome.files[path] == outcome.served[f"mapped {index}"]
        uri = f"file://{outcome.folder}/{path}"
        assert outcome.xcom("mapped", "veo_file", index) == facts(
            outcome, uri, f"mapped {index}", veo_task_id=veo_task_id
        )


def test_a_transfer_that_breaks_off_goes_on_where_it_was(outcome):
    first, second = outcome.requests_for("breaks_off_once")
    assert "range" not in first["headers"]
    assert second["headers"]["range"].startswith("bytes=")
    assert second["status"] == "206"


def test_a_destination_that_renders_to_nothing_stores_nothing(outcome):
    assert outcome.state("not_wanted") == ("success", 1)
    assert outcome.xcom("not_wanted", "video_url")
    assert outcome.xcom("not_wanted", "veo_file") is None
    assert outcome.requests_for("not_wanted") == []


@pytest.mark.parametrize(("task_id", "index"), [("does_not_wait", 0), ("says_where_in_vain", -1)])
def test_a_file_that_no_one_waits_for_is_a_mistake_that_costs_nothing(outcome, task_id, index):
    assert outcome.state(task_id, index) == ("failed", 1)
    assert outcome.sent(task_id) == 0


def test_the_key_goes_to_no_other_host_also_not_by_a_redirect(outcome):
    for task_id in ("from_elsewhere", "redirected_elsewhere"):
        assert outcome.state(task_id) == ("success", 1)
        assert outcome.files[f"{task_id}.mp4"] == outcome.served["elsewhere"]
    assert [request["status"] for request in outcome.asked_elsewhere] == ["200", "200"]
    assert not any("authorization" in request["headers"] for request in outcome.asked_elsewhere)
    assert CANARY not in json.dumps(outcome.asked_elsewhere)


def test_nothing_but_what_was_asked_for_is_left_behind(outcome):
    stored = [value for (_, key, _), value in outcome.xcoms.items() if isinstance(value, dict) and "sha256" in value]
    uris = [uri for each in stored for uri in (each["uri"], each["poster"]) if uri.startswith("file")]
    assert set(outcome.files) == {uri.removeprefix(f"file://{outcome.folder}/") for uri in uris}
    posters = [content for name, content in outcome.files.items() if not name.endswith(".mp4")]
    assert len(posters) == len(outcome.files) / 2
    assert all(map(is_poster, posters))


def test_the_key_is_nowhere(outcome):
    assert outcome.xcom("by_id")["sha256"] in outcome.written
    assert CANARY not in outcome.written
