"""Signals that must not come between an answer and its record."""

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
    Hand over what signals are for (Airflow's kill, its ``execution_timeout``) instead of doing it at once.

    :param take: is called in the signal's handler, with what to call in its place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal ever gets here
        return
    handlers: dict[int, Callable[[int, Any], Any]] = {
        number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))
    }
    for number in handlers:
        signal.signal(number, lambda number, frame: take(lambda: handlers[number](number, None)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def postponed_while(is_busy: Callable[[], bool]) -> Iterator[None]:
    """
    Postpone what signals are for to the end of the block.

    Raised between an answer and its record they would lose an id that nobody else knows.

    :param is_busy: is asked for each signal. Where it says no, the signal acts at once.
    """
    came: list[Callable[[], None]] = []
    try:
        with intercepted(lambda act: came.append(act) if is_busy() else act()):
            yield
    finally:
        for act in came:
            act()
