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
    digest_of,
)

if TYPE_CHECKING:
    from airflow_provider_veo.batch.entry import Entry
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.batch.options import Options


class Step(Enum):
    """What a try does next about a job."""

    ADOPT = auto()
    """Go on with a video that was submitted elsewhere."""
    SUBMIT = auto()
    WAIT = auto()
    STORE = auto()
    NOTHING = auto()


def next_step(job: Job, entry: Entry | None, account: str, options: Options) -> Step:
    """
    Say what is to be done.

    ==============================  =====================================================================
    on record                       then
    ==============================  =====================================================================
    nothing, or certainly not sent  it is submitted
    an intent only                  nobody knows: ``on_ambiguous_submit`` decides
    another request                 the new one is submitted, or the video that it names adopted
    accepted                        it is waited for
    failed                          it is submitted, as long as ``attempts_per_video`` allows
    succeeded                       its file is stored, if that is asked for
    refused, stored                 nothing
    given up in this very try       nothing: the next try goes on
    ==============================  =====================================================================

    :param job: the job.
    :param entry: what is on record of it.
    :param account: who is billed.
    :param options: how to go about it.
    """
    if job.existing_veo_task_id and (entry is None or entry.digest != digest_of(job, account)):
        return Step.ADOPT
    if entry is None:
        return Step.SUBMIT
    if entry.trouble is not None and entry.state != REFUSED and not entry.again:
        return Step.NOTHING
    if entry.state == INTENDED:
        return Step.SUBMIT if options.on_ambiguous_submit == "resubmit" else Step.NOTHING
    if entry.state == UNSENT or entry.digest != digest_of(job, account):
        return Step.SUBMIT
    if entry.state == ACCEPTED:
        return Step.WAIT
    if entry.state == FAILED:
        return Step.SUBMIT if entry.attempt < options.attempts_per_video else Step.NOTHING
    return Step.STORE if entry.state == SUCCEEDED and options.download else Step.NOTHING
