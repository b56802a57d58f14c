"""
Whether more creates may be sent, given the relay's answers to earlier ones.

A temporary refusal slows everything down, see :class:`~airflow_provider_veo.polling.rate_limiter.RateLimiter`. A
connection fault, or an answer that leaves it unknown whether a video was accepted, is worse: behind a proxy that has
lost its relay, every create would end like that, and each may be billed. After :data:`FAULTS` of them without an
acceptance in between, only one probe at a time is sent, at growing intervals. When one is accepted, sending continues
at full speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_veo.protocol import VeoError, VeoUnavailableError, VeoWrongHostError
from airflow_provider_veo.protocol.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from airflow_provider_veo.polling.rate_limiter import RateLimiter

FAULTS = 3
FIRST_PROBE_SECONDS = 2.0
_SLOWEST_PROBE_SECONDS = 120.0
PATIENCE_IN_A_WORKER = 60.0
"""Seconds that a worker waits for a refusing relay before it defers, if it can."""


class RelayBackoff:
    """
    Decides how many creates may be sent, given the outcome of earlier ones.

    :param limiter: of all requests. Its clock is used.
    :param refused_since: epoch seconds since when the relay has accepted nothing, as seen by another process.
    :param faults: creates of other processes that ended in a :meth:`fault` since the last accepted one.
    """

    def __init__(self, limiter: RateLimiter, refused_since: float | None = None, faults: int = 0) -> None:
        self.refused_since = refused_since
        """Epoch seconds since when the relay has accepted nothing, for temporary reasons."""
        self.last_error: VeoError = VeoUnavailableError("The relay has accepted no video for half an hour.")
        """Why it last accepted nothing."""
        self._limiter = limiter
        self._clock = limiter.clock
        self._refused_here_since: float | None = None
        self.faults = faults
        """Creates since the last accepted one that got no answer, or whose outcome is unknown."""
        self._probe_at = 0.0
        self._probe_seconds = FIRST_PROBE_SECONDS

    @property
    def is_open(self) -> bool:
        """Whether only probes may be sent."""
        return self.faults >= FAULTS

    def room(self, on_the_way: int) -> int | None:
        """
        Return how many more creates may be sent now; ``None``: as many as there is room for.

        :param on_the_way: creates that are being sent.
        """
        if not self.faults:
            return None
        if not self.is_open:
            return max(0, FAULTS - self.faults - on_the_way)
        return 1 if not on_the_way and self._clock.monotonic() >= self._probe_at else 0

    @property
    def seconds_to_probe(self) -> float | None:
        """Seconds until a probe may be sent; ``None``: none is needed."""
        return max(0.0, self._probe_at - self._clock.monotonic()) if self.is_open else None

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the relay has accepted nothing for so long that this try submits no more."""
        return self.refused_since is not None and self._clock.time() - self.refused_since > PATIENCE_SECONDS

    @property
    def is_long(self) -> bool:
        """Whether the relay wants no requests for longer than a worker should wait."""
        refused_for = self._clock.monotonic() - self._refused_here_since if self._refused_here_since else 0.0
        return max(self._limiter.seconds_held, refused_for, self.seconds_to_probe or 0.0) > PATIENCE_IN_A_WORKER

    @property
    def held_until(self) -> float | None:
        """Epoch seconds before which nothing is to be sent; ``None``: no limit."""
        held = max(self._limiter.seconds_held, self.seconds_to_probe or 0.0)
        return self._clock.time() + held if held else None

    def accepted(self, sent_at: float) -> None:
        """Record that a create was accepted. ``sent_at`` is of the monotonic clock."""
        self._limiter.went_well(sent_at)
        self.refused_since = self._refused_here_since = None
        self.faults, self._probe_seconds = 0, FIRST_PROBE_SECONDS

    def refused(self, error: VeoError, sent_at: float) -> bool:
        """
        Record that the relay refused temporarily or was not reached. Return whether this is the first refusal.

        :param error: the refusal or connection error.
        :param sent_at: when the create was sent, on the monotonic clock.
        """
        if error.status_code is None or isinstance(error, VeoWrongHostError):
            return self.fault(error)
        self._limiter.slow_down(sent_at, error.retry_after)
        return self._nothing_taken(error)

    def fault(self, error: VeoError) -> bool:
        """Record an unknown outcome or a missing answer. Return whether this is the first refusal."""
        was_open = self.is_open
        self.faults += 1
        if self.is_open:
            if was_open:
                self._probe_seconds = min(2 * self._probe_seconds, _SLOWEST_PROBE_SECONDS)
            self._probe_at = self._clock.monotonic() + self._probe_seconds
        return self._nothing_taken(error)

    def _nothing_taken(self, error: VeoError) -> bool:
        is_news = self._refused_here_since is None
        self._refused_here_since = self._refused_here_since or self._clock.monotonic()
        self.refused_since = self.refused_since or self._clock.time()
        self.last_error = error
        return is_news
