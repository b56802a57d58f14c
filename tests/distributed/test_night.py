"""A night of four hundred videos on a distributed Airflow, of which every part dies once."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet

from airflow_provider_veo import sandbox
from tests.airflow_lines import EARLIER_TRIES
from tests.conftest import CANARY
from tests.distributed.dags.veo_night import BATCHED, SINGLE
from tests.distributed.night import DAG_ID, GENERATION_SECONDS, RUN_ID, SERVICES, SLOTS, WORKERS, Night
from tests.distributed.report import tell
from tests.system.conftest import make_airflow
from tests.system.services import Services

pytestmark = pytest.mark.timeout(1800)

DAGS = Path(__file__).parent / "dags"
ROTATED = CANARY + "-rotated"
UNKNOWN = "It can't be known whether the request was accepted"
# What tasks import is loaded only once: the processes of tasks are forks of the worker.
PRELOAD = 'import sys\n\nif "celery" in sys.argv:\n    import tests.chaos.preload\n'
TUNING = {
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "6",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "600",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64",
    # What a dead worker ran is found by its missing heartbeats, what it had only taken from the broker by its age.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
}


@pytest.fixture(scope="module")
def night(postgresql, redis, tmp_path_factory):
    root = tmp_path_factory.mktemp("night")
    home = root / "airflow"
    (home / "config").mkdir(parents=True)
    (home / "config" / "airflow_local_settings.py").write_text(PRELOAD)
    (root / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"batched {n}"}) + "\n" for n in range(BATCHED)))
    variables = {
        **TUNING,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgresql.url,
        "AIRFLOW__CELERY__BROKER_URL": redis.url,
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "VEO_NIGHT": str(root),
    }
    with sandbox.running(generation_seconds=GENERATION_SECONDS, video_seconds=0.2, api_key=CANARY) as relay:
        airflow = make_airflow(home, DAGS, **variables)
        airflow.run("db", "migrate")
        tell("PostgreSQL holds Airflow's tables")
        with Services(airflow, SERVICES, executor="CeleryExecutor", parallelism=12, keeps_up=True) as services:
            for name, seconds in sorted(services.seconds_to_start.items(), key=lambda item: item[1]):
                tell(f"{name} was up after {seconds:.1f} s")
            night = Night(services, relay, postgresql)
            night.store_connection(CANARY, is_new=True)
            night.begin()
            night.wait_for_the_first_wave()
            night.kill_a_worker()
            night.kill_a_triggerer()
            night.kill_a_scheduler()
            night.restart_the_database()
            waiting_at_rotation = night.rotate_the_key(ROTATED)
            state = night.end()
            tell(f"services that ended by themselves, and were started again: {dict(services.ended_by_itself)}")
        yield SimpleNamespace(
            root=root,
            state=state,
            strikes=night.strikes,
            waiting_at_rotation=waiting_at_rotation,
            rows={(row.task_id, row.map_index): row for row in airflow.task_instances(DAG_ID, RUN_ID)},
            past=airflow.query(
                f"SELECT task_id, map_index, hostname, state, start_date, end_date FROM {EARLIER_TRIES} earlier"
            ),
            xcoms=airflow.xcoms(DAG_ID, RUN_ID),
            logs=airflow.task_logs(DAG_ID, RUN_ID),
            results=[json.loads(line) for line in (root / "batch" / "results.jsonl").read_text().splitlines()],
            stats=relay.stats(),
            videos={video["prompt"]: video for video in relay.videos()},
            services_logs={name: services.log(name) for name in SERVICES},
            written={
                "Airflow": airflow.everything_it_wrote(),
                "the sandbox": relay.output(),
                "PostgreSQL": postgresql.log(),
                "Redis": redis.log() + redis.everything_it_was_told().decode("latin-1"),
            },
        )


@pytest.fixture(scope="module")
def unknown(night):
    """Prompts of which nobody can know whether they were accepted, and which are reported as that."""
    logs: dict[str, str] = defaultdict(str)
    for name, text in night.logs.items():
        logs[name.rpartition("/")[0]] += text
    singles = {
        f"single {index}"
        for index in range(SINGLE)
        if night.rows["video.create", index].state == "failed"
        and UNKNOWN in logs[f"task_id=video.create/map_index={index}"]
    }
    found = singles | {row["request"]["prompt"] for row in night.results if row["state"] == "unknown"}
    tell(f"{len(found)} videos were reported as unknown: {sorted(found)}")
    return found


def test_every_part_died_with_work_under_way(night):
    assert set(night.strikes) == {"worker", "triggerer", "scheduler"}
    assert ("batch", -1) in night.strikes["worker"].struck
    assert all(strike.struck for strike in night.strikes.values())


def test_a_task_that_died_with_its_worker_is_tried_again(night):
    worker = night.strikes["worker"]
    again = {(task_id, map_index) for task_id, map_index, host, *_ in night.past if host == worker.service}
    assert again & set(worker.struck), (again, worker)


def test_every_video_ends(night, unknown):
    assert {row["state"] for row in night.results} <= {"succeeded", "unknown"}
    assert night.rows["batch", -1].state == "success"
    for index in range(SINGLE):
        states = night.rows["video.create", index].state, night.rows["video.wait", index].state
        assert states == (("failed", "upstream_failed") if f"single {index}" in unknown else ("success", "success"))
    assert night.state == ("failed" if any(prompt.startswith("single") for prompt in unknown) else "success")


def test_none_is_paid_for_twice(night):
    assert night.stats["paid_twice"] == {}
    assert night.stats["accepted"] == len(night.videos) <= BATCHED + SINGLE


def test_nothing_is_lost(night, unknown):
    known = {f"single {index}": night.xcoms.get(("video.create", "return_value", index)) for index in range(SINGLE)}
    known |= {row["request"]["prompt"]: row["id"] for row in night.results}
    assert len(known) == BATCHED + SINGLE
    accepted = {prompt: video["id"] for prompt, video in night.videos.items()}
    certain = known.keys() - unknown
    assert {prompt: known[prompt] for prompt in certain} == {prompt: accepted.get(prompt) for prompt in certain}
    assert accepted.keys() - certain <= unknown


def test_each_wait_ends_with_its_own_video(night, unknown):
    for index in range(SINGLE):
        if f"single {index}" not in unknown:
            video = night.xcoms["video.wait", "return_value", index]
            assert (video["id"], video["state"]) == (night.videos[f"single {index}"]["id"], "succeeded")


def test_the_files_are_whole_and_as_many_as_the_results_say(night):
    stored = [row for row in night.results if row["state"] == "succeeded"]
    files = {Path(urlsplit(row["file"]).path): row["sha256"] for row in stored}
    assert len(files) == len(stored) >= BATCHED - 32
    posters = {Path(urlsplit(row["poster"]).path) for row in stored}
    assert len(posters) == len(files)
    assert {path for path in (night.root / "batch" / "videos").rglob("*") if path.is_file()} == files.keys() | posters
    for path, digest in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_the_pool_limits_what_pays_at_once(night):
    tries = [(row.start_date, row.end_date) for (task, _), row in night.rows.items() if task == "video.create"]
    tries += [(start, end) for task, _, _, _, start, end in night.past if task == "video.create" and start]
    changes = sorted([(start, 1) for start, _ in tries] + [(end, -1) for _, end in tries])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    assert 2 <= most <= SLOTS
    tell(f"{most} creates ran at once, in a pool of {SLOTS} slots")


def test_a_rotated_key_is_picked_up_everywhere(night):
    assert night.stats["answers"]["create"].get("401", 0) == 0
    assert night.stats["answers"]["query"].get("401", 0) >= 1
    assert sum(night.waiting_at_rotation.values()) >= 1


def test_both_workers_worked(night):
    assert {row.hostname for row in night.rows.values() if row.hostname} == set(WORKERS)
    tell(f"tasks that ended on each worker: {dict(Counter(row.hostname for row in night.rows.values()))}")


def test_no_key_is_anywhere(night):
    assert night.videos["single 0"]["id"] in night.written["Airflow"]
    assert "celery-task-meta" in night.written["Redis"] or "execute_workload" in night.written["Redis"]
    forms = forms_of(CANARY)
    assert [(name, form) for name, text in night.written.items() for form in forms if form in text] == []


def forms_of(key):
    """Return the key, and what is sure to be in any text that was encoded in Base64 with the key in it."""
    encoded = [base64.b64encode(b" " * shift + key.encode()).decode()[4 if shift else 0 : -4] for shift in range(3)]
    return [key, *encoded]
