"""Keep signals from interrupting a process between the relay's answer and its record."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@contextlib.contextmanager
def intercepted(take: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """
    Hand over the actions of signals (Airflow's kill, its ``execution_timeout``) instead of running them at once.

    :param take: called in the signal handler with the action of the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only reach the main thread
        return
    handlers: dict[int, Callable[[int, Any], Any]] = {
        number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))
    }
    try:
        for number in handlers:
            signal.signal(number, lambda number, frame: take(lambda: handlers[number](number, None)))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def postponed_while(is_busy: Callable[[], bool]) -> Iterator[None]:
    """
    Postpone the actions of signals to the end of the block.

    An exception raised between an answer and its record would lose an id that is stored nowhere else.

    :param is_busy: called for each signal. If it returns false, the signal acts at once.
    """
    came: list[Callable[[], None]] = []
    try:
        with intercepted(lambda act: came.append(act) if is_busy() else act()):
            yield
    finally:
        for act in came:
            act()
