"""What the reports share: a table, a median with its spread, and whether a target is met."""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def table(title: str, *columns: str) -> Table:
    """Make a table of a first column of words, and others of numbers."""
    console.print(f"\n[bold]{title}[/]")
    result = Table()
    for index, column in enumerate(columns):
        result.add_column(column, justify="right" if index else "left")
    return result


def spread(seconds: Sequence[float], unit: str) -> str:
    """Return the median, and between which two values the middle half of the runs lies, in ``ms`` or ``µs``."""
    low, middle, high = (
        value * {"ms": 1e3, "µs": 1e6}[unit] for value in statistics.quantiles(seconds, method="inclusive")
    )
    digits = 2 if middle < 10 else 0 if middle >= 1000 else 1
    return f"{middle:.{digits}f} {unit} ({low:.{digits}f} to {high:.{digits}f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of ours over the median of theirs."""
    return statistics.median(ours) / statistics.median(theirs)


def verdict(value: float, at_most: float, unit: str = "") -> str:
    """Say what was measured, what the target is, and whether it is met."""
    word = "[green]met[/]" if value <= at_most else "[red]MISSED[/]"
    return f"{value:.3g}{unit}, target at most {at_most:g}{unit}: {word}"


def verdict_at_least(value: float, at_least: float) -> str:
    """Say the same where more is better."""
    word = "[green]met[/]" if value >= at_least else "[red]MISSED[/]"
    return f"{value:.3g}, target at least {at_least:g}: {word}"
