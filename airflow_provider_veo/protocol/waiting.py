"""The wait for one video, as a state machine without a clock: what an answer means, and when to poll again.

Synchronous and deferred waits share these rules. A wait only polls: it can't cost money.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_veo.protocol import words
from airflow_provider_veo.protocol.errors import (
    VeoContentBlockedError,
    VeoError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoResponseError,
    VeoTimeoutError,
    VeoUnavailableError,
)
from airflow_provider_veo.protocol.text import first_line

if TYPE_CHECKING:
    from airflow_provider_veo.log import Log
    from airflow_provider_veo.protocol.video import VideoTask

FIRST_LOOK_INTERVALS = 4
"""Poll intervals before the first poll of a new video: a minute by default, the fastest that Veo is."""
STEADY_SECONDS = 300.0
"""Age of a wait in seconds from which its poll interval grows in proportion to it."""
SLOWEST = 4.0
"""Maximum factor of that growth, reached after 20 minutes."""
SPREAD = 0.2
"""Jitter: the part by which an interval may be shorter or longer, so that waits don't stay synchronized."""
PATIENCE_SECONDS = 1800.0
"""Seconds without any answer from the relay after which a wait gives up."""
NOT_FOUND_SECONDS = 60.0
"""Seconds of nothing but 404 that end a wait. family: right after a create, 404 can mean "not visible yet"."""
ANSWERS_WITHOUT_URL = 3
"""family: some relays set ``video_url`` a poll or two after the status that says that the video is ready."""
ANSWERS_THAT_MAKE_SURE = 2
"""Number of answers with a URL after which a video with an unclear status is taken as ready."""


def raise_if_failed(video: VideoTask) -> None:
    """
    Raise if the generation failed.

    :raises VeoContentBlockedError: the safety filter blocked it.
    :raises VeoGenerationFailedError: with the relay's reason.
    """
    if video.state != "failed":
        return
    reported = f"the relay's status is {video.status!r}, its reason: {video.error}"
    if words.is_blocked(video.error or ""):
        raise VeoContentBlockedError(
            f"Video {video.id} was blocked by the safety filter: {reported}\nSeveral relays refund it: check at the "
            "relay whether it was billed. It is often a false positive, and the same prompt may pass the next time: "
            "submit it again. If it is blocked again, change the prompt or the images.",
            veo_task_id=video.id,
        )
    raise VeoGenerationFailedError(
        f"Video {video.id} could not be generated: {reported}\n"
        "If the reason names the prompt or the images, change them. Otherwise submit it again.",
        veo_task_id=video.id,
    )


def _log_answer(log: Log, before: VideoTask | None, video: VideoTask) -> None:
    """Log a new status and its warning."""
    if before is None or before.status != video.status:
        log.info("Video %s: %s", video.id, video.status)
        if video.warning:
            log.warning("Video %s: %s", video.id, video.warning)


def log_no_answer(log: Log, veo_task_id: str, error: VeoError) -> None:
    """Log that a poll failed and will be retried."""
    log.warning("Polling video %s failed and will be retried: %s", veo_task_id, first_line(error))


@dataclass
class Wait:
    """
    The wait for one video.

    All times are epoch seconds: a wait may move between processes.

    :param veo_task_id: the id that create returned.
    :param started: when the wait began; for a new video, when it was submitted.
    :param timeout: seconds from ``started`` until the wait gives up.
    :param poll_interval: seconds between two polls during the first five minutes; later it grows.
    :param due: the earliest time at which the video can be ready; polling earlier is useless.
    """

    veo_task_id: str
    started: float
    timeout: float
    poll_interval: float
    due: float = 0.0
    last: VideoTask | None = None
    last_error: VeoError | None = None
    """Why the last poll failed; ``None`` if it succeeded."""
    not_found_since: float | None = None
    """Time of the first 404 since the last answer."""
    _without_url: int = field(default=0, repr=False)
    _with_url: int = field(default=0, repr=False)
    """Number of successive answers with a URL and an unclear status."""
    _failing_since: float = field(default=0.0, repr=False)

    def answered(self, video: VideoTask, log: Log | None = None) -> VideoTask | None:
        """
        Process an answer, and return the video if it is ready.

        A video whose status doesn't say whether it is ready is taken as ready, with a warning, if two answers in
        succession have its URL.

        :param log: receives a new status and warnings; ``None`` for thousands of videos.
        :raises VeoGenerationFailedError: the relay could not generate it.
        :raises VeoResponseError: the relay reports it as done but never returns its URL.
        """
        if log:
            _log_answer(log, self.last, video)
        self.last, self.last_error, self.not_found_since = video, None, None
        raise_if_failed(video)
        self._with_url = self._with_url + 1 if video.may_be_ready else 0
        if video.state == "succeeded":
            if not video.video_url:
                self._count_without_url(video)
                return None
            return video
        if self._with_url < ANSWERS_THAT_MAKE_SURE:
            return None
        warning = f"taken as ready: {self._with_url} answers in succession have its URL, with status {video.status!r}"
        if log:
            log.warning("Video %s: %s", video.id, warning)
        return replace(video, state="succeeded", may_be_ready=False, warning=warning)

    @property
    def is_undecided(self) -> bool:
        """Whether the video may be ready, but more answers must make sure of it. They are counted only here."""
        last = self.last if self.last_error is None else None
        return last is not None and (last.may_be_ready or last.state == "succeeded")

    def _count_without_url(self, video: VideoTask) -> None:
        self._without_url += 1
        if self._without_url > ANSWERS_WITHOUT_URL:
            warning = f" ({video.warning})" if video.warning else ""
            raise VeoResponseError(
                f"The relay reports video {self.veo_task_id} as done (status {video.status!r}), but returned no "
                f"video_url in {self._without_url} answers{warning}.\nIt is billed. Look for it at the relay, or "
                f"attach to it later with existing_veo_task_id={self.veo_task_id!r}.",
                veo_task_id=self.veo_task_id,
            )

    def got_no_answer(self, error: VeoError, now: float) -> None:
        """
        Process a failed poll.

        :raises VeoError: ``error`` itself if polling again can't help, or one that says how long polling has failed.
        """
        if self.last_error is None:
            self._failing_since = now
        self.last_error = error
        if isinstance(error, VeoNotFoundError):
            self.not_found_since = now if self.not_found_since is None else self.not_found_since
            if now - self.not_found_since >= NOT_FOUND_SECONDS:
                raise error
        elif not error.transient:
            raise error
        if now - self._failing_since >= PATIENCE_SECONDS:
            raise VeoUnavailableError(
                f"The relay gave no answer about video {self.veo_task_id} for {now - self._failing_since:.0f} s. "
                f"The last error: {error}\n{self._how_to_continue()}",
                veo_task_id=self.veo_task_id,
            )

    def seconds_to_first(self, now: float, spread: float) -> float:
        """
        Return the seconds before the first poll: until the video can be ready, plus a random part of an interval.

        They are 0 after the deadline: the video may be ready.

        :param spread: a random number from 0 to 1, so that waits that begin or restart together spread out.
        """
        # Clocks differ: for a clock that is an hour behind, a video would be due in an hour.
        longest = FIRST_LOOK_INTERVALS * self.poll_interval
        wanted = min(max(0.0, self.due - now), longest) + spread * self.poll_interval
        return max(0.0, min(wanted, self._left(now)))

    def seconds_to_next(self, now: float, spread: float = 0.5) -> float:
        """
        Return the seconds before the next poll: at least what the relay asks for, but never past the deadline.

        :param spread: a random number from 0 to 1.
        :raises VeoTimeoutError: the deadline has passed.
        """
        left = self._left(now)
        if left <= 0:
            raise VeoTimeoutError(self._gave_up(now), veo_task_id=self.veo_task_id)
        slower = min(max(1.0, (now - self.started) / STEADY_SECONDS), SLOWEST)
        interval = self.poll_interval * slower * (1 + SPREAD * (2 * spread - 1))
        asked_for = self.last_error.retry_after if self.last_error and self.last_error.retry_after else 0.0
        # All waits get the same Retry-After, so the jitter is added to it.
        return min(max(interval, asked_for + spread * SPREAD * self.poll_interval if asked_for else 0.0), left)

    def _left(self, now: float) -> float:
        return self.started + self.timeout - now

    def _gave_up(self, now: float) -> str:
        status = f"Its last status was {self.last.status!r}." if self.last else "The relay never reported its status."
        error = f" The last poll failed: {self.last_error}" if self.last_error else ""
        return (
            f"Video {self.veo_task_id} was not ready {now - self.started:.0f} s after the wait began (timeout "
            f"{self.timeout:.0f} s). {status}{error}\n{self._how_to_continue()}"
        )

    def _how_to_continue(self) -> str:
        return (
            "It is still being generated and will be billed. To wait for it again, clear the sensor that waited, or "
            f"set existing_veo_task_id={self.veo_task_id!r} in the task that created it. To wait longer, raise timeout."
        )
