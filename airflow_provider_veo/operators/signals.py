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
def postponed_while(is_busy: Callable[[], bool]) -> Iterator[None]:
    """
    Postpone what signals are for (Airflow's kill, its ``execution_timeout``) to the end of the block.

    Raised between an answer and its record they would lose an id that nobody else knows.

    :param is_busy: is asked for each signal. Where it says no, the signal acts at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal ever gets here
        return
    handlers: dict[int, Callable[[int, Any], Any]] = {
        number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))
    }
    came: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if is_busy():
            came.append(number)
        else:
            handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            handlers[number](number, None)
