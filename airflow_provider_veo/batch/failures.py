"""Why jobs of a batch did not succeed, what that means for the bill, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_veo.batch.jobs import is_derived
from airflow_provider_veo.batch.results import (
    BLOCKED,
    FAILED,
    NOT_STORED,
    NOT_SUBMITTED,
    REFUSED,
    STATES,
    SUCCEEDED,
    TIMED_OUT,
    UNKNOWN,
)
from airflow_provider_veo.protocol.text import first_line, shortened, storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MAX_REASONS = 1000
"""Different reasons that are counted apart."""
_REASONS_SHOWN, _JOBS_SHOWN = 20, 10
"""Reasons per state, and jobs per reason."""
_LONG_OR_NUMBER, _DIGIT = re.compile(r"[\w.:-]{12,}|\d+(?:\.\d+)*"), re.compile(r"\d")
"""Ids, times and numbers: reasons that differ only in these are the same one. Long words have no digits."""
_PROMPT_CHARACTERS, _NAME_CHARACTERS = 300, 200
REASON_CHARACTERS = 500


class Advice(NamedTuple):
    """What a state means for the bill, and what to do."""

    billed: str
    what_to_do: str


ADVICE = {
    NOT_STORED: Advice("billed", "Clear the task. It stores the files that are missing, and nothing is billed again."),
    FAILED: Advice(
        "billing depends on the relay's terms",
        "To submit a job again, raise attempts_per_video or change the job's request, and clear the task.",
    ),
    BLOCKED: Advice(
        "billing depends on the relay's terms; several relays refund it",
        "It is often a false positive. To submit the same prompt again, raise attempts_if_blocked; to submit another "
        "one, change the job's prompt or images, or set on_blocked. Then clear the task.",
    ),
    REFUSED: Advice("not billed", "Fix the jobs' requests, and clear the task."),
    UNKNOWN: Advice(
        "may have been billed",
        "Look for the videos at the relay. If one exists, set the job's existing_veo_task_id to its id; otherwise set "
        "on_ambiguous_submit='resubmit'. Then clear the task.",
    ),
    TIMED_OUT: Advice("billed", "Clear the task. It polls the same videos again, and nothing is billed again."),
    NOT_SUBMITTED: Advice(
        "not billed", "Fix what the reason names (the account, the key, the budget), and clear the task."
    ),
}
_NO_ANSWER = "The outcome is not on record: the process ended, or the relay's response was lost."


@dataclass
class Reason:
    """Why jobs did not succeed."""

    state: str
    text: str
    count: int = 0
    jobs: list[dict[str, str]] = field(default_factory=list)
    """The first of them: ``key`` and ``prompt``."""


class Failures:
    """
    Why jobs did not succeed.

    :param rows: of the results.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        found: dict[tuple[str, str], Reason] = {}
        for row in rows:
            state = row["state"]
            if state != SUCCEEDED:
                text = _reason_of(row)
                kind = (state, _LONG_OR_NUMBER.sub(_without_digits, text))
                if kind not in found and len(found) >= _MAX_REASONS:
                    kind, text = (state, ""), "other reasons"
                reason = found.setdefault(kind, Reason(state, text))
                reason.count += 1
                if len(reason.jobs) < _JOBS_SHOWN:
                    reason.jobs.append({"key": name_of(row), "prompt": prompt_of(row)})
        self.reasons = sorted(found.values(), key=lambda reason: -reason.count)
        """The most frequent first."""

    def by_state(self, counts: Mapping[str, int]) -> list[dict[str, Any]]:
        """Return the reasons of each state that is not empty."""
        states = []
        for state in STATES:
            reasons = [reason for reason in self.reasons if reason.state == state]
            if reasons:
                shown = reasons[:_REASONS_SHOWN]
                more = counts[state] - sum(reason.count for reason in shown)
                states.append({"name": words(state), "advice": ADVICE[state], "reasons": shown, "more": more})
        return states


def words(state: str) -> str:
    """Return a state as people read it: ``timed out``."""
    return state.replace("_", " ")


def name_of(row: Mapping[str, Any]) -> str:
    """Return what people call a job: its key, or where it is defined if it was given none."""
    return one_line(row["source"] if is_derived(row["key"]) else row["key"], _NAME_CHARACTERS)


def prompt_of(row: Mapping[str, Any]) -> str:
    """Return the beginning of a job's prompt."""
    return one_line(row["request"].get("prompt"), _PROMPT_CHARACTERS)


def one_line(value: Any, characters: int) -> str:
    """Return a value as one line of bounded length."""
    return shortened(storable(" ".join(str(value).split())), characters)


def _without_digits(found: re.Match[str]) -> str:
    return "#" if _DIGIT.search(found[0]) else found[0]


def _reason_of(row: Mapping[str, Any]) -> str:
    error = str(row["error"] or "")
    if row["state"] == UNKNOWN:  # the first line is the same advice for all, with a time
        error = error.partition("\n")[2] or _NO_ANSWER
    return one_line(first_line(error), REASON_CHARACTERS)
