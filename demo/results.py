"""Prints the results of the night, from the files that the batch has written."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import av
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console


def show(console: Console, results: Path) -> None:
    """Decode the files, and print a row for each job."""
    with results.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    summary = json.loads(results.with_name("summary.json").read_text(encoding="utf-8"))
    made = f"{summary['succeeded']} of {summary['total']} videos in {summary['seconds']} s"
    table = Table(title=f"Results: {made}, for {summary['cost']:g}")
    table.add_column("prompt")  # the only column that may be truncated
    for name in ("id", "status", "file"):
        table.add_column(name, no_wrap=True)
    for name in ("took", "cost"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        file = play(Path(url2pathname(urlsplit(row["file"]).path))) if row["file"] else "none"
        status = row["status"] if row["state"] == "succeeded" else f"{row['state']}: {row['error']}"
        prompt = Text(row["request"]["prompt"], no_wrap=True, overflow="ellipsis")
        table.add_row(prompt, row["id"], status, file, took(row), f"{row['cost']:g}")
    console.print(table, markup=False)


def took(row: dict) -> str:
    """Return how long a video took, from submission to the poll that saw it finished."""
    if not row["finished_at"]:
        return ""
    span = datetime.fromisoformat(row["finished_at"]) - datetime.fromisoformat(row["submitted_at"])
    return f"{span.total_seconds():.1f} s"


def play(path: Path) -> str:
    """Decode every frame, and describe the video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        seconds = frames / float(stream.average_rate or 1)
        return f"{stream.width}x{stream.height}, {seconds:.1f} s, plays"
