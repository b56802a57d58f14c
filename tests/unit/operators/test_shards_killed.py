"""Shards as processes that are killed: nothing is billed twice or lost, and all limits hold in total."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter

import pytest

from airflow_provider_veo.operators import VeoMergeShardsOperator, VeoVideoBatchOperator
from tests.unit.task_context import TaskInstance, run

SHARDS, JOBS, MAX_IN_FLIGHT, ROUNDS_OF_KILLS = 4, 48, 8, 2
MAX_SUBMISSIONS = JOBS + 6
"""What ``max_cost`` pays for: fewer than all jobs whose generation fails would need."""
CREATES_AT_ONCE = 5
"""The most that a killed process may leave unknown."""
PRICE = 0.4


def start(index, tried, arguments):
    """Start a try of a shard in a process of its own, and return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        instance = TaskInstance()
        instance.map_index, instance.try_number = index, tried
        run(instance, lambda: VeoVideoBatchOperator(task_id="make", shard=index, shards=SHARDS, **arguments))
        code = 0
    finally:
        os._exit(code)


def generating(relay):
    return sum(video["state"] == "running" for video in relay.videos())


@pytest.mark.slow
def test_shards_that_are_killed_bill_nothing_twice_and_lose_nothing(relay, connect, tmp_path, ti):
    connect(extra={"prices": {"veo3-fast": PRICE}})
    relay.configure(generation_seconds=0.5, video_seconds=0.2)
    relay.set_faults("failed=no luck@30%")
    folder, chance = tmp_path / "batch", random.Random(7)
    manifest = tmp_path / "prompts.csv"
    manifest.write_text("prompt\n" + "".join(f"prompt {number}\n" for number in range(JOBS)))
    arguments = {"manifest": manifest.as_uri(), "result_path": folder.as_uri(), "model": "veo3-fast"}
    arguments |= {"max_in_flight": MAX_IN_FLIGHT, "max_cost": MAX_SUBMISSIONS * PRICE, "attempts_per_video": 3}
    arguments |= {"poll_interval": 0.1, "deferrable": False}

    highest, kills, ended = 0, 0, {}
    running = {start(index, 1, arguments): (index, 1) for index in range(SHARDS)}
    kill_at = {child: time.monotonic() + chance.uniform(0.7, 2) for child in running}
    while running:
        highest = max(highest, generating(relay))
        for child, (index, tried) in list(running.items()):
            if tried <= ROUNDS_OF_KILLS and time.monotonic() > kill_at[child]:
                os.kill(child, signal.SIGKILL)
            found, status = os.waitpid(child, os.WNOHANG)
            if not found:
                continue
            del running[child]
            if os.WIFSIGNALED(status):
                kills += 1
                running[again := start(index, tried + 1, arguments)] = index, tried + 1
                kill_at[again] = time.monotonic() + chance.uniform(0.7, 2)
            else:
                ended[index] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)

    assert ended == dict.fromkeys(range(SHARDS), 0)
    assert kills
    done = VeoMergeShardsOperator(task_id="merge", result_path=folder.as_uri()).execute(TaskInstance("merge").context)
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [row["request"]["prompt"] for row in rows] == [f"prompt {number}" for number in range(JOBS)]
    states = Counter(row["state"] for row in rows)
    # What may have been billed is not spent on anything else, so some jobs may be left over.
    assert set(states) <= {"succeeded", "unknown", "failed", "not_submitted"}
    assert states["unknown"] <= kills * CREATES_AT_ONCE
    assert states["not_submitted"] <= states["unknown"] + states["failed"]
    assert done["succeeded"] == states["succeeded"]

    videos = relay.videos()
    assert JOBS < len(videos) <= MAX_SUBMISSIONS
    # Only a job whose video failed was submitted again.
    assert max(Counter(video["prompt"] for video in videos if video["state"] != "failed").values()) == 1
    known = {veo_task_id for row in rows for veo_task_id in (row["id"], *row["earlier_ids"])}
    unknown = {row["request"]["prompt"] for row in rows if row["state"] == "unknown"}
    assert {video["prompt"] for video in videos if video["id"] not in known} <= unknown
    assert 0 < highest <= MAX_IN_FLIGHT + states["unknown"]  # which nobody knows to be generated
