"""Whether a batch kept the promises: nothing is billed twice, nothing is lost, and each row is true."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from airflow_provider_veo.batch.slots import CREATES_AT_ONCE
from tests.chaos.batch_points import HARMLESS, PLACES
from tests.chaos.batches import JOBS, PRICE, REFUSED_FOR_GOOD
from tests.chaos.plans import FAILED, GENERATION_SECONDS, QUOTA, UNKNOWN
from tests.chaos.points import WHILE_DEFERRED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.chaos.batch_evidence import Ended, Job

STATES = ("succeeded", "not_stored", "failed", "blocked", "refused", "unknown", "timed_out", "not_submitted")
OF_THE_RELAY = {"succeeded": "succeeded", "not_stored": "succeeded", "failed": "failed"}
SAID_WHEN_FAILED = "jobs succeeded. Result of each"
SHOWN = 4


def broken_promises(run: Ended) -> list[str]:
    """Say what is wrong with a batch, for a human."""
    if run.state not in ("success", "failed"):
        return [f"ended in state {run.state}"]
    if not run.rows:
        return ["wrote no results"]
    if not run.is_complete:
        return ["its rows are not those of its jobs, each once, in their order"]
    of_jobs = [f"job {job.number} ({job.row['state']}): {text}" for job in run.jobs for text in _of_a_job(run, job)]
    more = [f"and {len(of_jobs) - SHOWN} more"] if len(of_jobs) > SHOWN else []
    return [*of_jobs[:SHOWN], *more, *_of_all(run)]


def paid_twice(run: Ended) -> list[int]:
    """Return the jobs of which a video was accepted though the one before had not failed."""
    return [job.number for job in run.jobs if _paid_again(run, job) > _may_be_paid_again(run, job)]


def lost(run: Ended) -> list[int]:
    """Return the jobs with an accepted video that is neither in its row, nor an earlier one, nor unknown."""
    return [job.number for job in run.jobs if _forgotten(job) > _may_be_unknown(run, job)]


def harmful(run: Ended) -> int:
    """Return how many strikes can have left something unknown."""
    return sum(
        strike["manner"] == "freeze" or (strike["point"] not in HARMLESS and strike["manner"] != "terminate")
        for strike in run.strikes
    )


def _paid_again(run: Ended, job: Job) -> int:
    after_all = sum(
        before["state"] != "failed" or after["accepted_at"] < before["accepted_at"] + GENERATION_SECONDS
        for before, after in zip(job.videos, job.videos[1:], strict=False)
    )
    return max(after_all, len(job.videos) - run.plan.attempts)


def _may_be_unknown(run: Ended, job: Job) -> int:
    """How many submissions of a job nobody may know the end of, at most."""
    if run.plan.resubmits:
        return harmful(run) + sum(fault in UNKNOWN for fault in job.faults)
    return job.row["state"] == "unknown"


def _may_be_paid_again(run: Ended, job: Job) -> int:
    return _may_be_unknown(run, job) if run.plan.resubmits else 0


def _forgotten(job: Job) -> int:
    return len({video["id"] for video in job.videos} - job.ids - {job.row["id"]})


def _of_a_job(run: Ended, job: Job) -> Iterator[str]:
    row, state, plan = job.row, job.row["state"], run.plan
    by_id = {video["id"]: video for video in job.videos}
    mine, has_file = by_id.get(row["id"]), bool(row["file"])
    known = len(job.ids)
    # Who was frozen may record what became of it when others have written already that nobody knows.
    counted = {known - 1, known} if state == "unknown" and _was_frozen(run) else {known}
    causes = {
        "unknown": not plan.resubmits and (harmful(run) or any(fault in UNKNOWN for fault in job.faults)),
        "not_submitted": any(QUOTA in faults for faults in plan.faults.values()),
        "refused": any(fault in REFUSED_FOR_GOOD for fault in job.faults),
        "failed": any(fault.startswith(FAILED) for fault in job.faults),
        "not_stored": any(fault.startswith("file:") for fault in job.faults),
        "succeeded": True,
    }
    wrong = {
        "billed twice": job.number in paid_twice(run),
        "lost": job.number in lost(run),
        "has no reason to be so": not causes.get(state),
        "has an id that the relay doesn't know": row["id"] is not None and mine is None,
        f"has ids that the relay doesn't know: {job.ids - set(by_id)}": not job.ids <= set(by_id),
        "should have an id": (state in OF_THE_RELAY) != (row["id"] is not None),
        f"is {mine and mine['state']} at the relay": bool(mine) and mine["state"] != OF_THE_RELAY.get(state),
        "is not its last video": bool(mine) and not plan.resubmits and mine is not job.videos[-1],
        "asked for something else": bool(mine) and mine["prompt"] != row["request"]["prompt"],
        "was accepted": state in ("refused", "not_submitted") and any(v["state"] != "failed" for v in job.videos),
        "has attempts left": state == "failed" and known < plan.attempts and not causes["not_submitted"],
        f"says {row['attempts']} attempts, and {known} are known": row["attempts"] - (state == "unknown")
        not in counted,
        f"costs {row['cost']}, and {known} are known": round(row["cost"], 6)
        not in {round(number * PRICE, 6) for number in counted},
        "says nothing of its end": (state == "succeeded") != (row["error"] is None),
        "has no URL": state in ("succeeded", "not_stored") and not row["video_url"],
        "should have a file": has_file != (state == "succeeded" and plan.download),
        "has another file than it says": has_file and not _is_its_file(run, job),
    }
    return (text for text, is_so in wrong.items() if is_so)


def _was_frozen(run: Ended) -> bool:
    return any(strike["manner"] == "freeze" for strike in run.strikes)


def _is_its_file(run: Ended, job: Job) -> bool:
    name = job.row["file"].rpartition(f"/{run.plan.seed}/")[2]
    content = run.files.get(name, b"")
    return (hashlib.sha256(content).hexdigest(), len(content)) == (job.row["sha256"], job.row["bytes"])


def _of_all(run: Ended) -> Iterator[str]:
    counts = Counter(row["state"] for row in run.rows)
    told = {state: run.summary.get(state) for state in STATES}
    cost = round(sum(row["cost"] for row in run.rows), 6)
    unexplained = sum(
        job.row["state"] == "unknown" and not any(fault in UNKNOWN for fault in job.faults) for job in run.jobs
    )
    should_fail = counts["succeeded"] < JOBS and (run.plan.all_or_fail or not counts["succeeded"])
    wrong = {
        f"its summary counts {told}, and its rows {dict(counts)}": told != {state: counts[state] for state in STATES},
        f"its summary has {run.summary.get('total')} jobs": run.summary.get("total") != JOBS,
        f"its summary says {run.summary.get('cost')}, and its rows {cost}": run.summary.get("cost") != cost,
        f"is in state {run.state}": (run.state == "failed") != should_fail,
        "failed without a reason": run.state == "failed" and SAID_WHEN_FAILED not in run.log,
        # Airflow takes the XCom of a process that it thinks dead.
        f"returned {run.result}": run.state == "success"
        and not _was_frozen(run)
        and {name: (run.result or {}).get(name) for name in told} != told,
        f"{unexplained} are unknown for {harmful(run)} strikes": unexplained > harmful(run) * CREATES_AT_ONCE,
    }
    return (text for text, is_so in wrong.items() if is_so)


def line(run: Ended) -> str:
    """Say what became of a batch, in a few lines."""
    struck = ", ".join(f"{strike['manner']} {strike['point']} (try {strike['try']})" for strike in run.strikes)
    counts = Counter(row["state"] for row in run.rows)
    became = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return (
        f"{run.plan.seed}: {run.plan}\n    -> {run.state} in {run.tries} tries, {run.accepted} accepted: "
        f"{became or 'no results'}; struck: {struck or 'never'}"
    )


def table(runs: Iterable[Ended]) -> str:
    """Return a Markdown table of what became of the batches that were struck at each place."""
    runs = list(runs)
    lines = [
        f"| place | strikes | batches | {' | '.join(STATES)} | accepted | billed twice | lost |",
        f"| --- |{' ---: |' * (len(STATES) + 5)}",
    ]
    for place in (*PLACES, WHILE_DEFERRED, None):
        here = [run for run in runs if place is None or any(strike["point"] == place for strike in run.strikes)]
        counts = Counter(row["state"] for run in here for row in run.rows)
        cells = [
            sum(place in (None, strike["point"]) for run in here for strike in run.strikes),
            len(here),
            *(counts[state] for state in STATES),
            sum(run.accepted for run in here),
            sum(len(paid_twice(run)) for run in here),
            sum(len(lost(run)) for run in here),
        ]
        lines.append(f"| {place or 'all'} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
