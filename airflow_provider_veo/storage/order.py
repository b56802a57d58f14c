"""What to fetch, and what was received."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_veo.storage.media import Container


@dataclass(frozen=True)
class Received:
    """Facts of a received file."""

    size: int
    sha256: str
    container: Container
    verified: bool
    """Whether its end is confirmed: by a length, a checksum, its own structure, or a second request."""


@dataclass(frozen=True)
class Order:
    """
    What to fetch, and within which limits.

    :param url: of the video.
    :param fresh_url: requests a new URL.
    :param veo_task_id: the relay's id, if known.
    :param destination: for messages.
    :param max_bytes: maximum size of the file.
    :param timeout: seconds in total.
    :param deadline: when the timeout ends, on the monotonic clock.
    """

    url: str
    fresh_url: Callable[[], str | None] | None
    veo_task_id: str | None
    destination: str
    max_bytes: int
    timeout: float
    deadline: float

    @property
    def what(self) -> str:
        """The video's name in messages."""
        return f"video {self.veo_task_id}" if self.veo_task_id else "a video"
