"""
A batch of one size in a process of its own, for ``bench.scale``: ``python -m bench.scale_side MANIFEST FOLDER``.

Prints what it took as JSON: seconds of each step, peak memory in bytes, and the journal's files and bytes.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.batch import inputs
from airflow_provider_veo.batch.options import Options
from airflow_provider_veo.batch.results import Results
from airflow_provider_veo.connection import Account, VeoConnection
from airflow_provider_veo.journal.batch_journal import BatchJournal
from airflow_provider_veo.journal.submission import Submission
from airflow_provider_veo.protocol import VideoTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_veo.batch.jobs import Job

GROUP = Options().enough_slots
ACCOUNT = Account("veo_default", "https://relay.example.com")
PRICE = 0.4
_OWNER = {"dag_id": "bench", "run_id": "measured", "task_id": "make", "map_index": -1}
_SETTINGS = VeoConnection("veo_default", "https://relay.example.com", "key")


def main() -> None:
    manifest, folder = sys.argv[1], Path(sys.argv[2])
    log = logging.getLogger("bench")
    journal = ObjectStoragePath(f"file://{folder}/_journal")
    seconds: dict[str, float] = {}
    clock = _clock(seconds)

    first = BatchJournal(journal, _OWNER, log)
    asked = inputs.BatchInput(None, f"file://{manifest}", {"aspect_ratio": "16:9"}, render=str)
    asked_for = asked.read(first, _SETTINGS, log)
    clock("validation")

    first.begin()
    inputs.settled(first, asked_for)
    _write(first, asked_for.jobs)
    clock("writing")
    size = [path.stat().st_size for path in (folder / "_journal").iterdir()]

    del asked_for, first  # it is another process that reads
    time_to_read = BatchJournal(journal, _OWNER, log)
    clock("")
    jobs, records = inputs.recorded(time_to_read).jobs, time_to_read.begin()
    clock("reading")

    short = Results(jobs, records, ACCOUNT, download=False).write(ObjectStoragePath(f"file://{folder}"), {})
    clock("results")
    if short["succeeded"] != len(jobs):
        raise RuntimeError(f"not all were on record: {short}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({**seconds, "peak": peak, "files": len(size), "bytes": sum(size)}))


def _clock(seconds: dict[str, float]):
    begun = time.perf_counter()

    def stop(name: str) -> None:
        nonlocal begun
        seconds[name] = time.perf_counter() - begun
        begun = time.perf_counter()

    return stop


def _write(journal: BatchJournal, jobs: list[Job]) -> None:
    """Write as the writer does: what was received since the last intents is written with the next ones."""
    accepted: list[Submission] = []
    ended: list[Submission] = []
    for group in _groups(jobs):
        intents = [Submission.intend(job.wanted(ACCOUNT), None, PRICE) for job in group]
        journal.intend([*ended, *intents])
        accepted = [intent.accepted_video(_video(job, "running")) for job, intent in zip(group, intents, strict=True)]
        journal.write(accepted)
        ended = [record.ended(_video(job, "succeeded")) for job, record in zip(group, accepted, strict=True)]
    journal.write(ended)


def _groups(jobs: list[Job]) -> Iterator[list[Job]]:
    for start in range(0, len(jobs), GROUP):
        yield jobs[start : start + GROUP]


def _video(job: Job, state: str) -> VideoTask:
    running = VideoTask(f"{job.body['model']}:{job.key}", job.body["model"], "running", "pending")
    if state == "running":
        return running
    url = f"https://files.example.com/{job.key}.mp4"
    return replace(running, state="succeeded", status="completed", video_url=url, enhanced_prompt=job.body["prompt"])


if __name__ == "__main__":
    main()
