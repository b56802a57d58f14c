"""What is to be done about a submission, by what is on record of it: one table, for one video and for a batch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal

from airflow_provider_veo.journal.submission import ACCEPTED, FAILED, INTENDED, REFUSED, SUCCEEDED, UNSENT

if TYPE_CHECKING:
    from airflow_provider_veo.journal.submission import Submission, Wanted


class Action(Enum):
    """What a try does next."""

    SUBMIT = auto()
    ADOPT = auto()
    """Continue with a video that was submitted elsewhere."""
    POLL = auto()
    STORE = auto()
    NOTHING = auto()
    UNKNOWN = auto()
    """Submit nothing: it may have been accepted, and a person decides."""
    OTHER_ACCOUNT = auto()
    """Submit nothing at all: another account is billed for it, and it can't be polled with this one."""


@dataclass(frozen=True)
class Policy:
    """
    What a user decides about submissions that are on record.

    :param on_ambiguous_submit: ``"fail"`` or ``"resubmit"``, where it can't be known whether one was accepted.
    :param attempts: how often a video whose generation fails is submitted in all; ``None``: once in each try.
    :param download: whether a file is stored of each video.
    :param keeps_account: refuse to submit what is in flight with another account; else it is submitted again.
    """

    on_ambiguous_submit: Literal["fail", "resubmit"] = "fail"
    attempts: int | None = None
    download: bool = False
    keeps_account: bool = False


def decide(record: Submission | None, wanted: Wanted, policy: Policy) -> Action:
    """
    Say what is to be done.

    ===============================  ====================================================================
    on record                        then
    ===============================  ====================================================================
    nothing                          submit, or adopt the video that a job names
    in flight with another account   nothing of the batch is submitted; one video is submitted again
    another video than the job's     adopt that: ``existing_veo_task_id``
    given up in this very try        nothing: the next try continues
    an intent only                   nobody knows: ``on_ambiguous_submit`` decides
    certainly not accepted, refused  submit: it is not billed
    another request                  submit the new one
    accepted                         poll
    failed                           submit, as long as ``attempts`` allows
    succeeded                        store its file, if that is asked for
    stored                           nothing
    ===============================  ====================================================================

    :param record: what is on record.
    :param wanted: what is asked for.
    :param policy: what the user has decided.
    """
    if record is None:
        return Action.SUBMIT if wanted.existing_veo_task_id is None else Action.ADOPT
    is_other_account = not record.is_billed_to(wanted.account.name)
    if is_other_account and policy.keeps_account and record.state in (INTENDED, ACCEPTED):
        return Action.OTHER_ACCOUNT
    has_adopted = record.has_adopted(wanted)
    if wanted.existing_veo_task_id is not None and not has_adopted:
        return Action.ADOPT
    if record.failure is not None and not record.again:
        return Action.NOTHING
    if record.state == INTENDED:
        return Action.SUBMIT if policy.on_ambiguous_submit == "resubmit" else Action.UNKNOWN
    is_same = has_adopted or record.asks_for(wanted)
    if record.state in (UNSENT, REFUSED) or not is_same or (is_other_account and not policy.keeps_account):
        return Action.SUBMIT
    return _by_state(record, policy)


def _by_state(record: Submission, policy: Policy) -> Action:
    if record.state == ACCEPTED:
        return Action.POLL
    if record.state == FAILED:
        return Action.SUBMIT if policy.attempts is None or record.attempt < policy.attempts else Action.NOTHING
    return Action.STORE if record.state == SUCCEEDED and policy.download else Action.NOTHING
