"""
One video from the web into a storage: ``store_video``, against what one would use in its place.

It takes about five minutes, most of them moto's: ``python -m bench storing`` runs it alone.

Everyone fetches the same bytes over loopback from the same host, a process that sends them from memory. Each way has a
process of its own, which has stored a small file before. The ways take turns, and every other turn goes backwards.
What they stored is compared with what the host sent, removed, and the disk synced before the next one begins, all of it
off the clock. So is the loading of modules. Airflow's connections are looked up on it, ours and the operators'.

**The counterparts.** ``curl``, where it is installed. ``requests.get(url).content``, written with ``Path.write_bytes``
or ``ObjectStoragePath.write_bytes``. ``HttpOperator`` with a ``response_filter`` that writes the content, and
``HttpToS3Operator``. They store what comes, under its name from the first byte on where it is a file.

**What they leave out.** ``store_video`` computes the SHA-256, follows the file's parts to see that it is a whole video,
reads width, height and duration from it, and gives it its name when it is on the disk (``fsync``). *Checked by hand* is
a dozen lines around ``requests`` that stream, compute the SHA-256, sync and rename: the least that it takes to do as
much. *Nowhere* is a storage for fsspec that forgets what it gets: what is left is fetching and checking.

**S3** is moto's server, in a process of its own, through Airflow's connection: to ``HttpToS3Operator`` by its hook, to
the others by ``ObjectStoragePath``. It takes bytes much slower than the clients send them, so that the times are mostly
its own; CPU time is the client's alone. The operator has all of the file in memory and sends up to ten parts at once;
``store_video`` sends a part when it is complete, and meanwhile receives nothing.

**Memory** is the peak of the resident set of a process that stores one file and ends, as the kernel counts it. Where
the allocator puts what the S3 client's threads ask for is chance, tens of megabytes of it: hence several processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3

from bench import show, storing_servers
from bench.storing_side import S3_CONN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
SMALL, LARGE = 16 * MIB, 1024 * MIB
WARM_UP, FILE = 4 * MIB, 128 * MIB
ROUNDS = 7
PEAK_ROUNDS = 3
MEMORY_TARGET_MIB = 24
BUCKET = "videos"
_READ_BYTES = 8 * MIB


class Way(NamedTuple):
    """A way of storing."""

    side: str
    """Its name in :mod:`bench.storing_side`."""
    name: str


OURS = Way("ours", "store_video")
CURL = "curl"
PLACES: dict[str, tuple[Way, ...]] = {
    "local file": (
        OURS,
        Way(CURL, "curl --output FILE"),
        Way("requests file", "requests.get().content"),
        Way("HttpOperator file", "HttpOperator"),
        Way("requests checked", "requests, checked by hand"),
    ),
    "S3": (
        OURS,
        Way("HttpToS3Operator", "HttpToS3Operator"),
        Way("requests s3", "requests.get().content"),
    ),
    "nowhere": (
        Way("ours nowhere", "store_video"),
        Way(CURL, "curl --output /dev/null"),
        Way("requests nowhere", "requests.get().content"),
        Way("HttpOperator nowhere", "HttpOperator"),
    ),
}
"""The first of each is ours."""
IN_MEMORY = {"local file": (OURS, PLACES["local file"][3]), "S3": (OURS, PLACES["S3"][1])}
"""Those whose memory is measured."""


@dataclass
class Cost:
    """What storing one file took, each time."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Found:
    """All that was measured."""

    costs: dict[str, dict[str, Cost]]
    """By place and by name of the way."""
    peaks: dict[str, dict[str, tuple[float, float]]]
    """Median bytes for the small and the large file, by place and by name of the way."""


def measure() -> Found:
    """Return what each way takes."""
    with (
        tempfile.TemporaryDirectory(prefix="veo-bench-files-") as folder,
        storing_servers.running("host", *map(str, (WARM_UP, FILE, SMALL, LARGE))) as host,
        storing_servers.running("s3") as s3,
    ):
        bench = _Bench(host, s3["url"], Path(folder))
        return Found(
            costs={place: bench.costs(place, ways) for place, ways in PLACES.items()},
            peaks={place: {way.name: bench.peaks(place, way) for way in ways} for place, ways in IN_MEMORY.items()},
        )


def report(found: Found) -> None:
    """Print both tables, and the verdicts."""
    _report_costs(found.costs)
    _report_peaks(found.peaks)


def _report_costs(costs: dict[str, dict[str, Cost]]) -> None:
    table = show.table(
        f"A video of {FILE // MIB} MiB: {ROUNDS} each, median (middle half)",
        "to",
        "way",
        "time",
        "throughput",
        "our time\nover it",
        "CPU time",
        "our CPU\nover it",
    )
    table.columns[1].justify = "left"
    for place, ways in costs.items():
        ours = next(iter(ways.values()))
        for name, cost in ways.items():
            is_ours = cost is ours
            table.add_row(
                place if is_ours else "",
                name,
                show.spread(cost.seconds, "ms"),
                f"{FILE / MIB / statistics.median(cost.seconds):.0f} MiB/s",
                "" if is_ours else f"{show.ratio(ours.seconds, cost.seconds):.2f}",
                f"{statistics.median(cost.cpu) * 1e3:.0f} ms",
                "" if is_ours else f"{show.ratio(ours.cpu, cost.cpu):.2f}",
            )
        table.add_section()
    show.console.print(table)


def _report_peaks(peaks: dict[str, dict[str, tuple[float, float]]]) -> None:
    table = show.table(
        f"Peak memory of a process that stores one file: median of {PEAK_ROUNDS}",
        "to",
        "way",
        f"{SMALL // MIB} MiB",
        f"{LARGE // MIB} MiB",
        "more",
    )
    table.columns[1].justify = "left"
    for place, ways in peaks.items():
        for name, (small, large) in ways.items():
            table.add_row(
                place if name == OURS.name else "",
                name,
                *(f"{size / MIB:.0f} MiB" for size in (small, large, max(0.0, large - small))),
            )
    show.console.print(table)
    for place, ways in peaks.items():
        small, large = ways[OURS.name]
        more = show.verdict((large - small) / MIB, MEMORY_TARGET_MIB, " MiB")
        show.console.print(f"More for {LARGE // MIB} MiB than for {SMALL // MIB} MiB, to {place}: {more}")


class _Side:
    """A process that stores files."""

    def __init__(self, way: Way) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.storing_side", way.side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *error: object) -> None:
        with self._process as process:
            process.stdin.close()

    def store(self, **order: str) -> dict[str, Any]:
        print(json.dumps(order), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            # Whatever else is printed there is a log's.
            if line.startswith('{"seconds"'):
                return json.loads(line)
        raise RuntimeError(f"the process ended before it had stored {order['url']}")


class _Bench:
    """The servers, and the place for files."""

    def __init__(self, host: dict[str, Any], s3: str, folder: Path) -> None:
        self._host = host
        self._folder = folder
        self._bucket = boto3.client(
            "s3", endpoint_url=s3, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
        )
        self._bucket.create_bucket(Bucket=BUCKET)
        connections = {
            "veo_default": {"conn_type": "veo", "password": "key", "extra": {"allow_private_media": True}},
            "media": {"conn_type": "http", "host": host["url"]},
            S3_CONN_ID: {
                "conn_type": "aws",
                "login": "key",
                "password": "secret",
                # moto puts a gibibyte together for longer than botocore waits.
                "extra": {"endpoint_url": s3, "region_name": "us-east-1", "config_kwargs": {"read_timeout": 600}},
            },
        }
        for name, connection in connections.items():
            os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection)

    def costs(self, place: str, ways: tuple[Way, ...]) -> dict[str, Cost]:
        """Let the ways take turns."""
        ways = tuple(way for way in ways if way.side != CURL or shutil.which(CURL))
        costs = {way.name: Cost() for way in ways}
        with contextlib.ExitStack() as stack:
            sides = [(way, stack.enter_context(_Side(way))) for way in ways]
            for way, side in sides:
                self._store(side, place, way, WARM_UP)
            for turn in range(ROUNDS):
                for way, side in sides if turn % 2 else reversed(sides):
                    said = self._store(side, place, way, FILE)
                    costs[way.name].seconds.append(said["seconds"])
                    costs[way.name].cpu.append(said["cpu"])
        return costs

    def peaks(self, place: str, way: Way) -> tuple[float, float]:
        """Return the median peak of processes that store the small file, and of those that store the large one."""
        peaks = [[self._peak(place, way, size) for size in (SMALL, LARGE)] for _ in range(PEAK_ROUNDS)]
        small, large = (statistics.median(each) for each in zip(*peaks, strict=True))
        return small, large

    def _peak(self, place: str, way: Way, size: int) -> int:
        with _Side(way) as side:
            peak: int = self._store(side, place, way, size)["peak"]
        return peak

    def _store(self, side: _Side, place: str, way: Way, size: int) -> dict[str, Any]:
        file = self._folder / "video.mp4"
        destination = {
            "local file": str(file),
            "S3": f"s3://{S3_CONN_ID}@{BUCKET}/{file.name}",
            "nowhere": os.devnull if way.side == CURL else f"nowhere://files/{file.name}",
        }[place]
        said = side.store(url=f"{self._host['url']}/{size}/{file.name}", destination=destination)
        expected = self._host["sha256"][str(size)]
        if said["told"] not in (None, size, expected):
            raise RuntimeError(f"{way.name} tells of {said['told']}, and {expected} was sent: the numbers mean nothing")
        if place != "nowhere" and self._take_away(place, file) != expected:
            raise RuntimeError(f"{way.name} stored another file than was sent: the numbers mean nothing")
        os.sync()
        return said

    def _take_away(self, place: str, file: Path) -> str:
        """Remove what was stored, and return its SHA-256."""
        if place == "S3":
            with contextlib.closing(self._bucket.get_object(Bucket=BUCKET, Key=file.name)["Body"]) as body:
                digest = _sha256(iter(lambda: body.read(_READ_BYTES), b""))
            self._bucket.delete_object(Bucket=BUCKET, Key=file.name)
            return digest
        with file.open("rb") as stored:
            digest = _sha256(iter(lambda: stored.read(_READ_BYTES), b""))
        file.unlink()
        return digest


def _sha256(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
