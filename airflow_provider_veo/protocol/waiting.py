"""Waiting for one video, as a state machine without a clock: what an answer means for the wait, and when to ask again.

The synchronous wait and everything that waits without a worker share these rules. Nothing here can cost money: a wait
only ever asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_veo.protocol.errors import (
    VeoError,
    VeoGenerationFailedError,
    VeoNotFoundError,
    VeoResponseError,
    VeoTimeoutError,
    VeoUnavailableError,
)
from airflow_provider_veo.protocol.text import first_line

if TYPE_CHECKING:
    from logging import Logger

    from airflow_provider_veo.protocol.video import VideoTask

FIRST_LOOK_INTERVALS = 4
"""A new video is first asked for after so many poll intervals: a minute by default, the least that Veo takes."""
STEADY_SECONDS = 300.0
"""So long the poll interval holds; then it grows with the age of the wait, for so does what a late answer costs."""
SLOWEST = 4.0
"""It grows to so many times the poll interval, which a wait of 20 minutes has reached."""
SPREAD = 0.2
"""Each interval is up to so much shorter or longer, so that waits that began together don't stay together."""
PATIENCE_SECONDS = 1800.0
"""So long the relay may fail to answer at all before a wait gives up."""
NOT_FOUND_SECONDS = 60.0
"""So long every answer must be a 404 to end a wait. family: right after a create it can mean "not visible yet"."""
ANSWERS_WITHOUT_URL = 3
"""family: some relays fill in ``video_url`` a poll or two after the status says that it is there."""


def raise_if_failed(video: VideoTask) -> None:
    """
    Tell a failed generation from the others.

    :raises VeoGenerationFailedError: with the relay's reason.
    """
    if video.state == "failed":
        raise VeoGenerationFailedError(
            f"Video {video.id} could not be generated: the relay's status is {video.status!r}, its reason: "
            f"{video.error}\nChange the prompt or the images if the reason names them, else submit it again.",
            veo_task_id=video.id,
        )


def log_answer(log: Logger, before: VideoTask | None, video: VideoTask) -> None:
    """Log a status that is new, and what a person should know of it."""
    if before is None or before.status != video.status:
        log.info("Video %s: %s", video.id, video.status)
        if video.warning:
            log.warning("Video %s: %s", video.id, video.warning)


def log_no_answer(log: Logger, veo_task_id: str, error: VeoError) -> None:
    """Log that a question failed, and that the wait goes on."""
    log.warning("Asking for video %s goes on: %s", veo_task_id, first_line(error))


@dataclass
class Wait:
    """
    The wait for one video.

    All times are epoch seconds: a wait may move between processes.

    :param veo_task_id: the id that create returned.
    :param started: when the wait began; for a new video, when it was submitted.
    :param timeout: seconds from ``started`` until the wait gives up.
    :param poll_interval: seconds between two questions, in the first five minutes; then they become rarer.
    :param due: when the video can be ready, so that asking earlier is no use.
    """

    veo_task_id: str
    started: float
    timeout: float
    poll_interval: float
    due: float = 0.0
    last: VideoTask | None = None
    """The last answer."""
    trouble: VeoError | None = None
    """Why the last question got no answer."""
    not_found_since: float | None = None
    """When the first 404 came that no answer followed."""
    _without_url: int = field(default=0, repr=False)
    _trouble_since: float = field(default=0.0, repr=False)

    def answered(self, video: VideoTask) -> bool:
        """
        Take an answer in, and say whether the video is there.

        :raises VeoGenerationFailedError: the relay could not make it.
        :raises VeoResponseError: the relay says that it is done, and never says where it is.
        """
        self.last, self.trouble, self.not_found_since = video, None, None
        raise_if_failed(video)
        if video.state == "running" or video.video_url:
            return video.state == "succeeded"
        self._without_url += 1
        if self._without_url > ANSWERS_WITHOUT_URL:
            left_out = f" ({video.left_out})" if video.left_out else ""
            raise VeoResponseError(
                f"The relay says that video {self.veo_task_id} is done (status {video.status!r}), but gave no "
                f"video_url in {self._without_url} answers{left_out}.\nIt is billed. Look for it at the relay, or "
                f"attach to it later with existing_veo_task_id={self.veo_task_id!r}.",
                veo_task_id=self.veo_task_id,
            )
        return False

    def got_no_answer(self, error: VeoError, now: float) -> None:
        """
        Take in that a question failed.

        :raises VeoError: ``error`` itself where asking again is no use, or one that says for how long it was of none.
        """
        if self.trouble is None:
            self._trouble_since = now
        self.trouble = error
        if isinstance(error, VeoNotFoundError):
            self.not_found_since = now if self.not_found_since is None else self.not_found_since
            if now - self.not_found_since >= NOT_FOUND_SECONDS:
                raise error
        elif not error.transient:
            raise error
        if now - self._trouble_since >= PATIENCE_SECONDS:
            raise VeoUnavailableError(
                f"The relay gave no answer about video {self.veo_task_id} for {now - self._trouble_since:.0f} s, "
                f"at last: {error}\n{self._how_to_go_on()}",
                veo_task_id=self.veo_task_id,
            )

    def seconds_to_first(self, now: float, spread: float) -> float:
        """
        Say how long to wait before the first question: until the video can be ready, and a part of an interval more.

        A deadline that has passed shortens it to nothing: the video may be there.

        :param spread: a random number from 0 to 1. Waits that begin together, or are restarted together, so spread out.
        """
        # Clocks differ: by one that is an hour behind, a video would be due in an hour.
        longest = FIRST_LOOK_INTERVALS * self.poll_interval
        wanted = min(max(0.0, self.due - now), longest) + spread * self.poll_interval
        return max(0.0, min(wanted, self._left(now)))

    def seconds_to_next(self, now: float, spread: float = 0.5) -> float:
        """
        Say how long to wait before the next question: as long as the relay asks for, never past the deadline.

        :param spread: a random number from 0 to 1.
        :raises VeoTimeoutError: the deadline has passed.
        """
        left = self._left(now)
        if left <= 0:
            raise VeoTimeoutError(self._gave_up(now), veo_task_id=self.veo_task_id)
        slower = min(max(1.0, (now - self.started) / STEADY_SECONDS), SLOWEST)
        interval = self.poll_interval * slower * (1 + SPREAD * (2 * spread - 1))
        asked_for = self.trouble.retry_after if self.trouble and self.trouble.retry_after else 0.0
        # The relay's patience is the same for all who were told: the spread goes on top.
        return min(max(interval, asked_for + spread * SPREAD * self.poll_interval if asked_for else 0.0), left)

    def _left(self, now: float) -> float:
        return self.started + self.timeout - now

    def _gave_up(self, now: float) -> str:
        status = f"Its last status was {self.last.status!r}." if self.last else "The relay never told its status."
        trouble = f" The last question got no answer: {self.trouble}" if self.trouble else ""
        return (
            f"Video {self.veo_task_id} was not ready {now - self.started:.0f} s after the wait began (timeout "
            f"{self.timeout:.0f} s). {status}{trouble}\n{self._how_to_go_on()}"
        )

    def _how_to_go_on(self) -> str:
        return (
            "It goes on being generated, and is billed. To wait for it again, clear the sensor that waited, or set "
            f"existing_veo_task_id={self.veo_task_id!r} in the task that created it. To wait longer, raise timeout."
        )
