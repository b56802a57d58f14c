"""
One side of ``bench.waiting`` in a process of its own: ``python -m bench.waiter``, with its orders on standard input.

It prints ``{"window": "begins"}`` when every video has been polled, and what it measured when the window is over.
Both sides have the same harness: a task, and a loop over the trigger's events, as the triggerer has. Neither writes
its log, of which the counterpart has a line for each poll.
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
    from collections.abc import Coroutine

    from airflow.triggers.base import BaseTrigger

PROBE_SECONDS = 0.01
"""How long the coroutine sleeps that finds out how late the loop wakes it."""
LAST_ANSWER_SECONDS = 2.0
WARM_UP_SECONDS = 2.0


def main() -> None:
    orders = json.load(sys.stdin)
    _silence()
    asyncio.run(asyncio.wait_for(_measure(**orders), orders["give_up_seconds"]))


async def _measure(side: str, ids: list[str], poll_interval: float, window_seconds: float, **_: Any) -> None:
    await _warm_up(WAITS[side](ids[0], WARM_UP_SECONDS / 10))
    before = _resident()
    tasks = [asyncio.create_task(WAITS[side](veo_task_id, poll_interval)) for veo_task_id in ids]
    # Each first poll is within an interval.
    await asyncio.sleep(poll_interval + LAST_ANSWER_SECONDS)
    _say(window="begins")
    lag, cpu = await _watch(window_seconds)
    waiting = sum(not task.done() for task in tasks)
    _say(window="ends", cpu=cpu, lag=lag, waiting=waiting, resident=_resident() - before)
    await _end(*tasks)


async def _watch(seconds: float) -> tuple[list[float], float]:
    """Return by how much each short sleep was too long, and the CPU seconds that the process took meanwhile."""
    lag: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        await asyncio.sleep(PROBE_SECONDS)
        lag.append(time.perf_counter() - now - PROBE_SECONDS)
    return lag, time.process_time() - cpu


async def _warm_up(wait: Coroutine[Any, Any, None]) -> None:
    """Poll for one video a few times: what the first polls load and keep does not belong to a waiting video."""
    task = asyncio.create_task(wait)
    await asyncio.sleep(WARM_UP_SECONDS)
    if task.done():
        raise RuntimeError("the trigger did not wait") from task.exception()
    await _end(task)


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _ours(veo_task_id: str, poll_interval: float) -> None:
    from airflow_provider_veo.triggers import VeoVideoTrigger

    # It spreads its first polls over an interval by itself.
    await _until_it_fires(VeoVideoTrigger(veo_task_id, started=time.time(), poll_interval=poll_interval))


async def _theirs(veo_task_id: str, poll_interval: float) -> None:
    trigger = _sensor_trigger(veo_task_id, poll_interval)
    # It polls at once: thousands that begin together would always poll together.
    await asyncio.sleep(random.random() * poll_interval)
    await _until_it_fires(trigger)


async def _theirs_kept_on(veo_task_id: str, poll_interval: float) -> None:
    trigger = _sensor_trigger(veo_task_id, poll_interval)
    hook = trigger._get_async_hook()
    trigger._get_async_hook = lambda: hook
    await asyncio.sleep(random.random() * poll_interval)
    while True:
        await _until_it_fires(trigger)
        await asyncio.sleep(poll_interval)


def _sensor_trigger(veo_task_id: str, poll_interval: float) -> Any:
    """Return the trigger as a deferrable ``HttpSensor`` makes it."""
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    return HttpSensorTrigger(
        endpoint="v1/video/query",
        http_conn_id="relay",
        data={"id": veo_task_id},
        headers={},
        method="GET",
        extra_options={},
        poke_interval=poll_interval,
    )


async def _until_it_fires(trigger: BaseTrigger) -> None:
    async for _ in trigger.run():
        pass


WAITS = {"ours": _ours, "theirs": _theirs, "theirs kept on": _theirs_kept_on}


def _resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def _silence() -> None:
    import airflow.triggers.base  # noqa: F401  Airflow sets up its logging when it is imported
    import structlog

    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
