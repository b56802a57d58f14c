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


def number(value: Any, *, whole: bool = False) -> Any:
    """Convert a rendered template to a number or ``None``; anything else is returned unchanged."""
    if coerce.is_nothing(value):
        return None
    try:
        return (int if whole else float)(value) if isinstance(value, str) else value
    except ValueError:
        return value
