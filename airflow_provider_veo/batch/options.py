"""What a user decides about how a batch is worked on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_provider_veo.journal.decision import Policy


@dataclass(frozen=True)
class Options:
    """
    The operator's arguments that the work goes by.

    :param max_in_flight: videos that are generated at a time.
    :param requests_per_minute: the most requests to the relay, questions included.
    :param attempts_per_video: how often a job whose generation fails is submitted in all.
    :param on_ambiguous_submit: ``"fail"`` or ``"resubmit"``.
    :param poll_interval: seconds between two questions for a video.
    :param timeout: seconds for a video, from its submission on.
    :param deferrable: wait without a worker.
    :param download: store each video's file.
    :param max_cost: the most that all submissions may cost.
    :param try_id: tells this try of the task from all others, also from those of a run that was begun anew.
    """

    max_in_flight: int = 20
    requests_per_minute: float | None = None
    attempts_per_video: int = 1
    on_ambiguous_submit: Literal["fail", "resubmit"] = "fail"
    poll_interval: float = 15.0
    timeout: float = 3600.0
    deferrable: bool = False
    download: bool = True
    max_cost: float | None = None
    try_id: str = ""

    @property
    def policy(self) -> Policy:
        """What decides about submissions that are on record."""
        return Policy(self.on_ambiguous_submit, self.attempts_per_video, self.download, keeps_account=True)

    @property
    def enough_slots(self) -> int:
        """So many free slots are worth a submission, and a worker's process where it has to be woken for that."""
        return max(1, self.max_in_flight // 4)
