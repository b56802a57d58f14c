"""The user's options for processing a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_provider_veo.journal.decision import Policy


@dataclass(frozen=True)
class Options:
    """
    The operator's arguments that control processing.

    :param max_in_flight: maximum number of videos generated at a time.
    :param requests_per_minute: maximum rate of requests to the relay, polls included.
    :param attempts_per_video: maximum submissions of a job whose generation fails.
    :param attempts_if_blocked: maximum number of times that a blocked prompt is submitted again.
    :param rewords: whether there is an ``on_blocked``.
    :param on_ambiguous_submit: ``"fail"`` or ``"resubmit"``.
    :param poll_interval: seconds between two polls for a video.
    :param timeout: seconds to wait for a video after its submission.
    :param deferrable: wait without a worker.
    :param download: store each video's file.
    :param max_cost: maximum price of all submissions.
    :param try_id: identifies this try of the task, also among those of a cleared run.
    """

    max_in_flight: int = 20
    requests_per_minute: float | None = None
    attempts_per_video: int = 1
    attempts_if_blocked: int = 1
    rewords: bool = False
    on_ambiguous_submit: Literal["fail", "resubmit"] = "fail"
    poll_interval: float = 15.0
    timeout: float = 3600.0
    deferrable: bool = False
    download: bool = True
    max_cost: float | None = None
    try_id: str = ""

    @property
    def policy(self) -> Policy:
        """The policy for submissions that are on record."""
        return Policy(
            self.on_ambiguous_submit,
            self.attempts_per_video,
            self.attempts_if_blocked,
            self.rewords,
            self.download,
            keeps_account=True,
        )

    @property
    def enough_slots(self) -> int:
        """Free slots that justify submitting, or waking a worker's process to submit."""
        return max(1, self.max_in_flight // 4)
