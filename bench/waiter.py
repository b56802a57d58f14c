"""
One side of ``bench.waiting`` in a process of its own: ``python -m bench.waiter``, its orders on the standard input.

It prints ``{"window": "begins"}`` when every video has been asked for, and what it measured when the window is over.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.triggers.base import BaseTrigger

PROBE_SECONDS = 0.01


def main() -> None:
    orders = json.load(sys.stdin)
    _silence()
    asyncio.run(_measure(orders))


async def _measure(orders: dict[str, Any]) -> None:
    waits, interval = WAITS[orders["side"]], orders["poll_interval"]
    await _warm_up(waits(orders["ids"][0], 0.2))
    before = _rss()
    tasks = [asyncio.create_task(_run(waits(veo_task_id, interval))) for veo_task_id in orders["ids"]]
    # The longest that anyone takes to ask for the first time, and some time for the last answer.
    await asyncio.sleep(interval + 3)
    _say(window="begins")
    lag, cpu = await _watch(orders["window_seconds"])
    _say(window="ends", cpu=cpu, lag=lag, rss=_rss() - before, waiting=sum(not task.done() for task in tasks))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(seconds: float) -> tuple[list[float], float]:
    """Return by how much each short sleep was too long, and the CPU seconds that everything together took."""
    lag: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        await asyncio.sleep(PROBE_SECONDS)
        lag.append(time.perf_counter() - now - PROBE_SECONDS)
    return lag, time.process_time() - cpu


async def _warm_up(wait: Callable[[], Any]) -> None:
    """Ask for one video a few times: what the first question loads and keeps belongs to none of those that wait."""
    task = asyncio.create_task(_run(wait))
    await asyncio.sleep(2)
    if task.done():
        raise RuntimeError("it did not wait") from task.exception()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _run(wait: Callable[[], Any]) -> None:
    await wait()


def _ours(veo_task_id: str, interval: float) -> Callable[[], Any]:
    from airflow_provider_veo.triggers import VeoVideoTrigger

    now = time.time()
    # It spreads its first question over an interval by itself.
    trigger = VeoVideoTrigger(veo_task_id, started=now, poll_interval=interval, due=now)
    return lambda: _until_it_fires(trigger)


def _theirs(veo_task_id: str, interval: float) -> Callable[[], Any]:
    trigger = _sensor_trigger(veo_task_id, interval)

    async def run() -> None:
        # It asks at once. Five thousand that begin at once would ask together, again and again.
        await asyncio.sleep(random.random() * interval)
        await _until_it_fires(trigger)

    return run


def _theirs_kept_on(veo_task_id: str, interval: float) -> Callable[[], Any]:
    trigger: Any = _sensor_trigger(veo_task_id, interval)
    hook = trigger._get_async_hook()
    trigger._get_async_hook = lambda: hook

    async def run() -> None:
        await asyncio.sleep(random.random() * interval)
        while True:
            await _until_it_fires(trigger)
            await asyncio.sleep(interval)

    return run


def _sensor_trigger(veo_task_id: str, interval: float) -> BaseTrigger:
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    return HttpSensorTrigger(
        endpoint="v1/video/query", http_conn_id="relay", data={"id": veo_task_id}, poke_interval=interval
    )


async def _until_it_fires(trigger: BaseTrigger) -> None:
    async for _ in trigger.run():
        return


WAITS = {"ours": _ours, "ours-404": _ours, "theirs": _theirs, "theirs-kept-on": _theirs_kept_on}


def _rss() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def _silence() -> None:
    """Write no log on either side: the counterpart's has a line for each question."""
    import airflow.triggers.base  # noqa: F401  Airflow sets its logging up when it is imported
    import structlog

    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
