"""The tasks of the event loop that work on a batch."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")


class Tasks:
    """The running tasks, and the event that something has changed. An error of a task ends the work."""

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()
        self.killed: BaseException | None = None
        """Why the work ends."""
        self._changed = asyncio.Event()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task."""
        task = asyncio.ensure_future(work)
        self.running.add(task)
        task.add_done_callback(self._done)
        return task

    def kill(self, error: BaseException) -> None:
        """End the work with an error."""
        self.killed = self.killed or error
        self.note_change()

    def note_change(self) -> None:
        """Note that there may be something to do."""
        self._changed.set()

    async def next_change(self, seconds: float | None = None) -> None:
        """Wait for the next change, for at most some seconds."""
        self._changed.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def unless(self, is_over: Callable[[], bool], work: Coroutine[Any, Any, _T]) -> _T | None:
        """Wait for a result; ``None`` if the work is over in the meantime."""
        result = asyncio.ensure_future(work)
        while not (result.done() or is_over()):
            self._changed.clear()  # now: in a step of its own, it would undo a change between the check and that step
            change = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({result, change}, return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
        if is_over():
            result.cancel()
            return None
        return result.result()

    async def cancel(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        for task in (tasks := list(self.running)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.kill(error)
        self.note_change()
