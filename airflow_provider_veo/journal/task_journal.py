"""The journal of a task instance: what it submitted, across tries, processes and machines.

Three invariants, none of which may be relaxed:

- An intent is on record before the request is sent, and the id as soon as it is known. An intent without an id means
  that it is unknown whether the request was accepted; it never means that the request was not sent.
- "The record could not be read" is never treated as "there is no record": it raises, and nothing is sent.
- If several processes run one task instance at once (a worker that was thought dead), at most one sends.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import conf

from airflow_provider_veo.compat import AIRFLOW_V_3_4_PLUS
from airflow_provider_veo.journal.formats import FORMAT
from airflow_provider_veo.journal.identity import lost_by_a_clear, owner_of
from airflow_provider_veo.journal.stores import NotOurs, ObjectStorage, TaskStateStore, ThisTry
from airflow_provider_veo.journal.submission import ACCEPTED, INTENDED, Submission
from airflow_provider_veo.protocol import VeoJournalError, VeoJournalRecordError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import Context

from airflow_provider_veo.journal.stores import Store

RECORD = "veo_submission"
"""Key of the accepted submission. Renaming it, or the intent's key, would lose track of videos in flight."""
INTENT = "veo_submission_intent"
"""Key of the intent. It is separate from the record, so that a late process can't overwrite an id."""
CLAIM = "veo_submission_claim"
"""Key of the claim: which process is about to submit. It matters only while two processes compete."""

REWORDED = "veo_submission_reworded"
"""Key of the prompt that ``on_blocked`` returned for a blocked submission, until it is part of an intent."""
COMPLETE = "veo_submission_complete"
"""In the task state store: since which try everything that is submitted is on record. It is lost with the records."""
PLACE = "veo_submission_place"
"""In the task state store: the ``[veo] journal_path`` that was set when this task instance submitted last."""

_MAX_ATTEMPTS = 6
_MAX_SECONDS = 60.0
"""Limits for retrying the write of a record that must not be lost."""
_T = TypeVar("_T")


class TaskJournal:
    """
    The record of what one task instance has submitted.

    :param store: the store that holds it.
    :param elsewhere: returns the store that held it before ``[veo] journal_path`` was set or removed, or ``None``.
    :param mark: leaves a mark in that store that says where the record is now.
    :param lost: explains how a clear may have lost the records; empty: it can't have.
    """

    def __init__(
        self,
        store: Store,
        elsewhere: Callable[[], Store | None] = lambda: None,
        mark: Callable[[], None] = lambda: None,
        *,
        lost: str = "",
    ) -> None:
        self._store = store
        self._elsewhere = elsewhere
        self._mark = mark
        self._lost = lost
        self._found_in = store

    @property
    def survives(self) -> bool:
        """Whether the next try can read what this one submitted."""
        return self._store.survives

    @property
    def is_lost_when_cleared(self) -> bool:
        """Whether Airflow deletes the record when the task is cleared, unless it is asked to keep it."""
        return AIRFLOW_V_3_4_PLUS and self._store.lost_when_cleared

    @property
    def where(self) -> str:
        """Location of the record of an accepted video, for people who want to remove it."""
        return self._found_in.where(RECORD)

    @property
    def where_intent(self) -> str:
        """Location of the record of a request whose outcome is unknown, for people who want to remove it."""
        return self._found_in.where(INTENT)

    def read(self) -> Submission | None:
        """
        Return the last submission; ``None`` if there certainly is none.

        An intent counts only if it was made to replace the current record, or an intent that was. Any other intent is
        that of a late process, or has itself become the current record.

        :raises VeoJournalError: the store can't be read.
        :raises VeoJournalRecordError: there is a record, but it is invalid.
        """
        stores = [self._store, *([other] if (other := self._try("read", self._elsewhere)) else [])]
        found = [(submission, store) for store in stores if (submission := self._read_in(store)) is not None]
        if not found:
            return None
        tokens = {submission.token for submission, _ in found}  # two may be of the same millisecond
        newest, self._found_in = max(found, key=lambda each: (each[0].submitted, each[0].replaces in tokens))
        return newest

    def lost(self) -> str:
        """
        Explain how a record may have been lost, if nothing is on record; empty: there was none.

        :raises VeoJournalError: the store can't be read.
        """
        return self._lost if self._lost and self._get(COMPLETE) is None else ""

    def begin(self, try_number: int) -> None:
        """
        Note that from this try on, nothing on record means that nothing was submitted.

        :raises VeoJournalError: the store can't be written.
        """
        if self._store.lost_when_cleared:
            self._write(COMPLETE, {"since_try": try_number})

    def _read_in(self, store: Store) -> Submission | None:
        intent = self._read(INTENT, store)  # read first: accept() writes the record before it removes the intent
        accepted = self._read(RECORD, store)
        if intent is None:
            return accepted
        if accepted is not None and accepted.token not in (intent.replaces, *intent.also_replaces):
            return accepted
        return intent

    def intend(self, submission: Submission, instead_of: Submission | None) -> Submission:
        """
        Record that a request is about to be sent. It may be sent only after this returns.

        These stores have no compare-and-swap, but reading and writing single values is enough to let at most one of
        any number of processes through: each writes its token to the claim, checks that the record is unchanged, writes
        its intent, and checks that its token is still in the claim. (L. Lamport, "A fast mutual exclusion algorithm",
        1987, without the waiting.) This also proves that the store keeps what is written to it.

        :param submission: the request that will be sent.
        :param instead_of: what :meth:`read` returned when that was decided.
        :return: the intent, for :meth:`accept` or :meth:`forget`.
        :raises VeoJournalError: another process is submitting, or the store can't be read or written.
        """
        intent = _in_place_of(submission, instead_of)
        self._try("write", self._mark)
        self._write(CLAIM, {"token": intent.token, "try_number": intent.try_number})
        if self.read() != instead_of:
            self._give_way()
        self._write(INTENT, _record(intent))
        claim = self._get(CLAIM)
        if not isinstance(claim, dict) or claim.get("token") != intent.token:
            self._give_way()
        return intent

    def accept(self, intent: Submission, veo_task_id: str) -> Submission:
        """
        Record the id under which the relay accepted a request.

        :raises VeoJournalRecordError: it could not be recorded. The error holds the id, which is stored nowhere else.
        """
        accepted = intent.accepted(veo_task_id)
        try:
            persistently(lambda: self._write(RECORD, _record(accepted)))
        except VeoJournalError as error:
            raise VeoJournalRecordError(
                f"Video {veo_task_id} was accepted by the relay and is billed, but could not be recorded.\n{error}\n"
                f"To continue with it, set existing_veo_task_id={veo_task_id!r}, and clear this task.",
                veo_task_id=veo_task_id,
            ) from error
        with contextlib.suppress(VeoJournalError):  # a remaining intent does no harm
            self._remove(intent)
        return accepted

    def forget(self, intent: Submission, instead_of: Submission | None = None) -> None:
        """
        Remove an intent: the request was certainly not accepted.

        :param instead_of: what it replaced. If the outcome of that is unknown, it still is.
        :raises VeoJournalError: it could not be removed.
        """
        before = instead_of if instead_of is not None and instead_of.state is INTENDED else None
        persistently(lambda: self._remove(intent, before))

    def reworded(self, blocked: Submission) -> str | None:
        """
        Return the prompt that was recorded for a blocked submission; ``None``: there is none.

        :raises VeoJournalError: the store can't be read.
        """
        found = self._get(REWORDED)
        prompt = found.get("prompt") if isinstance(found, dict) and found.get("token") == blocked.token else None
        return prompt if isinstance(prompt, str) else None

    def reword(self, blocked: Submission, prompt: str) -> None:
        """
        Record the prompt that is to be sent in place of a blocked one, so that every later try sends the same.

        :raises VeoJournalError: it could not be recorded.
        """
        persistently(lambda: self._write(REWORDED, {"token": blocked.token, "prompt": prompt}))

    def adopt(self, submission: Submission, veo_task_id: str) -> Submission:
        """Record a video that was submitted elsewhere. A video that is already on record stays unchanged."""
        try:
            recorded = self.read()
        except VeoJournalRecordError:
            recorded = None  # whoever named the video has looked into it
        if recorded is not None and recorded.veo_task_id == veo_task_id:
            return recorded
        accepted = self.accept(submission.adopting(recorded, veo_task_id), veo_task_id)
        with contextlib.suppress(VeoJournalError):  # the intent for which the video was looked up
            self._try("remove", lambda: self._store.delete(INTENT))
        return accepted

    def _read(self, name: str, store: Store) -> Submission | None:
        try:
            record = self._try("read", lambda: store.get(name))
            return None if record is None else _submission(record)
        except (NotOurs, ValueError) as error:
            raise VeoJournalRecordError(
                f"The record of what this task instance submitted earlier is invalid: {error}.\n"
                f"Nothing was sent, because a video may already be billed. The record is {store.where(name)}. Check at "
                "the relay what was submitted. If there is a video, set existing_veo_task_id to its id; if there is "
                "none, remove the record. Then clear this task."
            ) from error

    def _remove(self, intent: Submission, before: Submission | None = None) -> None:
        """Remove the claim first: once the intent is gone, others may claim. Another process's intent stays."""
        self._try("remove", lambda: self._store.delete(CLAIM))
        current = self._get(INTENT)
        if not isinstance(current, dict) or current.get("token") != intent.token:
            return
        if before is None:
            self._try("remove", lambda: self._store.delete(INTENT))
        else:
            self._write(INTENT, _record(before))

    def _get(self, name: str) -> Any:
        return self._try("read", lambda: self._store.get(name))

    def _write(self, name: str, value: dict[str, Any]) -> None:
        self._try("write", lambda: self._store.set(name, value))

    def _try(self, what: str, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except NotOurs:
            raise
        except Exception as error:  # of any storage library
            raise VeoJournalError(
                f"Could not {what} the record of what this task instance submits ({RECORD}): "
                f"{type(error).__name__}: {error}\nNothing is sent without it, because a video could be billed twice. "
                "Check the store, then try again."
            ) from error

    def _give_way(self) -> NoReturn:
        raise VeoJournalError(
            "Another process is submitting for this task instance: Airflow started it again while it was still "
            "running. This process sent nothing. The next try sees the outcome of the other process's request."
        )


def _in_place_of(submission: Submission, before: Submission | None) -> Submission:
    if before is None:
        return replace(submission, replaces=None)
    tokens = (before.replaces, *before.also_replaces) if before.state is INTENDED else ()
    return replace(submission, replaces=before.token, also_replaces=tuple(filter(None, tokens)))


def _record(submission: Submission) -> dict[str, Any]:
    return {"format": FORMAT, **submission.to_dict()}


def _submission(record: Any) -> Submission:
    submission = Submission.from_dict(record)
    if submission.state not in (INTENDED, ACCEPTED) or submission.key or submission.failure is not None:
        raise ValueError(f"not the record of a task with one video: its state is {submission.state.value!r}")
    return submission


def persistently(write: Callable[[], None], unless: tuple[type[VeoJournalError], ...] = ()) -> None:
    """
    Write a record that must not be lost, retrying for a while.

    :param write: writes it.
    :param unless: errors that no retry can fix.
    :raises VeoJournalError: it could not be written.
    """
    import tenacity

    tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, VeoJournalError) and not isinstance(error, unless)
        ),
        stop=tenacity.stop_after_attempt(_MAX_ATTEMPTS) | tenacity.stop_before_delay(_MAX_SECONDS),
        wait=tenacity.wait_exponential_jitter(max=20),
        reraise=True,
    )(write)


UNPROTECTED = (
    "Submissions of this task are not recorded across tries: this Airflow version has no task state store (added in "
    "3.3), and [veo] journal_path is not set. If the worker dies after a submission, a retry is billed again."
)


def open_journal(context: Context, *, durable: bool) -> TaskJournal:
    """
    Return the journal of the running task instance.

    It is stored under ``[veo] journal_path`` if that is set, otherwise in the task state store of Airflow 3.3 and
    later. If there is neither, or ``durable`` is false, it lasts for this try only.

    :param context: the task's context.
    :param durable: whether to keep records across tries.
    """
    if not durable:
        return TaskJournal(ThisTry())
    accessor = context.get("task_state_store")
    state = None if accessor is None else TaskStateStore(accessor)
    if root := (conf.get("veo", "journal_path", fallback="") or "").strip():
        return TaskJournal(ObjectStorage(root, owner_of(context)), lambda: state, lambda: _leave_a_mark(state, root))
    if state is not None:
        return TaskJournal(state, lambda: _marked(state, context), lost=lost_by_a_clear(context))
    return TaskJournal(ThisTry())


def _leave_a_mark(state: TaskStateStore | None, root: str) -> None:
    if state is not None and state.get(PLACE) != {"journal_path": root}:
        state.set(PLACE, {"journal_path": root})


def _marked(state: TaskStateStore, context: Context) -> Store | None:
    mark = state.get(PLACE)
    if not isinstance(mark, dict) or "journal_path" not in mark:
        return None
    return ObjectStorage(str(mark["journal_path"]), owner_of(context))
