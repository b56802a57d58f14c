"""The clock of rate limits and waits. Tests pass one that doesn't wait."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time, as the module :mod:`time` does."""

    def time(self) -> float:
        """Return epoch seconds."""

    def monotonic(self) -> float:
        """Return seconds of a clock that is never set back."""
