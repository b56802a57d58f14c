"""How far the night is, from the relay that makes the videos and the disk that they are stored on.

The operator tells it as well, in its log and its XCom ``progress``, but for hours of work: every 30 seconds.
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

SECONDS_BETWEEN_LOOKS = 0.4
SECONDS_BETWEEN_LINES = 5.0


class Counts(NamedTuple):
    """What is seen at one moment."""

    accepted: int
    generating: int
    stored: int

    def __str__(self) -> str:
        return f"{self.accepted} accepted, {self.generating} generating, {self.stored} stored"


class Night:
    """
    Shows it for the length of a ``with`` block: a bar in a terminal, a line now and then elsewhere.

    :param console: where to.
    :param relay: the sandbox.
    :param folder: where the videos are stored.
    :param total: how many there will be.
    """

    def __init__(self, console: Console, relay: Sandbox, folder: Path, total: int) -> None:
        self._console, self._relay, self._folder, self._total = console, relay, folder, total
        self._counts = Counts(0, 0, 0)
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look_on, daemon=True)
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
        self._looking.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._looking.join()
        if kind is None:
            self._look(last=True)
        self._progress.stop()

    def _look_on(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self, last: bool = False) -> None:
        # A sandbox that is busy, or has just ended, is asked again or not: nothing depends on it.
        with contextlib.suppress(OSError, HTTPException, SandboxError):
            videos = self._relay.videos()
            generating = sum(video["state"] == "running" for video in videos)
            # A file has its name only when it is complete.
            counts = Counts(len(videos), generating, sum(1 for _ in self._folder.rglob("*.mp4")))
            self._progress.update(self._bar, completed=counts.stored, description=str(counts))
            due = last or time.monotonic() >= self._printed_at + SECONDS_BETWEEN_LINES
            if counts != self._counts and due and not self._console.is_terminal:
                self._console.print(f"night    {counts} of {self._total}")
                self._counts, self._printed_at = counts, time.monotonic()
