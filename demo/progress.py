"""Shows the progress of the night, from the sandbox and the files on disk.

The operator reports it as well, in its log and its XCom ``progress``, but only every 30 seconds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, NamedTuple

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from airflow_provider_veo.sandbox import SandboxError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from airflow_provider_veo.sandbox import Sandbox

SECONDS_BETWEEN_UPDATES = 0.4
SECONDS_BETWEEN_LINES = 5.0


class Counts(NamedTuple):
    """The state at one moment."""

    accepted: int
    generating: int
    stored: int

    def __str__(self) -> str:
        return f"{self.accepted} accepted, {self.generating} generating, {self.stored} stored"


class ProgressDisplay:
    """
    Shows the progress during a ``with`` block: as a bar in a terminal, or as a line every few seconds.

    :param folder: the folder that the videos are stored in.
    :param total: the number of videos.
    """

    def __init__(self, console: Console, relay: Sandbox, folder: Path, total: int) -> None:
        self._console, self._relay, self._folder, self._total = console, relay, folder, total
        self._counts = Counts(0, 0, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold cyan]night"),
            BarColumn(bar_width=30),
            TextColumn("{task.description} of {task.total}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task(str(self._counts), total=total)
        self._printed_at = time.monotonic()

    def __enter__(self) -> None:
        self._progress.start()
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._update(last=True)
        self._progress.stop()

    def _run(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_UPDATES):
            self._update()

    def _update(self, last: bool = False) -> None:
        # The sandbox may be busy, or have just ended. The next update tries again.
        with contextlib.suppress(OSError, HTTPException, SandboxError):
            videos = self._relay.videos()
            generating = sum(video["state"] == "running" for video in videos)
            # Files get this name only when they are complete.
            counts = Counts(len(videos), generating, sum(1 for _ in self._folder.rglob("*.mp4")))
            self._progress.update(self._bar, completed=counts.stored, description=str(counts))
            due = last or time.monotonic() >= self._printed_at + SECONDS_BETWEEN_LINES
            if counts != self._counts and due and not self._console.is_terminal:
                self._console.print(f"night    {counts} of {self._total}")
                self._counts, self._printed_at = counts, time.monotonic()
