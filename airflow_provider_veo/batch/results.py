"""The results of a batch: a row for each job, and a summary."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.batch.jobs import models_of
from airflow_provider_veo.batch.progress import cost_of
from airflow_provider_veo.files import atomic
from airflow_provider_veo.journal.formats import SubmissionState
from airflow_provider_veo.journal.spend import spend_of
from airflow_provider_veo.journal.submission import Submission, now
from airflow_provider_veo.protocol.prices import NOTHING, number
from airflow_provider_veo.protocol.text import first_line, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.connection import Account
    from airflow_provider_veo.journal.submission import Wanted
    from airflow_provider_veo.protocol import VeoError

SUCCEEDED, NOT_STORED, FAILED, BLOCKED, REFUSED, UNKNOWN, TIMED_OUT, NOT_SUBMITTED = STATES = (
    "succeeded",
    "not_stored",
    "failed",
    "blocked",
    "refused",
    "unknown",
    "timed_out",
    "not_submitted",
)
"""
How a job can end.

``succeeded``: the video is ready, and its file is stored if requested. ``not_stored``: the video is ready, but its file
could not be stored. ``failed``: the relay could not generate it. ``blocked``: the safety filter blocked it.
``refused``: the relay refused it; not billed. ``unknown``: it may have been accepted and billed. ``timed_out``: it was
accepted, but the wait ended without a video. ``not_submitted``: it was not sent; not billed.
"""
RESULTS, SUMMARY = "results.jsonl", "summary.json"
VIDEOS = "videos"
"""The folder of the files, beside them."""
_IMAGE_CHARACTERS = 2048
"""An image may be a ``data:`` URI of megabytes."""
FILE_FACTS = ("bytes", "sha256", "content_type", "width", "height", "duration_seconds", "verified", "poster")
_REASONS_SHOWN = 5
ROWS_AT_A_TIME = 500

UNKNOWN_TEXT = (
    "Its submission began at {intended_at}, and the outcome is not on record: the process ended, or the relay's "
    "response was lost. It may have been accepted and billed. Look for it at the relay. If you find it, set this job's "
    "existing_veo_task_id to its id; otherwise set on_ambiguous_submit='resubmit'. Then clear this task."
)
_WITHOUT_A_REASON = {
    NOT_STORED: "The video is ready, but its file is not stored yet. The next try stores it.",
    FAILED: "The relay could not generate it and gave no reason.",
    REFUSED: "The relay refused the request in an earlier try. The next try sends it again.",
    TIMED_OUT: "It was accepted, but the wait ended without a video. The next try resumes polling.",
}
_NO_RECORD = Submission(state=SubmissionState.UNSENT, intended_at="")


class Results:
    """
    The rows of a batch.

    :param jobs: the jobs, in order.
    :param records: their records, by key.
    :param account: who is billed; ``None``: each record is assumed to match its job's request.
    :param download: whether files were to be stored.
    :param stopped: why not everything was submitted.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        records: Mapping[str, Submission],
        account: Account | None,
        *,
        download: bool,
        stopped: str | None = None,
    ) -> None:
        self._jobs = jobs
        self._records = records
        self._download = download
        self._stopped = stopped
        self._states = [self._state(job, account) for job in jobs]

    @property
    def total(self) -> int:
        """Number of jobs."""
        return len(self._jobs)

    @property
    def counts(self) -> dict[str, int]:
        """Number of jobs in each of the :data:`STATES`."""
        counted = Counter(self._states)
        return {state: counted[state] for state in STATES}

    @property
    def models(self) -> dict[str, dict[str, int]]:
        """Number of jobs in each state, by model."""
        counted: dict[str, Counter[str]] = {}
        for job, state in zip(self._jobs, self._states, strict=True):
            counted.setdefault(job.body["model"], Counter())[state] += 1
        return {model: dict(counts) for model, counts in counted.items()}

    @property
    def cost(self) -> Decimal | None:
        """Price of everything that was accepted, in all tries; ``None`` if any of it has no price."""
        return cost_of(self._records.values())

    @property
    def possible_cost(self) -> Decimal:
        """Price of what may have been billed in addition, as far as prices are known."""
        return sum((record.may_have_cost for record in self._records.values()), NOTHING)

    @property
    def spend(self) -> list[dict[str, Any]]:
        """What was spent, by day and model; see :func:`airflow_provider_veo.journal.spend.spend_of`."""
        return spend_of(self._records.values(), models_of(self._jobs))

    @property
    def stored(self) -> list[tuple[Job, Mapping[str, Any]]]:
        """The jobs whose files are stored, with the facts of each file."""
        return [(job, record.file) for job in self._jobs if (record := self._records.get(job.key)) and record.file]

    @property
    def orphans(self) -> list[Submission]:
        """Accepted submissions of jobs that are no longer in the batch."""
        wanted = {job.key for job in self._jobs}
        return [record for key, record in self._records.items() if key not in wanted and record.veo_task_id]

    @property
    def no_longer_asked_for(self) -> list[dict[str, Any]]:
        """Key and id of each of the :attr:`orphans`."""
        return [{"key": each.key, "id": each.veo_task_id} for each in self.orphans]

    @property
    def times(self) -> dict[str, Any]:
        """When the first job was submitted, when this is written, and the seconds between; empty if none was."""
        submitted = [record.submitted for record in self._records.values()]
        began = min(submitted, default=None)
        if began is None:
            return {}
        times = {"first_submitted_at": datetime.fromtimestamp(began, tz=timezone.utc).isoformat(timespec="seconds")}
        return {**times, "written_at": now(), "seconds": round(time.time() - began)}

    @property
    def error_for_now(self) -> VeoError | None:
        """A temporary error because of which a job was not submitted: the next try may submit it."""
        states = zip(self._jobs, self._states, strict=True)
        left = (self._records.get(job.key) for job, state in states if state == NOT_SUBMITTED)
        errors = (record.error for record in left if record)
        return next((error for error in errors if error and not error.final), None)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return a row for each job, in order."""
        for job, state in zip(self._jobs, self._states, strict=True):
            yield self._row(job, state)

    def reasons(self) -> list[str]:
        """Return why jobs did not succeed, the most frequent reasons first."""
        reasons = Counter(
            f"{row['state']}: {first_line(row['error'])}" for row in self.rows() if row["state"] != SUCCEEDED
        )
        shown = [f"{count} {reason}" for reason, count in reasons.most_common(_REASONS_SHOWN)]
        more = len(reasons) - len(shown)
        return [*shown, *([f"and {more} other reasons"] if more > 0 else [])]

    def write(
        self, folder: ObjectStoragePath, about: Mapping[str, Any], make_sure: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """
        Write both files, and return the part that is small enough for XCom.

        :param folder: the folder to write to.
        :param about: additional fields of the summary.
        :param make_sure: called before each write. It raises in a process that was presumed dead, so that it does not
            overwrite the files of a newer one.
        """
        from airflow_provider_veo.files.remote import uri

        atomic.write_stream(folder / RESULTS, self._lines(), make_sure)
        short = {
            "results": uri(folder / RESULTS),
            "summary": uri(folder / SUMMARY),
            "total": self.total,
            **self.counts,
            "cost": number(self.cost),
            "possible_cost": number(self.possible_cost),
        }
        summary = {**about, **short, **self.times, "models": self.models, "reasons": self.reasons()}
        summary["spend"] = self.spend
        if videos := self.no_longer_asked_for:
            summary["no_longer_asked_for"] = videos
        make_sure()
        atomic.write(folder / SUMMARY, _encoded(json.dumps(summary, ensure_ascii=False, indent=1)))
        return short

    def _lines(self) -> Iterator[bytes]:
        """Return the rows as JSON, many at a time: storages write large chunks faster."""
        rows = self.rows()
        while some := list(islice(rows, ROWS_AT_A_TIME)):
            yield _encoded("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in some))

    def _state(self, job: Job, account: Account | None) -> str:
        record = self._records.get(job.key)
        if record is None:
            return NOT_SUBMITTED
        if record.state == SubmissionState.INTENDED:
            return UNKNOWN
        is_other = account is not None and not _matches(record, job.wanted(account))
        if is_other or record.state == SubmissionState.UNSENT:
            return NOT_SUBMITTED
        ends = {SubmissionState.REFUSED: REFUSED, SubmissionState.ACCEPTED: TIMED_OUT, SubmissionState.FAILED: FAILED}
        if record.is_blocked:
            return BLOCKED
        if record.state in ends:
            return ends[record.state]
        return SUCCEEDED if record.file or not self._download else NOT_STORED

    def _row(self, job: Job, state: str) -> dict[str, Any]:
        record = self._records.get(job.key, _NO_RECORD)
        current = _NO_RECORD if state == NOT_SUBMITTED else record
        video, file = current.video or {}, current.file or {}
        return {
            "key": job.key,
            "source": job.source,
            "state": state,
            "id": current.veo_task_id,
            "status": video.get("status"),
            "video_url": video.get("video_url"),
            "file": file.get("uri"),
            **{fact: file.get(fact) for fact in FILE_FACTS},
            "enhanced_prompt": video.get("enhanced_prompt"),
            "error": self._error(state, record, video),
            "attempts": _attempts(record),
            "earlier_ids": list(record.earlier),
            "cost": number(record.cost),
            "possible_cost": number(record.may_have_cost),
            "submitted_at": current.accepted_at or current.intended_at or None,
            "finished_at": current.ended_at,
            "request": _request(job),
            "reworded_prompt": current.reworded,
        }

    def _error(self, state: str, record: Submission, video: Mapping[str, Any]) -> str | None:
        if state == SUCCEEDED:
            return None
        reason = record.reason
        if state == UNKNOWN:
            text = UNKNOWN_TEXT.format(intended_at=record.intended_at)
            return f"{text}\n{reason}" if reason else text
        if state == NOT_SUBMITTED:
            return reason or self._stopped or "It was not sent: the task ended first. The next try sends it."
        reasons = (video.get("error") if state in (FAILED, BLOCKED) else None, reason)
        return "\n".join(filter(None, reasons)) or _WITHOUT_A_REASON[state]


def _matches(record: Submission, wanted: Wanted) -> bool:
    return record.has_adopted(wanted) or record.asks_for(wanted)


def _attempts(record: Submission) -> int:
    return len(record.earlier) + (record.state not in (SubmissionState.UNSENT, SubmissionState.REFUSED))


def _encoded(text: str) -> bytes:
    """Encode a string as UTF-8; a lone surrogate, which a relay may send, becomes its JSON escape."""
    return text.encode(errors="backslashreplace")


def _request(job: Job) -> dict[str, Any]:
    body = dict(job.body)
    if "images" in body:
        body["images"] = [shortened(image, _IMAGE_CHARACTERS) for image in body["images"]]
    return body
