"""Whether a run kept the promises: nothing is billed twice, nothing is lost, and who fails says why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tests.chaos.plans import FAILED, GENERATION_SECONDS, QUOTA, UNKNOWN
from tests.chaos.points import AFTER_THE_RECORD, BEFORE_THE_INTENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from tests.chaos.plans import Plan

SUCCEEDED, REPORTED, NO_MONEY, UNEXPLAINED = "succeeded", "reported as unknown", "out of money", "failed otherwise"
OUTCOMES = (SUCCEEDED, REPORTED, NO_MONEY, UNEXPLAINED)
THREE_WAYS_ON = ("existing_veo_task_id", "on_ambiguous_submit='resubmit'", "remove the record")
SAID_WHEN_UNKNOWN = "Look for it at the relay"
SAID_WITHOUT_MONEY = "insufficient_user_quota"


@dataclass(frozen=True)
class Run:
    """
    One task instance, from its first try to its end.

    :param state: Airflow's.
    :param result: its XCom ``return_value``.
    :param log: of all its tries.
    :param videos: that the relay accepted for its prompt, oldest first.
    :param record: what its journal says of the last submission.
    :param strikes: that hit it.
    """

    plan: Plan
    state: str | None
    tries: int
    result: object
    log: str
    videos: list[dict]
    record: dict | None
    strikes: list[dict]

    @cached_property
    def outcome(self) -> str:
        """How it ended."""
        if self.state == "success":
            return SUCCEEDED
        if self.state == "failed" and SAID_WHEN_UNKNOWN in self.log:
            return REPORTED
        if self.state == "failed" and SAID_WITHOUT_MONEY in self.log:
            return NO_MONEY
        return UNEXPLAINED

    @property
    def paid_again(self) -> int:
        """How many videos were accepted though the one before had not failed, as far as the relay could have told."""
        return sum(
            before["state"] != "failed" or after["accepted_at"] < before["accepted_at"] + GENERATION_SECONDS
            for before, after in zip(self.videos, self.videos[1:], strict=False)
        )

    @property
    def lost(self) -> bool:
        """Whether a video was accepted that is neither on record nor reported as unknown."""
        if not self.videos or self.outcome == REPORTED:
            return False
        last = self.videos[-1]
        record = self.record or {}
        known = (record.get("state"), record.get("veo_task_id")) == ("accepted", last["id"])
        return not known and last["state"] != "failed"

    def broken_promises(self) -> list[str]:
        """Say what is wrong with it, for a human."""
        found = {
            "billed twice": self.paid_again,
            "lost": self.lost,
            f"ended in state {self.state}": self.state not in ("success", "failed"),
            "failed without a reason": self.outcome == UNEXPLAINED,
            f"returned {self.result!r}": self.state == "success" and self.result not in self._ids[-1:],
            "succeeded without a video": self.state == "success" and not self.videos,
            "doesn't name the three ways on": self.outcome == REPORTED
            and not all(way in self.log for way in THREE_WAYS_ON),
            "has no reason to be unknown": self.outcome == REPORTED and not self._may_be_unknown,
            "had money": self.outcome == NO_MONEY and QUOTA not in self.plan.faults,
            "was made twice though none failed": len(self.videos) > 1 and FAILED not in self.plan.faults,
        }
        return [problem for problem, is_so in found.items() if is_so]

    @property
    def _ids(self) -> list[str]:
        return [video["id"] for video in self.videos]

    @property
    def _may_be_unknown(self) -> bool:
        struck = {strike["point"] for strike in self.strikes}
        return bool(struck - {BEFORE_THE_INTENT, *AFTER_THE_RECORD}) or any(
            fault in UNKNOWN for fault in self.plan.faults
        )

    def __str__(self) -> str:
        struck = ", ".join(f"{strike['manner']} {strike['point']} (try {strike['try']})" for strike in self.strikes)
        return (
            f"{self.plan.seed}: {self.plan}\n    -> {self.outcome} in {self.tries} tries, {len(self.videos)} accepted; "
            f"struck: {struck or 'never'}"
        )


def table(runs: Iterable[Run], points: Iterable[str]) -> str:
    """Return a Markdown table of what became of the runs that were struck at each point."""
    runs = list(runs)
    lines = [
        f"| point | strikes | {' | '.join(OUTCOMES)} | billed twice | lost |",
        f"| --- |{' ---: |' * (len(OUTCOMES) + 3)}",
    ]
    for point in (*points, None):
        here = [run for run in runs if point is None or any(strike["point"] == point for strike in run.strikes)]
        strikes = sum(point in (None, strike["point"]) for run in here for strike in run.strikes)
        outcomes = Counter(run.outcome for run in here)
        cells = [strikes, *(outcomes[outcome] for outcome in OUTCOMES)]
        cells += [sum(bool(run.paid_again) for run in here), sum(run.lost for run in here)]
        lines.append(f"| {point or f'all {len(runs)} runs'} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def show(request: pytest.FixtureRequest, *lines: object) -> None:
    """Print something, whatever pytest captures."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n", *lines, sep="\n", flush=True)
