"""The metrics of real tasks at a real StatsD listener: of workers and a triggerer, and of ``airflow dags test``."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.airflow_lines import LINE
from tests.conftest import CANARY
from tests.system.conftest import DAGS, make_airflow
from tests.system.services import Services

pytest.importorskip("statsd", reason="Airflow's client of StatsD is an extra")

DAG_ID, ALONE = "veo_metrics", "veo_metrics_alone"
PRICES = {"veo3-fast": 0.4, "veo3-pro": 2}
EXPECTED = {
    "veo.submissions.accepted": 5,
    "veo.cost": pytest.approx(4 * 0.4 + 2),
    "veo.videos.succeeded": 3,
    "veo.videos.blocked": 2,
    "veo.stored_files": 2,
}
"""Besides the sums of bytes and seconds."""
LINE_OF_A_COUNTER = re.compile(r"airflow\.(veo\.[a-z_.]+)((?:,[a-z_]+=[^,:]+)*):([0-9.e+-]+)\|c")


@contextlib.contextmanager
def statsd():
    """Listen for packets, and collect them."""
    packets = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.2)
        ended = threading.Event()

        def listen():
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    packets.append(listener.recv(65536).decode())

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield SimpleNamespace(packets=packets, port=listener.getsockname()[1])
        time.sleep(0.5)
        ended.set()
        thread.join()


def counters(packets):
    """Return name, tags and value of each of this provider's packets."""
    found = []
    for line in "\n".join(packets).splitlines():
        if line.startswith("airflow.veo"):
            name, tags, value = LINE_OF_A_COUNTER.fullmatch(line).groups()
            found.append((name, dict(tag.split("=") for tag in tags.split(",") if tag), float(value)))
    return found


def sums(counted):
    found = {}
    for name, _, value in counted:
        found[name] = found.get(name, 0) + value
    return found


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    root = tmp_path_factory.mktemp("metrics")
    home = shutil.copytree(migrated_home, root / "airflow")
    found = SimpleNamespace(root=root)
    with (
        sandbox.running(
            generation_seconds=1, video_seconds=0.2, api_key=CANARY, faults=["failed=safety filter@prompt=blocked"]
        ) as relay,
        statsd() as alone,
        statsd() as services_statsd,
    ):
        settings = {
            "AIRFLOW_CONN_VEO_DEFAULT": json.dumps({**json.loads(relay.connection), "extra": {"prices": PRICES}}),
            "AIRFLOW_VAR_VEO_DESTINATION": f"{root.as_uri()}/videos/",
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            # Without all of Airflow's own metrics, no packet is dropped because the listener is slow on a busy machine.
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "veo",
        }
        airflow = make_airflow(
            home, DAGS.with_name("dags_metrics"), **settings, AIRFLOW__METRICS__STATSD_PORT=str(alone.port)
        )
        found.output = airflow.run("dags", "test", ALONE, "2026-11-21")
        airflow.environment["AIRFLOW__METRICS__STATSD_PORT"] = str(services_statsd.port)
        airflow.environment["AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED"] = "True"
        with Services(airflow) as services:
            found.state = services.wait_for(DAG_ID, services.trigger(DAG_ID, "night"), timeout=200)
    found.alone, found.services = counters(alone.packets), counters(services_statsd.packets)
    return found


def stored(root, run_id):
    return sum(path.stat().st_size for path in (root / "videos").glob(f"{run_id}/videos/*.mp4"))


def check(counted, size):
    found = sums(counted)
    assert found.pop("veo.stored_bytes") == size
    assert found.pop("veo.waited_seconds") >= 3 * 1  # those of the batch; the sensor may begin later
    assert found == EXPECTED


def test_workers_and_a_triggerer_count_everything_once(ran):
    assert ran.state == "success"
    check(ran.services, stored(ran.root, "night"))


def test_dags_test_counts_everything_once(ran):
    (folder,) = [path.name for path in (ran.root / "videos").iterdir() if path.name != "night"]
    assert ran.alone, ran.output[-4000:]
    check(ran.alone, stored(ran.root, folder))


def test_tags_are_the_dag_the_task_and_the_model(ran):
    assert {tuple(sorted(tags)) for _, tags, _ in ran.services} == {
        ("dag_id", "model", "task_id"),
        ("dag_id", "task_id"),
    }
    assert {(tags["task_id"], tags.get("model")) for name, tags, _ in ran.services if "accepted" in name} == {
        ("batch", "veo3-fast"),
        ("create", "veo3-pro"),
    }
    assert {tags["dag_id"] for _, tags, _ in ran.services} == {DAG_ID}


@pytest.mark.skipif(LINE < (3, 3), reason="ending a task in the triggerer requires Airflow 3.3")
def test_what_ends_in_the_triggerer_is_counted_there(ran):
    ends = [(name, value) for name, tags, value in ran.services if tags["task_id"] == "wait" and "videos" in name]
    assert ends == [("veo.videos.succeeded", 1)]
