"""
Building and validating one request, against ``jsonschema.validate`` of the same body with the same schema.

The counterpart is what a user would write instead. It checks and compiles the schema with every call, which
``payload.build`` does once in a process; so the compiled validator alone stands beside it, and says how much of
``build`` is jsonschema's own work. ``build`` also reads the arguments and puts the body together, which the other two
are spared: they get it ready made. The three take turns, and all go through the same interpreter, schema and body.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import jsonschema

from airflow_provider_veo.protocol import payload
from airflow_provider_veo.protocol.models import CATALOG
from bench import show

if TYPE_CHECKING:
    from collections.abc import Callable

BUILD = "payload.build"
COMPILED = "its compiled validator alone"
VALIDATE = "jsonschema.validate(body, schema)"
TARGET_MICROSECONDS = 150
RUNS = 25
CALLS = {BUILD: 200, COMPILED: 200, VALIDATE: 10}
"""How many calls one run is the mean of; the slow one needs fewer."""
MODEL = CATALOG["veo3.1-components"]
ARGUMENTS = {
    "prompt": "雨夜的上海外滩，一只橘猫撑着红色油纸伞走过湿漉漉的石板路，霓虹灯的倒影在水洼里轻轻晃动，镜头缓缓推近",
    "model": MODEL.name,
    "images": [f"https://cdn.example.com/elements/{name}.png" for name in ("cat", "umbrella", "bund")],
    "aspect_ratio": "9:16",
}
"""A request as users of this relay make it: the images are elements, as many as the model takes."""


def measure() -> dict[str, list[float]]:
    """Return the seconds of one call, by what is called, once for each run."""
    body = payload.build(**ARGUMENTS)
    schema = payload.request_schema(MODEL)
    validator = payload._validator(MODEL)
    calls: dict[str, Callable[[], object]] = {
        BUILD: lambda: payload.build(**ARGUMENTS),
        COMPILED: lambda: list(validator.iter_errors(body)),
        VALIDATE: lambda: jsonschema.validate(body, schema),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(1 + RUNS):
        for name in reversed(calls) if run % 2 else calls:
            call, count = calls[name], range(CALLS[name])
            start = time.perf_counter()
            for _ in count:
                call()
            took = (time.perf_counter() - start) / len(count)
            if run:  # the first one warms up
                seconds[name].append(took)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    """Print the table."""
    table = show.table(
        f"One valid request ({MODEL.name}, a Chinese prompt, 3 images): {RUNS} runs each",
        "call",
        "median (middle half)",
        "over payload.build",
    )
    for name, times in seconds.items():
        table.add_row(name, show.spread(times, "µs"), f"{show.ratio(times, seconds[BUILD]):.2f}")
    show.console.print(table)
    show.console.print(f"jsonschema's share of payload.build: {show.ratio(seconds[COMPILED], seconds[BUILD]):.0%}")
    microseconds = statistics.median(seconds[BUILD]) * 1e6
    show.console.print(f"payload.build: {show.verdict(microseconds, TARGET_MICROSECONDS, ' µs')}")
