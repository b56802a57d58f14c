"""What is to be done for a job of a batch, by what is on record of it."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from airflow_provider_veo.batch.entry import (
    ACCEPTED,
    FAILED,
    INTENDED,
    REFUSED,
    SUCCEEDED,
    UNSENT,
)

if TYPE_CHECKING:
    from airflow_provider_veo.batch.entry import Entry
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.batch.options import Options
    from airflow_provider_veo.connection import Account


class Step(Enum):
    """What a try does next about a job."""

    ADOPT = auto()
    """Go on with a video that was submitted elsewhere."""
    SUBMIT = auto()
    WAIT = auto()
    STORE = auto()
    NOTHING = auto()


def next_step(job: Job, entry: Entry | None, account: Account, options: Options) -> Step:
    """
    Say what is to be done.

    ==============================  =====================================================================
    on record                       then
    ==============================  =====================================================================
    nothing, or certainly not sent  it is submitted
    an intent only                  nobody knows: ``on_ambiguous_submit`` decides
    another request                 the new one is submitted
    another video than the job's    that is adopted: ``existing_veo_task_id``
    accepted                        it is waited for
    failed                          it is submitted, as long as ``attempts_per_video`` allows
    succeeded                       its file is stored, if that is asked for
    refused                         it is submitted again: it is certainly not billed
    stored                          nothing
    given up in this very try       nothing: the next try goes on
    ==============================  =====================================================================

    :param job: the job.
    :param entry: what is on record of it.
    :param account: who is billed.
    :param options: how to go about it.
    """
    if entry is None:
        return Step.SUBMIT if job.existing_veo_task_id is None else Step.ADOPT
    has_adopted = entry.has_adopted(job, account)
    if job.existing_veo_task_id is not None and not has_adopted:
        return Step.ADOPT
    if entry.trouble is not None and not entry.again:
        return Step.NOTHING
    if entry.state == INTENDED:
        return Step.SUBMIT if options.on_ambiguous_submit == "resubmit" else Step.NOTHING
    if entry.state in (UNSENT, REFUSED) or not (has_adopted or entry.asks_for(job, account)):
        return Step.SUBMIT
    if entry.state == ACCEPTED:
        return Step.WAIT
    if entry.state == FAILED:
        return Step.SUBMIT if entry.attempt < options.attempts_per_video else Step.NOTHING
    return Step.STORE if entry.state == SUCCEEDED and options.download else Step.NOTHING
