"""The next action for a submission, given its record: one table for a single video and for a batch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal

from airflow_provider_veo.journal.submission import ACCEPTED, FAILED, INTENDED, REFUSED, SUCCEEDED, UNSENT

if TYPE_CHECKING:
    from airflow_provider_veo.journal.submission import Submission, Wanted


class Action(Enum):
    """The next action of a try."""

    SUBMIT = auto()
    ADOPT = auto()
    """Continue with a video that was submitted elsewhere."""
    POLL = auto()
    REWORD = auto()
    """Get another prompt from ``on_blocked``, and submit that."""
    STORE = auto()
    NOTHING = auto()
    UNKNOWN = auto()
    """Submit nothing: the request may have been accepted, and a person has to decide."""
    OTHER_ACCOUNT = auto()
    """Submit nothing at all: another account is billed for it, and this one can't poll it."""


@dataclass(frozen=True)
class Policy:
    """
    The user's choices about submissions that are on record.

    :param on_ambiguous_submit: ``"fail"`` or ``"resubmit"``, if it is unknown whether a request was accepted.
    :param attempts: maximum number of submissions of a video whose generation fails; ``None``: one in each try.
    :param attempts_if_blocked: maximum number of times that a prompt that the safety filter blocked is submitted again.
    :param rewords: whether there is an ``on_blocked``, which may return another prompt.
    :param download: whether each video's file is stored.
    :param keeps_account: refuse to submit a request that is in flight with another account; otherwise submit it again.
    """

    on_ambiguous_submit: Literal["fail", "resubmit"] = "fail"
    attempts: int | None = None
    attempts_if_blocked: int = 1
    rewords: bool = False
    download: bool = False
    keeps_account: bool = False


def decide(record: Submission | None, wanted: Wanted, policy: Policy) -> Action:
    """
    Return the next action.

    ===============================  ====================================================================
    on record                        action
    ===============================  ====================================================================
    nothing                          submit, or adopt the video that the job names
    in flight with another account   a batch submits nothing at all; a single video is submitted again
    not the video the job names      adopt that video: ``existing_veo_task_id``
    given up in this same try        nothing: the next try continues
    only an intent                   unknown outcome: ``on_ambiguous_submit`` decides
    certainly not accepted, refused  submit: it was not billed
    another request                  submit the new one
    accepted                         poll
    failed                           submit, up to ``attempts``
    blocked by the safety filter     submit the same prompt, up to ``attempts_if_blocked`` times again; then get
                                     another prompt, once
    blocked, and the job names it    nothing: a video that a job attaches to is free
    reworded                         submit the other prompt; if it is blocked, too, again as above
    succeeded                        store its file, if requested
    stored                           nothing
    ===============================  ====================================================================

    :param record: the record, if there is one.
    :param wanted: the current request.
    :param policy: the user's choices.
    """
    if record is None:
        return Action.SUBMIT if wanted.existing_veo_task_id is None else Action.ADOPT
    if policy.keeps_account and _is_in_flight_elsewhere(record, wanted):
        return Action.OTHER_ACCOUNT
    if wanted.existing_veo_task_id is not None and not record.has_adopted(wanted):
        return Action.ADOPT
    if record.failure is not None and not record.again:
        return Action.NOTHING
    if record.state == INTENDED:
        return Action.SUBMIT if policy.on_ambiguous_submit == "resubmit" else Action.UNKNOWN
    if not _is_same(record, wanted, policy):
        return Action.SUBMIT
    if record.is_blocked and record.veo_task_id == wanted.existing_veo_task_id:
        return Action.NOTHING
    return _by_state(record, policy)


def _is_in_flight_elsewhere(record: Submission, wanted: Wanted) -> bool:
    return record.state in (INTENDED, ACCEPTED) and not record.is_billed_to(wanted.account.name)


def _is_same(record: Submission, wanted: Wanted, policy: Policy) -> bool:
    is_same_account = policy.keeps_account or record.is_billed_to(wanted.account.name)
    return is_same_account and (record.has_adopted(wanted) or record.asks_for(wanted))


def _by_state(record: Submission, policy: Policy) -> Action:
    if record.state in (UNSENT, REFUSED):
        return Action.SUBMIT
    if record.state == ACCEPTED:
        return Action.POLL
    if record.is_blocked:
        return if_blocked(record, policy)
    if record.state == FAILED:
        return Action.SUBMIT if policy.attempts is None or record.attempt < policy.attempts else Action.NOTHING
    return Action.STORE if record.state == SUCCEEDED and policy.download else Action.NOTHING


def if_blocked(record: Submission, policy: Policy) -> Action:
    """Return the next action for a video that the safety filter blocked, if the request is still the same."""
    if record.times_blocked <= policy.attempts_if_blocked:
        return Action.SUBMIT
    return Action.REWORD if policy.rewords and record.reworded is None else Action.NOTHING
