"""
Reading an answer of the relay: from its status, headers and body to a video, or to the error that it is.

The answers are those of the tests' corpus, and a recorded success, the longest that a real relay is known to send.
``json.loads`` of the same body stands beside each: nobody can read it for less. The hook reads an answer for each poll,
so ten thousand videos that wait cost this for each of their polls.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.protocol import VeoError, responses
from bench import show

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET_MICROSECONDS = 20
CALLS = 5_000
"""Each is timed by itself, so that another process that takes the core spoils only few of them."""
WARM_UP = 200
CORPUS = Path(__file__).parents[1] / "tests" / "unit" / "protocol" / "corpus"
SECRETS = ("sk-0123456789abcdef0123456789abcdef0123456789abcdef",)
HEADERS = {
    "Server": "nginx",
    "Date": "Sat, 21 Nov 2026 09:30:00 GMT",
    "Content-Type": "application/json; charset=utf-8",
    "Transfer-Encoding": "chunked",
    "Connection": "keep-alive",
    "Vary": "Accept-Encoding",
    "X-Oneapi-Request-Id": "20261121093000123456789abcdefgh",
    "Strict-Transport-Security": "max-age=31536000",
}
"""As relays send them."""
ANSWERS = (
    ("seed", "accepted"),
    ("vectorengine", "generating, with an error left over"),
    ("vectorengine", "success with errors left over from retries"),
    ("new-api", "success with its own relay's answer inside"),
    ("openai", "running"),
)
"""File and name of the answers that are most frequent, or the longest."""
ERRORS = (("new-api", "no such task"), ("new-api", "no channel"))
"""These are not frequent; an exception with its message costs more than a video."""


def measure() -> dict[str, tuple[list[float], list[float]]]:
    """Return the seconds of reading each answer, and of ``json.loads``, once for each call."""
    calls = {f"{file}: {name}": _calls(_answer(file, name)) for file, name in (*ANSWERS, *ERRORS)}
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in calls}
    for turn in range(WARM_UP + CALLS):
        for name, pair in calls.items():
            for call, times in zip(pair, seconds[name], strict=True):
                start = time.perf_counter()
                call()
                took = time.perf_counter() - start
                if turn >= WARM_UP:
                    times.append(took)
    return seconds


def report(seconds: dict[str, tuple[list[float], list[float]]]) -> None:
    """Print the table."""
    table = show.table(f"Reading an answer: {CALLS} calls each", "answer", "median (middle half)", "json.loads alone")
    for name, (reading, loading) in seconds.items():
        table.add_row(name, show.spread(reading, "µs"), show.spread(loading, "µs"))
    show.console.print(table)
    errors = {f"{file}: {name}" for file, name in ERRORS}
    slowest = max(statistics.median(times) for name, (times, _) in seconds.items() if name not in errors) * 1e6
    show.console.print(f"Slowest video: {show.verdict(slowest, TARGET_MICROSECONDS, ' µs')}")


def _answer(file: str, name: str) -> dict[str, Any]:
    answers = json.loads((CORPUS / f"{file}.json").read_text("utf-8"))["answers"]
    found: dict[str, Any] = next(answer for answer in answers if answer["name"] == name)
    return found


def _calls(answer: dict[str, Any]) -> tuple[Callable[[], object], Callable[[], object]]:
    body = json.dumps(answer["json"], ensure_ascii=False).encode()
    given = (answer["status"], HEADERS, body)

    def read() -> object:
        try:
            if answer["endpoint"] == "create":
                return responses.parse_create(*given, secrets=SECRETS, now=0.0)
            return responses.parse_query(*given, veo_task_id="veo3.1-fast:1770350082-trii1OXZc3", secrets=SECRETS)
        except VeoError as error:
            return error

    return read, lambda: json.loads(body)
