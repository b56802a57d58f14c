"""
Five thousand videos waited for in one event loop: ``VeoVideoTrigger``, against the HTTP provider's polling trigger.

The counterpart is ``HttpSensorTrigger``, which a user gets with ``HttpSensor(deferrable=True)`` on a connection of type
``http``. Each side has a fresh process, with nothing in it but the loop, the triggers, and a coroutine that measures
how late the loop wakes it, whose CPU time is counted for both. Both poll the same videos of the same sandbox, which is
a third process, at the same URL with the same key and poll interval. Their first polls are spread over an interval. The
sandbox counts the polls. The measured window, in which each video is polled once or twice, begins after each was polled
once.

**What the relay answers.** ``HttpSensorTrigger`` takes every 2xx for the end: of the answers of this protocol there is
only one that it waits on, a 404. So it gets 404, and ours the 200 of a pending video. The relay's work is the same: it
checks the key, looks the video up and answers with a few hundred bytes. That trigger does not read the answer; ours
understands it. But an answer that is raised as an error costs the counterpart more than a 200 would. So there is a
third side, kinder than any trigger that exists: ``HttpSensorTrigger`` gets the very answers that ours gets, and each
time that it takes one for the video it is sent to wait again, with its hook and looked up connection kept. The targets
are for the trigger as it is.

**CPU** is the process's own time in the window, divided by the polls that the sandbox counted in it. It is a mean,
because garbage is collected in bursts. A side that falls behind its interval polls less. **Memory** is what 5,000
triggers, each of which has polled two or three times, add to the process's resident set, after a garbage collection.
One trigger waits for a while before, so that modules and pools are loaded. **Lag** is by how much a sleep of 10 ms is
too long.

**Polls in a life** need no clock: ``Wait`` computes, for a time that is made up, when it would poll a video that the
create operator submits and that takes two minutes. The counterpart polls once before it defers, at once in the
triggerer, and then at its fixed interval.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_veo import sandbox
from airflow_provider_veo.protocol import payload
from airflow_provider_veo.protocol.waiting import FIRST_LOOK_INTERVALS, Wait
from bench import show
from bench.payload import ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_veo.sandbox import Sandbox

OURS, THEIRS, KEPT_ON = "ours", "theirs", "theirs kept on"
NAMES = {
    OURS: "VeoVideoTrigger",
    THEIRS: "HttpSensorTrigger, on 404",
    KEPT_ON: "HttpSensorTrigger, on 200 and sent to wait again",
}
STATUS = {OURS: 200, THEIRS: 404, KEPT_ON: 200}
"""What the relay answers."""
VIDEOS = 5000
POLL_INTERVAL = 15.0
"""A third of a thousand polls per second: about two thirds of a core for the slowest side."""
WINDOW_SECONDS = 25.0
GIVE_UP_SECONDS = 150.0

CPU_TARGET = 0.33
MEMORY_TARGET = 0.5
LAG_TARGET_MILLISECONDS = 100

GENERATION_SECONDS = 120.0
LIVES = 2000


@dataclass
class Side:
    """What one process found."""

    polls: int
    """In the window."""
    cpu: float
    """Seconds in the window."""
    resident: int
    """Bytes that the waiting videos added."""
    lag: list[float]
    """Seconds by which each short sleep was too long."""

    @property
    def cpu_per_poll(self) -> float:
        return self.cpu / self.polls

    @property
    def lag_99(self) -> float:
        return statistics.quantiles(self.lag, n=100, method="inclusive")[98]


@dataclass
class Life:
    """The number of polls until a video is ready, and the seconds until that is known, for each life."""

    polls: list[int]
    late: list[float]


def measure() -> tuple[dict[str, Side], dict[str, Life]]:
    """Return what each side costs, and its polls in a life."""
    with sandbox.running(generation_seconds=1e6) as relay:
        os.environ["AIRFLOW_CONN_VEO_DEFAULT"] = relay.connection
        os.environ["AIRFLOW_CONN_RELAY"] = _http_connection(relay)
        ids = submit(relay, VIDEOS)
        sides = {side: _run(relay, side, ids) for side in (OURS, THEIRS, KEPT_ON)}
    chance = random.Random(0)
    lives = {OURS: _lives(_our_life, chance), THEIRS: _lives(_fixed_life, chance)}
    return sides, lives


def report(found: tuple[dict[str, Side], dict[str, Life]]) -> None:
    """Print both tables, and the verdicts."""
    sides, lives = found
    _report_sides(sides)
    _report_verdicts(sides)
    _report_lives(lives)


def _report_sides(sides: dict[str, Side]) -> None:
    table = show.table(
        f"{VIDEOS} videos in one loop, each polled every {POLL_INTERVAL:g} s: {WINDOW_SECONDS:g} s of it",
        "trigger",
        "polls",
        "CPU per poll",
        "of one core",
        "memory for each\nvideo, resident",
        "lag: median",
        "99th percentile",
    )
    for name, side in sides.items():
        table.add_row(
            NAMES[name],
            f"{side.polls}",
            f"{side.cpu_per_poll * 1e6:.0f} µs",
            f"{side.cpu / WINDOW_SECONDS:.0%}",
            f"{side.resident / VIDEOS / 1024:.1f} KiB",
            f"{statistics.median(side.lag) * 1e3:.1f} ms",
            f"{side.lag_99 * 1e3:.1f} ms",
        )
    show.console.print(table)


def _report_verdicts(sides: dict[str, Side]) -> None:
    ours, theirs, kept_on = sides[OURS], sides[THEIRS], sides[KEPT_ON]
    cpu = [ours.cpu_per_poll / side.cpu_per_poll for side in (theirs, kept_on)]
    memory = [ours.resident / side.resident for side in (theirs, kept_on)]
    show.console.print(f"CPU, ratio: {show.verdict(cpu[0], CPU_TARGET)}; to the one sent to wait again {cpu[1]:.2f}")
    show.console.print(
        f"Memory, ratio: {show.verdict(memory[0], MEMORY_TARGET)}; to the one sent to wait again {memory[1]:.2f}"
    )
    show.console.print(f"Our lag: {show.verdict(ours.lag_99 * 1e3, LAG_TARGET_MILLISECONDS, ' ms')}")


def _report_lives(lives: dict[str, Life]) -> None:
    table = show.table(
        f"A video that takes {GENERATION_SECONDS:g} s, at the default poll interval: {LIVES} lives, mean",
        "wait",
        "polls",
        "known after",
    )
    for name, label in ((OURS, "create operator, deferrable"), (THEIRS, "HttpSensor, deferrable, fixed interval")):
        life = lives[name]
        table.add_row(label, f"{statistics.mean(life.polls):.1f}", f"{statistics.mean(life.late):.1f} s")
    show.console.print(table)


def _http_connection(relay: Sandbox) -> str:
    """Return the counterpart's connection: the key is in its extra, which the HTTP provider sends as headers."""
    headers = {"Authorization": f"Bearer {relay.api_key}", "Accept": "application/json"}
    return json.dumps({"conn_type": "http", "host": relay.url, "extra": headers})


def submit(relay: Sandbox, videos: int) -> list[str]:
    """Submit this number of videos, and return their ids."""
    body = json.dumps(payload.build(**ARGUMENTS)).encode()
    headers = {
        "Authorization": f"Bearer {relay.api_key}",
        "Content-Type": "application/json",
        "Accept": "application/json",
    }
    kept = http.client.HTTPConnection(urlsplit(relay.url).netloc)
    ids = []
    for _ in range(videos):
        kept.request("POST", "/v1/video/create", body, headers)
        ids.append(json.load(kept.getresponse())["id"])
    kept.close()
    return ids


def _run(relay: Sandbox, side: str, ids: list[str]) -> Side:
    # A fault of a video and not of a request: the relay checks and looks up what it does for a 200.
    relay.set_faults(*(["not-found-first=1000000"] if STATUS[side] == 404 else []))
    before = _answers(relay)
    orders = {
        "side": side,
        "ids": ids,
        "poll_interval": POLL_INTERVAL,
        "window_seconds": WINDOW_SECONDS,
        "give_up_seconds": GIVE_UP_SECONDS,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "bench.waiter"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    ) as process:
        process.stdin.write(json.dumps(orders))
        process.stdin.close()
        _next(process, "begins")
        at_the_beginning = _answers(relay).total()
        found = _next(process, "ends")
        answers = _answers(relay)
    _check(relay, side, answers - before, found["waiting"])
    return Side(answers.total() - at_the_beginning, found["cpu"], found["resident"], found["lag"])


def _next(process: subprocess.Popen[str], window: str) -> dict[str, Any]:
    for line in process.stdout:
        # Whatever else is printed there is a log's.
        if line.startswith('{"window"'):
            said = json.loads(line)
            if said["window"] == window:
                return said
    raise RuntimeError(f"the process ended before its window {window}")


def _answers(relay: Sandbox) -> Counter[str]:
    return Counter(relay.stats()["answers"].get("query", {}))


def _check(relay: Sandbox, side: str, answers: Counter[str], waiting: int) -> None:
    """Make sure that the side waited, for every video, with the request that it should have sent."""
    sent = {
        (request["method"], request["path"], request["query"][:3], request["authorized"])
        for request in relay.requests("query")
    }
    if sent != {("GET", "/v1/video/query", "id=", True)} or set(answers) != {str(STATUS[side])}:
        raise RuntimeError(f"{side}: sent {sent}, and received {answers}: the numbers mean nothing")
    if waiting != VIDEOS:
        raise RuntimeError(f"{side}: only {waiting} of {VIDEOS} still waited at the end: the numbers mean nothing")


def _lives(live: Callable[[random.Random], tuple[int, float]], chance: random.Random) -> Life:
    polls, known = zip(*(live(chance) for _ in range(LIVES)), strict=True)
    return Life(list(polls), [at - GENERATION_SECONDS for at in known])


def _our_life(chance: random.Random) -> tuple[int, float]:
    """Return the number of polls, and the time of the last one."""
    wait = Wait("id", started=0, timeout=3600, poll_interval=POLL_INTERVAL, due=FIRST_LOOK_INTERVALS * POLL_INTERVAL)
    now, polls = wait.seconds_to_first(0, chance.random()), 1
    while now < GENERATION_SECONDS:
        now += wait.seconds_to_next(now, chance.random())
        polls += 1
    return polls, now


def _fixed_life(chance: random.Random) -> tuple[int, float]:
    # The worker's poll, and the triggerer's first one some seconds later.
    now, polls = chance.random() * POLL_INTERVAL, 2
    while now < GENERATION_SECONDS:
        now += POLL_INTERVAL
        polls += 1
    return polls, now
