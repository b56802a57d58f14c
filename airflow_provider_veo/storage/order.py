"""What is to be fetched, and what was received."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_veo.storage.media import Container


@dataclass(frozen=True)
class Received:
    """What is known of a file that was received."""

    size: int
    sha256: str
    container: Container
    verified: bool
    """Whether its end is confirmed: by a length, a checksum, its own structure, or a second request."""


@dataclass(frozen=True)
class Order:
    """
    What is to be fetched, and within which limits.

    :param url: where it is.
    :param fresh_url: asks for a new one.
    :param veo_task_id: the id that the relay gave, if that is known.
    :param destination: where it goes, for people.
    :param max_bytes: of the file.
    :param timeout: seconds in all.
    :param deadline: when they are over, on the monotonic clock.
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
        """Say what this is, to a person."""
        return f"video {self.veo_task_id}" if self.veo_task_id else "a video"
