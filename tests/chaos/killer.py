"""
Kills the process that it runs in, at a point of its code. Nothing of the code is replaced: Python tells of each call.

A task arms it in ``on_execute_callback``, which Airflow calls in the task's process just before ``execute``, and
before it resumes a deferred one. Before it strikes, it writes down that it does.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import CodeType, FrameType

    from tests.chaos.points import Point

STRIKES = "VEO_CHAOS_STRIKES"
"""The variable of the environment that names the file of the strikes."""
FROZEN_SECONDS = 25
"""Longer than the heartbeat timeout of the tests' Airflow, and than it takes the scheduler to notice."""
SECONDS_OF_GRACE = 0.3


class Strike(NamedTuple):
    """What shall happen in one try of a task."""

    name: str
    """The point's name."""
    point: Point
    manner: str = "kill"
    """
    ``kill`` the task's process, ``kill the worker`` with it, or ``freeze`` both until Airflow thinks them dead;
    ``terminate`` it, which it can handle, or ``evict`` it: terminate, and kill a moment later.
    """


def arm(seed: str, try_number: int, strike: Strike | None, *, threads: bool = False) -> None:
    """
    Strike when this process comes to the point, if there is one for this try.

    :param threads: the point may be in a thread that the process is going to start.
    """
    if strike is None:
        return

    def fall() -> None:
        sys.setprofile(None)
        time.sleep(strike.point.seconds)
        write_down(os.environ[STRIKES], seed, try_number, strike.name, strike.manner)
        {**MANNERS, **TOLD}[strike.manner]()

    profile = _watch(strike.point, fall)
    if threads:
        threading.setprofile(profile)
    sys.setprofile(profile)


def write_down(path: str, seed: str, try_number: int, name: str, manner: str) -> None:
    """Add a strike to the file, in one write: many processes do."""
    record = {"seed": seed, "try": try_number, "point": name, "manner": manner, "time": time.time()}
    with open(path, "ab", buffering=0) as file:
        file.write(json.dumps(record).encode() + b"\n")


def strikes(path: Path) -> list[dict]:
    """Return what was written down."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _watch(point: Point, fall: Callable[[], None]) -> Callable[[FrameType, str, object], None]:
    after, function = _matcher(point.after), _matcher(point.function)
    begun, seen = not point.after, itertools.count(1)

    def profile(frame: FrameType, event: str, value: object) -> None:
        nonlocal begun
        if event not in ("call", "return"):
            return
        if not begun:
            if event == "call" and after(frame.f_code):
                begun = True
            return
        happened = "return" if point.event == "result" and value is not None else point.event
        if event == happened and function(frame.f_code) and next(seen) == point.nth:
            fall()

    return profile


def _matcher(name: str) -> Callable[[CodeType], bool]:
    """Return whether a code object is that of the function of this name."""
    if not name:
        return lambda code: True
    last = name.rpartition(".")[2].rpartition(":")[2]
    return lambda code: code.co_name == last and code is _code(name)


def _code(name: str) -> CodeType | None:
    module, _, path = name.partition(":")
    try:
        function = functools.reduce(getattr, path.split("."), sys.modules[module])
    except (KeyError, AttributeError):
        return None  # its module is not there yet, or not all of it
    return inspect.unwrap(function).__code__


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_the_worker() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    _kill()


def _freeze() -> None:
    pids = os.getppid(), os.getpid()
    _later(FROZEN_SECONDS, f"kill -CONT {pids[0]} {pids[1]}")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _evict() -> None:
    _later(SECONDS_OF_GRACE, f"kill -KILL {os.getpid()}")
    _terminate()


def _later(seconds: float, command: str) -> None:
    subprocess.Popen(["sh", "-c", f"sleep {seconds}; {command}"], start_new_session=True, close_fds=True)


MANNERS = {"kill": _kill, "kill the worker": _kill_the_worker, "freeze": _freeze}
TOLD = {"terminate": _terminate, "evict": _evict}
"""The manners that the process notices, so that it can clean up."""
