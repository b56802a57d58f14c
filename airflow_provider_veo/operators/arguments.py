"""Checks of operator arguments, for use while a DAG file is parsed."""

from __future__ import annotations

import math
from typing import Any

from airflow_provider_veo.protocol import coerce

AMBIGUOUS = ("fail", "resubmit")
"""Choices for a request of which it is unknown whether it was accepted."""
CLEARED = ("submit", "fail")
"""Choices for a task that was cleared, and whose record Airflow has deleted."""


def number_mistakes(name: str, value: Any, *, whole: bool = False) -> list[str]:
    """Return the mistakes in an argument that must be a number above 0."""
    kind, expected = (int, "a whole number") if whole else ((int, float), "a number")
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
        return [f"{name}: expected {expected} above 0, got {value!r}"]
    return []


def choice_mistakes(name: str, value: Any, choices: tuple[str, ...]) -> list[str]:
    """Return the mistakes in an argument that must be one of several strings."""
    if value in choices:
        return []
    return [f"{name}: expected {' or '.join(map(repr, choices))}, got {value!r}"]


def shard_mistakes(shard: Any, shards: Any, max_in_flight: Any) -> list[str]:
    """Return the mistakes in the number of a shard, and in what is divided among the shards."""
    if number_mistakes("shards", shards, whole=True):
        return []  # reported already
    mistakes = []
    if isinstance(shard, bool) or not isinstance(shard, int) or not 0 <= shard < shards:
        mistakes.append(f"shard: expected a whole number from 0 to {shards - 1}, got {shard!r}")
    if isinstance(max_in_flight, int) and 0 < max_in_flight < shards:
        mistakes.append(f"max_in_flight: expected at least {shards}, one video for each shard, got {max_in_flight}")
    return mistakes


def number(value: Any, *, whole: bool = False) -> Any:
    """Convert a rendered template to a number or ``None``; anything else is returned unchanged."""
    if coerce.is_nothing(value):
        return None
    try:
        return (int if whole else float)(value) if isinstance(value, str) else value
    except ValueError:
        return value
