"""What was done and how long it took, for the end of pytest's output."""

from __future__ import annotations

import time

LINES: list[str] = []
_BEGUN = time.monotonic()


def tell(text: str) -> None:
    """Add a line, with the seconds since the tests began."""
    LINES.append(f"{time.monotonic() - _BEGUN:6.1f} s  {text}")
