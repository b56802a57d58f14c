"""
One way of storing in a process of its own: ``python -m bench.storing_side NAME``, with its orders on standard input.

An order is a line of JSON, and so is what comes back: seconds, CPU seconds, the process's peak memory, and what the way
tells of the file: its SHA-256, its size or nothing. Modules are loaded before the clock starts; Airflow's connections
are looked up on it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

STREAM_BYTES = 1024 * 1024
S3_CONN_ID = "bench_s3"


def main() -> None:
    way = WAYS[sys.argv[1]]()
    _silence()
    for line in sys.stdin:
        order = json.loads(line)
        start, cpu = time.perf_counter(), sum(os.times()[:4])
        told = way(order["url"], order["destination"])
        took, cpu = time.perf_counter() - start, sum(os.times()[:4]) - cpu
        print(json.dumps({"seconds": took, "cpu": cpu, "peak": _peak(), "told": told}), flush=True)


def _ours() -> Callable[[str, str], str]:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.hooks import VeoHook
    from airflow_provider_veo.storage import store_video

    log = logging.getLogger("bench")

    def store(url: str, destination: str) -> str:
        hook = VeoHook()
        return store_video(url, ObjectStoragePath(destination), settings=hook.settings, log=log).sha256

    return store


def _ours_nowhere() -> Callable[[str, str], str]:
    import bench.storing_nowhere  # noqa: F401  It makes the storage known to Airflow.

    return _ours()


def _curl() -> Callable[[str, str], int]:
    command = ["curl", "--silent", "--show-error", "--fail", "--write-out", "%{size_download}", "--output"]

    def store(url: str, destination: str) -> int:
        return int(subprocess.run([*command, destination, url], check=True, stdout=subprocess.PIPE).stdout)

    return store


def _requests_content(keep: Callable[[bytes, str], int]) -> Callable[[str, str], int]:
    import requests

    def store(url: str, destination: str) -> int:
        return keep(requests.get(url).content, destination)

    return store


def _to_file(content: bytes, destination: str) -> int:
    return Path(destination).write_bytes(content)


def _to_nowhere(content: bytes, destination: str) -> int:
    return len(content)


def _requests_s3() -> Callable[[str, str], int]:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    return _requests_content(lambda content, destination: ObjectStoragePath(destination).write_bytes(content))


def _requests_checked() -> Callable[[str, str], str]:
    """What it takes at least to do what ``store_video`` does for a local file."""
    import requests

    def store(url: str, destination: str) -> str:
        sha256, part = hashlib.sha256(), f"{destination}.part"
        with requests.get(url, stream=True) as response, open(part, "wb") as file:
            for chunk in response.iter_content(STREAM_BYTES):
                sha256.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, destination)
        return sha256.hexdigest()

    return store


def _http_operator(keep: Callable[[bytes, str], int]) -> Callable[[str, str], int]:
    from airflow.providers.http.operators.http import HttpOperator

    def store(url: str, destination: str) -> int:
        def response_filter(response: requests.Response) -> int:
            return keep(response.content, destination)

        kept: int = HttpOperator(
            task_id="store", http_conn_id="media", endpoint=_path(url), method="GET", response_filter=response_filter
        ).execute({})
        return kept

    return store


def _http_to_s3_operator() -> Callable[[str, str], None]:
    from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

    def store(url: str, destination: str) -> None:
        bucket, key = destination.partition("@")[2].split("/", 1)
        HttpToS3Operator(
            task_id="store",
            http_conn_id="media",
            endpoint=_path(url),
            s3_bucket=bucket,
            s3_key=key,
            aws_conn_id=S3_CONN_ID,
        ).execute({})

    return store


def _path(url: str) -> str:
    return "/".join(url.split("/")[3:])


WAYS: dict[str, Callable[[], Callable[[str, str], Any]]] = {
    "ours": _ours,
    "ours nowhere": _ours_nowhere,
    "curl": _curl,
    "requests file": lambda: _requests_content(_to_file),
    "requests checked": _requests_checked,
    "requests s3": _requests_s3,
    "requests nowhere": lambda: _requests_content(_to_nowhere),
    "HttpOperator file": lambda: _http_operator(_to_file),
    "HttpOperator nowhere": lambda: _http_operator(_to_nowhere),
    "HttpToS3Operator": _http_to_s3_operator,
}


def _peak() -> int:
    """Return the process's peak resident set in bytes. ``getrusage`` would count the one that started it, too."""
    return int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024


def _silence() -> None:
    import airflow.triggers.base  # noqa: F401  Airflow sets up its logging when it is imported
    import structlog

    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


if __name__ == "__main__":
    main()
