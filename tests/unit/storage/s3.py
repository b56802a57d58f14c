"""A real server that speaks S3, and Airflow's connection to it."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")
pytest.importorskip("airflow.providers.amazon.aws.fs.s3")

KEY, SECRET, REGION = "key", "secret", "us-east-1"


class Server:
    """
    What is known of it.

    :param url: where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # moto takes its time to put large files together on a busy machine.
        patience = {"read_timeout": 300}
        extra = {"endpoint_url": url, "region_name": REGION, "config_kwargs": patience}
        self.connection = json.dumps({"conn_type": "aws", "login": KEY, "password": SECRET, "extra": extra})
        """Airflow's, as JSON."""
        self.delay = 0.0
        """Seconds before each answer."""
        self._buckets: list[Bucket] = []

    def bucket(self) -> Bucket:
        """Make a bucket."""
        self._buckets.append(Bucket(self.url))
        return self._buckets[-1]

    def close(self) -> None:
        """Close the clients of its buckets."""
        for bucket in self._buckets:
            bucket.client.close()


class Bucket:
    def __init__(self, endpoint):
        self.client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION
        )
        self.name = f"b-{uuid.uuid4()}"
        self.client.create_bucket(Bucket=self.name)

    def objects(self):
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {each["Key"]: each["Size"] for each in listed}

    def uploads(self):
        listed = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return sorted(each["Key"] for each in listed)

    def get(self, key):
        return self.client.get_object(Bucket=self.name, Key=key)

    def content(self, key):
        with self.get(key)["Body"] as body:
            return body.read()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run it on a free port."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        with contextlib.closing(Server("http://{}:{}".format(*server.get_host_and_port()))) as found:
            answer_at_once = server._server.app

            def answer(environ, start_response):
                time.sleep(found.delay)
                return answer_at_once(environ, start_response)

            server._server.app = answer
            yield found
    finally:
        server.stop()
