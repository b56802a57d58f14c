"""The journal of a task instance: what it submitted, across tries, processes and machines.

Three invariants, none of which may be relaxed:

- An intent is on record before the request is sent, and the id as soon as it is known. An intent without an id means
  that nobody knows whether the request was accepted; it never means that it was not sent.
- "The record could not be read" is never "there is no record": it raises, and nothing is sent.
- Of several processes that run one task instance at once (a worker that was thought dead), at most one sends.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import conf

from airflow_provider_veo.journal.identity import identity_of
from airflow_provider_veo.journal.stores import NotOurs, ObjectStorage, TaskStateStore, ThisTry
from airflow_provider_veo.journal.submission import FORMAT, Submission
from airflow_provider_veo.protocol import VeoJournalError, VeoJournalRecordError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import Context

from airflow_provider_veo.journal.stores import Store

RECORD = "veo_submission"
"""What the relay has accepted. Renaming it, or the intent, would forget what is under way."""
INTENT = "veo_submission_intent"
"""What was about to be sent. It has a place of its own, so that a process that comes late can't overwrite an id."""
CLAIM = "veo_submission_claim"
"""Who is about to submit. It matters only while two processes are at it."""

PLACE = "veo_submission_place"
"""In the task state store: the ``[veo] journal_path`` that was set when this task instance submitted last."""

_MAX_ATTEMPTS = 6
_MAX_SECONDS = 60.0
"""How often, and for how long, a record is written that must not be lost."""
_T = TypeVar("_T")


class TaskJournal:
    """
    What one task instance has submitted.

    :param store: where it is remembered.
    :param elsewhere: returns where it was remembered before ``[veo] journal_path`` was set or removed, or ``None``.
    :param mark: leaves a mark there of where it is remembered now.
    """

    def __init__(
        self,
        store: Store,
        elsewhere: Callable[[], Store | None] = lambda: None,
        mark: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._elsewhere = elsewhere
        self._mark = mark
        self._found_in = store

    @property
    def survives(self) -> bool:
        """Whether the next try will know what this one has submitted."""
        return self._store.survives

    @property
    def where(self) -> str:
        """Where a person finds the record of an accepted video, to remove it."""
        return self._found_in.where(RECORD)

    @property
    def where_intent(self) -> str:
        """Where a person finds the record of a request that nobody knows of, to remove it."""
        return self._found_in.where(INTENT)

    def read(self) -> Submission | None:
        """
        Return what was submitted last; ``None`` where certainly nothing was.

        An intent counts where it was made for what is on record now. Another one is of a process that came late, or has
        become what is on record.

        :raises VeoJournalError: the store can't be read.
        :raises VeoJournalRecordError: there is a record, and it can't be understood.
        """
        stores = [self._store, *([other] if (other := self._try("read", self._elsewhere)) else [])]
        found = [(submission, store) for store in stores if (submission := self._read_in(store)) is not None]
        if not found:
            return None
        newest, self._found_in = max(found, key=lambda each: each[0].submitted)
        return newest

    def _read_in(self, store: Store) -> Submission | None:
        intent = self._read(INTENT, store)  # the first: accept writes the record before it removes the intent
        accepted = self._read(RECORD, store)
        if intent is None or (accepted is not None and intent.replaces != accepted.token):
            return accepted
        return intent

    def intend(self, submission: Submission, instead_of: Submission | None) -> Submission:
        """
        Record that a request is about to be sent. Only who returns from here may send it.

        Stores like these can't compare and swap. What they can do, read and write single values, is enough for at most
        one of any number of processes to get through: each writes its name on the claim, makes sure that the record
        is still as it was, writes its intent, and makes sure that its name is still on the claim. (L. Lamport, "A fast
        mutual exclusion algorithm", 1987, without the waiting.) It also proves that the store keeps what it is given.

        :param submission: what will be sent.
        :param instead_of: what :meth:`read` returned when that was decided.
        :return: the intent, for :meth:`accept` or :meth:`forget`.
        :raises VeoJournalError: another process is at it, or the store can't be read or written.
        """
        intent = replace(submission, replaces=instead_of.token if instead_of else None)
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

        :raises VeoJournalRecordError: it could not be recorded. The error names the id: it is nowhere else.
        """
        accepted = intent.accepted(veo_task_id)
        try:
            persistently(lambda: self._write(RECORD, _record(accepted)))
        except VeoJournalError as error:
            raise VeoJournalRecordError(
                f"Video {veo_task_id} was accepted by the relay, and is billed, but could not be recorded.\n{error}\n"
                f"To go on with it, set existing_veo_task_id={veo_task_id!r}, and clear this task.",
                veo_task_id=veo_task_id,
            ) from error
        with contextlib.suppress(VeoJournalError):  # what stays does no harm
            self._remove(intent)
        return accepted

    def forget(self, intent: Submission) -> None:
        """
        Remove an intent: the request was certainly not accepted.

        :raises VeoJournalError: it is still there.
        """
        persistently(lambda: self._remove(intent))

    def adopt(self, submission: Submission, veo_task_id: str) -> Submission:
        """Record a video that was submitted elsewhere. One that is on record already stays as it is."""
        try:
            recorded = self.read()
        except VeoJournalRecordError:
            recorded = None  # it was looked into by whoever named the video
        if recorded is not None and recorded.veo_task_id == veo_task_id:
            return recorded
        accepted = self.accept(submission, veo_task_id)
        with contextlib.suppress(VeoJournalError):  # an intent that the video was looked up for
            self._try("remove", lambda: self._store.delete(INTENT))
        return accepted

    def _read(self, name: str, store: Store) -> Submission | None:
        try:
            record = self._try("read", lambda: store.get(name))
            return None if record is None else Submission.from_dict(record)
        except (NotOurs, ValueError) as error:
            raise VeoJournalRecordError(
                f"Tried to read what this task instance submitted before, and can't understand the record: {error}.\n"
                "Nothing was sent, for a video may be paid for already. The record is "
                f"{store.where(name)}. Look up at the relay what was submitted. If there is a video, set "
                "existing_veo_task_id to its id; if there is none, remove the record. Then clear this task."
            ) from error

    def _remove(self, intent: Submission) -> None:
        """The claim goes first: once the intent is gone, others may claim. An intent of another's stays."""
        self._try("remove", lambda: self._store.delete(CLAIM))
        there = self._get(INTENT)
        if isinstance(there, dict) and there.get("token") == intent.token:
            self._try("remove", lambda: self._store.delete(INTENT))

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
                f"Tried to {what} the record of what this task instance submits ({RECORD}), and could not: "
                f"{type(error).__name__}: {error}\nNothing is sent without it: a video could be paid for twice. "
                "See that the store works, then try again."
            ) from error

    def _give_way(self) -> NoReturn:
        raise VeoJournalError(
            "Another process is submitting for this same task instance: Airflow started it again while it was still "
            "running. This one sent nothing. The next try sees what became of the other's request."
        )


def _record(submission: Submission) -> dict[str, Any]:
    return {"format": FORMAT, **submission.to_dict()}


def persistently(write: Callable[[], None], unless: tuple[type[VeoJournalError], ...] = ()) -> None:
    """
    Write what must not be lost, again and again for a while.

    :param write: writes it.
    :param unless: errors that no repetition mends.
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
    "What this task submits is not remembered across its tries: this Airflow has no task state store (3.3 has), and "
    "[veo] journal_path is not set. If its worker dies after the submission, a retry pays again."
)


def open_journal(context: Context, *, durable: bool) -> TaskJournal:
    """
    Return the journal of the task instance that runs.

    It is kept where ``[veo] journal_path`` says, else in the task state store of Airflow 3.3 and later. Where there is
    neither, or ``durable`` is false, it lasts for this try only.

    :param context: the task's context.
    :param durable: whether to remember anything across tries.
    """
    if not durable:
        return TaskJournal(ThisTry())
    accessor = context.get("task_state_store")
    state = None if accessor is None else TaskStateStore(accessor)
    if root := (conf.get("veo", "journal_path", fallback="") or "").strip():
        return TaskJournal(
            ObjectStorage(root, identity_of(context["ti"])), lambda: state, lambda: _leave_a_mark(state, root)
        )
    if state is not None:
        return TaskJournal(state, lambda: _marked(state, context))
    return TaskJournal(ThisTry())


def _leave_a_mark(state: TaskStateStore | None, root: str) -> None:
    if state is not None and state.get(PLACE) != {"journal_path": root}:
        state.set(PLACE, {"journal_path": root})


def _marked(state: TaskStateStore, context: Context) -> Store | None:
    mark = state.get(PLACE)
    if not isinstance(mark, dict) or "journal_path" not in mark:
        return None
    return ObjectStorage(str(mark["journal_path"]), identity_of(context["ti"]))
