"""How many creates may be sent now, given what is in flight and what the relay accepts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_veo.batch.backoff import RelayBackoff
    from airflow_provider_veo.batch.options import Options
    from airflow_provider_veo.polling.clock import Clock

CREATES_AT_ONCE = 5
"""Maximum creates sent at once, and so the maximum left unknown if the process or the relay dies."""


class Slots:
    """
    Counts free slots.

    :param options: how many videos may be generated at a time, and whether a worker waits for them.
    :param backoff: limits creates by the outcome of earlier ones.
    :param clock: measures how long slots have been free.
    """

    def __init__(self, options: Options, backoff: RelayBackoff, clock: Clock = time) -> None:
        self._options = options
        self._backoff = backoff
        self._clock = clock
        self._waiting_since: float | None = None

    def free(self, in_flight: int) -> int:
        """
        Return how many more videos may be generated; 0 if the relay accepts nothing for long.

        :param in_flight: videos that are being generated or submitted.
        """
        return 0 if self._is_paused else max(0, self._options.max_in_flight - in_flight)

    def room(self, queued: int, in_flight: int, on_the_way: int) -> int:
        """
        Return how many creates may be sent now.

        :param queued: jobs to submit; 0 if nothing more is submitted.
        :param in_flight: videos that are being generated or submitted.
        :param on_the_way: creates that are being sent.
        """
        free = self.free(in_flight)
        if not free or not queued:
            self._waiting_since = None
            return 0
        room = min(free, queued, CREATES_AT_ONCE - on_the_way)
        if (allowed := self._backoff.room(on_the_way)) is not None:
            return min(room, allowed)
        if room >= min(self._worth_a_write, queued):
            return room
        # A single slot does not justify a write: others become free soon.
        now = self._clock.monotonic()
        self._waiting_since = self._waiting_since or now
        return room if now - self._waiting_since >= self._options.poll_interval else 0

    def seconds_to_room(self, queued: int, in_flight: int, on_the_way: int) -> float | None:
        """Return the seconds until there may be room without another event; ``None``: there won't be."""
        if not queued or not self.free(in_flight):
            return None
        if self._backoff.seconds_to_probe is not None:
            return None if on_the_way else self._backoff.seconds_to_probe
        since = self._waiting_since
        return None if since is None else max(0.0, since + self._options.poll_interval - self._clock.monotonic())

    def taken(self) -> None:
        """Note that slots are being used."""
        self._waiting_since = None

    @property
    def _is_paused(self) -> bool:
        """Whether the relay wants no requests for longer than a worker should wait."""
        return self._options.deferrable and self._backoff.is_long

    @property
    def _worth_a_write(self) -> int:
        return 1 if self._options.deferrable else min(self._options.enough_slots, (CREATES_AT_ONCE + 1) // 2)
