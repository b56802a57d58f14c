"""Objects in S3: a real server, Airflow's S3 connection, and ``ObjectStoragePath``."""

from __future__ import annotations

import signal
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, ObjectStoragePath

from airflow_provider_veo.files import sinks
from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError
from tests.unit.storage.hosts import Reply
from tests.unit.storage.test_store import MIB, in_a_process, large


@pytest.fixture
def bucket(s3_server, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_MY_S3", s3_server.connection)
    return s3_server.bucket()


@pytest.fixture
def key(bucket):
    return ObjectStoragePath(f"s3://my_s3@{bucket.name}/videos/x.mp4")


def test_object_is_complete(host, store, bucket, key):
    stored = store(destination=key)
    assert stored.uri == f"s3://{bucket.name}/videos/x.mp4"
    assert bucket.content("videos/x.mp4") == host.content
    assert bucket.get("videos/x.mp4")["ContentType"] == "video/mp4"
    assert bucket.objects().keys() == {"videos/x.mp4"}
    assert bucket.uploads() == []


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_download_continues_in_the_same_upload(host, store, bucket, key, ranges):
    """20 MiB are three parts."""
    reply, sha256 = large(20 * MIB, cut=10 * MIB)
    host.script = [reply]
    seen = []

    def rest(request):
        seen.append((bucket.uploads(), bucket.objects()))
        if not ranges:
            request.headers.replace_header("Range", "bytes=0-")
        return large(20 * MIB, cut=20 * MIB)[0](request)

    host.always = rest
    assert store(destination=key).sha256 == sha256
    assert bucket.objects() == {"videos/x.mp4": 20 * MIB}
    assert seen == [(["videos/x.mp4"], {})]
    assert bucket.uploads() == []


def test_a_failure_leaves_no_object_and_no_upload(host, store, bucket, key):
    host.always, _ = large(20 * MIB, cut=10 * MIB)
    host.script = [host.always]
    host.always = Reply(status=400, body=b"")
    with pytest.raises(VeoDownloadError, match="HTTP 400"):
        store(destination=key)
    assert bucket.objects() == {}
    assert bucket.uploads() == []


@pytest.mark.parametrize("error", [AirflowTaskTimeout, KeyboardInterrupt])
def test_whatever_ends_the_task_leaves_no_object_and_no_upload(host, store, bucket, key, error, monkeypatch):
    host.always, _ = large(20 * MIB, cut=20 * MIB)
    write, written = sinks.Upload.write, []

    def write_some(self, data):
        write(self, data)
        written.append(len(data))
        if sum(written) > 10 * MIB:
            raise error

    monkeypatch.setattr(sinks.Upload, "write", write_some)
    with pytest.raises(error):
        store(destination=key)
    assert bucket.objects() == {}
    assert bucket.uploads() == []


def test_refusal_of_the_storage_is_reported(host, store, bucket):
    with pytest.raises(VeoDownloadError, match="could not") as caught:
        store(destination=ObjectStoragePath("s3://my_s3@there-is-no-such-bucket/x.mp4"))
    assert not caught.value.final


def test_the_same_object_is_reused_and_another_one_is_an_error(host, store, bucket, key):
    first = store(destination=key)
    before = bucket.get("videos/x.mp4")["LastModified"]
    assert store(destination=key) == first
    assert bucket.get("videos/x.mp4")["LastModified"] == before
    content = host.content
    host.content = host.content[:-8] + bytes(8)
    with pytest.raises(VeoDownloadRefusedError, match="its bytes differ"):
        store(destination=key)
    assert bucket.content("videos/x.mp4") == content
    store(destination=key, overwrite="always")
    assert bucket.content("videos/x.mp4") == host.content


KILLED = """
    write = sinks.Upload.write
    def write_and_die(self, data, written=[0]):
        write(self, data)
        written[0] += len(data)
        if written[0] > 10 * 1024 * 1024:
            os.kill(os.getpid(), signal.SIGKILL)
    sinks.Upload.write = write_and_die
    store(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_process_leaves_no_object_and_the_next_one_takes_its_upload_away(host, store, bucket, key):
    host.always, sha256 = large(20 * MIB, cut=20 * MIB)
    done = in_a_process(KILLED, host.url, str(key))
    _, errors = done.communicate(timeout=60)
    assert done.returncode == -signal.SIGKILL, errors
    assert bucket.objects() == {}
    assert bucket.uploads() == ["videos/x.mp4"]
    other = bucket.client.create_multipart_upload(Bucket=bucket.name, Key="videos/x.mp4.other")
    assert store(destination=key).sha256 == sha256
    assert bucket.objects() == {"videos/x.mp4": 20 * MIB}
    assert bucket.uploads() == [other["Key"]]


def test_two_at_once_both_leave_it_whole(host, store, bucket, key):
    from tests.unit.storage.test_store import at_once, slowly

    host.script = [slowly(host, 0.3), slowly(host, 0.5)]
    results = at_once(2, store, destination=key, overwrite="always")
    assert results[0] == results[1]
    assert bucket.content("videos/x.mp4") == host.content
    assert bucket.uploads() == []


LARGE = """
    import resource
    for name in ("16.mp4", "384.mp4"):
        stored = store(f"{sys.argv[1]}/{name}", f"{sys.argv[2]}/{name}", timeout=300)
        print(stored.bytes, stored.sha256, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_object(host, bucket):
    replies = {f"/{size}.mp4": large(size * MIB, cut=size * MIB // 2) for size in (16, 384)}
    host.always = lambda request: replies[request.path][0](request)
    started = time.monotonic()
    done = in_a_process(LARGE, f"http://127.0.0.1:{host.server_port}", f"s3://my_s3@{bucket.name}")
    said, errors = done.communicate(timeout=280)
    lines = [line.split() for line in said.splitlines() if line[:1].isdigit() and len(line.split()) == 3]
    assert [(int(size), sha256) for size, sha256, _ in lines] == [
        (size * MIB, replies[f"/{size}.mp4"][1]) for size in (16, 384)
    ], errors
    assert int(lines[1][2]) - int(lines[0][2]) < 24 * 1024, time.monotonic() - started
    assert bucket.objects() == {"16.mp4": 16 * MIB, "384.mp4": 384 * MIB}
    bucket.client.delete_object(Bucket=bucket.name, Key="384.mp4")
