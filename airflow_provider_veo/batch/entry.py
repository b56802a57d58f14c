"""What is on record of one job of a batch: its last submission, and what became of it."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.connection import Account
    from airflow_provider_veo.protocol import VeoError, VideoTask

INTENDED, UNSENT, REFUSED, ACCEPTED, FAILED, SUCCEEDED, STORED = (
    "intended",
    "unsent",
    "refused",
    "accepted",
    "failed",
    "succeeded",
    "stored",
)
"""The states of a submission.

``intended``: about to be sent; nobody knows more. ``unsent``: certainly not accepted, and may be sent again.
``refused``: the relay refuses this very request. ``accepted``: it is generated, and billed. ``failed``, ``succeeded``:
how the generation ended. ``stored``: its file is in the user's storage.
"""

_RANK = {INTENDED: 0, UNSENT: 1, REFUSED: 1, ACCEPTED: 2, FAILED: 3, SUCCEEDED: 3, STORED: 4}
_DIGEST_CHARACTERS = 32
_BESIDE_THE_ERROR = ("try", "try_number", "again")
"""What a trouble holds that is not of its error."""
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("key", "digest", "state", "token", "intended_at", "accepted_at", "ended_at", "veo_task_id"), str),
    **dict.fromkeys(("account", "adopted"), str),
    "attempt": int,
    **dict.fromkeys(("cost", "price", "possible_cost"), (int, float, type(None))),
    "earlier": list,
    **dict.fromkeys(("video", "file", "trouble"), dict),
}


@dataclass(frozen=True)
class Entry:
    """
    The last submission of a job. It never changes: what happens makes a new one.

    :param key: the job's.
    :param digest: of the request: what was submitted is the same where this is.
    :param account: who is billed; ``None`` in records of earlier versions, whose digest is of account, request and
        adopted id.
    :param state: see :data:`INTENDED`.
    :param token: tells this submission from all others.
    :param attempt: the how many-th submission of the job that the relay has accepted, or is asked to accept.
    :param cost: price of all its submissions that were accepted; ``None`` where one of them has no price.
    :param price: of this submission; ``None`` where nobody has said.
    :param possible_cost: price of earlier submissions that may have been accepted, and were not waited for.
    :param intended_at: when it was about to be sent, as ISO 8601 text in UTC.
    :param accepted_at: when the relay accepted it, likewise.
    :param veo_task_id: the id that the relay gave.
    :param adopted: the id that the job named when its video was adopted.
    :param earlier: ids of the job's submissions that were accepted before this one.
    :param ended_at: when it was seen that the generation has ended, as ISO 8601 text in UTC.
    :param video: a :class:`~airflow_provider_veo.protocol.VideoTask` as a dict.
    :param file: what is known of the stored file.
    :param trouble: why a try of the task has given up on this job: a :class:`VeoError` as a dict, and ``try``, its id.
    """

    key: str
    digest: str
    state: str = INTENDED
    token: str = field(default_factory=lambda: uuid4().hex)
    attempt: int = 1
    cost: float | None = 0.0
    price: float | None = None
    possible_cost: float = 0.0
    account: str | None = None
    adopted: str | None = None
    intended_at: str = field(default_factory=lambda: now())
    accepted_at: str | None = None
    veo_task_id: str | None = None
    earlier: tuple[str, ...] = ()
    ended_at: str | None = None
    video: Mapping[str, Any] | None = None
    file: Mapping[str, Any] | None = None
    trouble: Mapping[str, Any] | None = None

    @classmethod
    def intend(cls, job: Job, account: Account, before: Entry | None, price: float | None = None) -> Entry:
        """
        Record that a job is about to be sent.

        :param job: the job.
        :param account: who is billed for it.
        :param before: what is on record of it.
        :param price: of one submission.
        """
        intent = cls(job.key, digest_of(job.body), account=account.name, price=price)
        if before is None:
            return intent
        intent = replace(intent, cost=before.cost, possible_cost=before.may_have_cost, adopted=before.adopted)
        if before.veo_task_id is None:
            return replace(intent, attempt=before.attempt, earlier=before.earlier)
        attempt = before.attempt + 1 if before.asks_for(job, account) else 1
        return replace(intent, attempt=attempt, earlier=(*before.earlier, before.veo_task_id))

    @classmethod
    def adopt(cls, job: Job, account: Account, before: Entry | None) -> Entry:
        """
        Record a video that was submitted elsewhere, in place of what is on record.

        It costs nothing here, unless it is the one that this batch may have paid for: then that is known now.
        """
        intent = cls.intend(job, account, before)
        earlier = tuple(each for each in intent.earlier if each != job.existing_veo_task_id)
        adopted = replace(
            intent,
            state=ACCEPTED,
            veo_task_id=job.existing_veo_task_id,
            adopted=job.existing_veo_task_id,
            accepted_at=now(),
            attempt=1,
            earlier=earlier,
        )
        if before is None or before.state != INTENDED or not before.asks_for(job, account):
            return adopted
        paid = None if adopted.cost is None or before.price is None else adopted.cost + before.price
        return replace(adopted, cost=paid, possible_cost=before.possible_cost)

    def asks_for(self, job: Job, account: Account) -> bool:
        """Whether what was submitted is what a job asks for; who is billed for it is another question."""
        if self.account is not None:
            return self.digest == digest_of(job.body)
        ids = dict.fromkeys((job.existing_veo_task_id, None, self.veo_task_id))
        return self.digest in [earlier_digest_of(job.body, account.earlier, each) for each in ids]

    def has_adopted(self, job: Job, account: Account) -> bool:
        """Whether the video that a job names is the one on record, or was, and could not be generated."""
        named = job.existing_veo_task_id
        if named is None or self.account is not None:
            return named is not None and named in (self.veo_task_id, self.adopted)
        return named == self.veo_task_id or self.digest == earlier_digest_of(job.body, account.earlier, named)

    @property
    def may_have_cost(self) -> float:
        """What may have been billed beside :attr:`cost`, as far as prices are known."""
        return self.possible_cost + (self.price or 0.0 if self.state == INTENDED else 0.0)

    def accepted(self, video: VideoTask) -> Entry:
        """Return it as what the relay has accepted."""
        cost = None if self.cost is None or self.price is None else self.cost + self.price
        return replace(
            self,
            state=ACCEPTED,
            veo_task_id=video.id,
            accepted_at=now(),
            cost=cost,
            video=video.to_dict(),
            trouble=None,
        )

    def not_accepted(self, state: str, error: VeoError, try_id: str) -> Entry:
        """Return it as ``unsent`` or ``refused``."""
        return replace(self, state=state).troubled(error, try_id)

    def ended(self, video: VideoTask) -> Entry:
        """Return it as what has succeeded or failed."""
        state = FAILED if video.state == "failed" else SUCCEEDED
        # Only who submits is told the prompt that the relay has made of it, at some relays.
        enhanced = video.enhanced_prompt or (self.video or {}).get("enhanced_prompt")
        shown = {**video.to_dict(), "enhanced_prompt": enhanced}
        return replace(self, state=state, video=shown, ended_at=now(), trouble=None)

    def stored(self, file: Mapping[str, Any]) -> Entry:
        """Return it as what is in the user's storage."""
        return replace(self, state=STORED, file=file, trouble=None)

    def troubled(self, error: VeoError, try_id: str, again: int = 0) -> Entry:
        """
        Return it as what this try of the task has given up on; a later one doesn't.

        :param again: the how many-th time it is to be submitted again in this try, because it isn't given up on.
        """
        trouble = {**error.to_dict(), "try": try_id}
        return replace(self, trouble={**trouble, "again": again} if again else trouble)

    @property
    def reason(self) -> str | None:
        """Why a try has given up on it."""
        error = self.error
        return str(error) if error else None

    @property
    def error(self) -> VeoError | None:
        """The same, as the error that it was."""
        from airflow_provider_veo.protocol.errors import from_dict

        of_error = {name: value for name, value in (self.trouble or {}).items() if name not in _BESIDE_THE_ERROR}
        return from_dict(of_error) if "kind" in of_error else None

    @property
    def again(self) -> int:
        """The how many-th time it is to be submitted again in this try; 0: it isn't."""
        return int((self.trouble or {}).get("again", 0))

    def of_try(self, try_id: str) -> Entry:
        """Return it without the trouble of other tries."""
        if self.trouble is None or self.trouble.get("try") == try_id:
            return self
        return replace(self, trouble=None)

    def newer(self, other: Entry) -> Entry:
        """
        Return the one that holds, of this record and one that was written after it.

        Of one submission it is the one that knows more: what a process that was thought dead has learned of its
        submission may be read before what others have concluded meanwhile.
        """
        return self if self.token == other.token and _RANK[self.state] > _RANK[other.state] else other

    @property
    def submitted(self) -> float:
        """When it was submitted, in epoch seconds."""
        return datetime.fromisoformat(self.accepted_at or self.intended_at).timestamp()

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON knows it, without what is not known."""
        known = {name: value for name, value in vars(self).items() if value is not None and value != ()}
        if not self.possible_cost:
            known.pop("possible_cost")
        return {**known, "cost": self.cost}

    @classmethod
    def from_dict(cls, record: Any) -> Entry:
        """
        Make it again of what :meth:`to_dict` returned.

        :raises ValueError: that is no such record. Nothing is guessed.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f"expected a JSON object, got {record!r:.200}")
        known = {each.name for each in fields(cls)}
        missing = [name for name in ("key", "digest", "state", "token", "intended_at") if not record.get(name)]
        if missing or not known.issuperset(record) or str(record["state"]) not in _RANK:
            raise ValueError(f"it is no record of a submission: {record!r:.200}")
        wrong = [name for name, value in record.items() if not isinstance(value, _TYPES[name])]
        if wrong or not all(isinstance(each, str) for each in record.get("earlier", ())):
            raise ValueError(f"it is no record of a submission, by its {wrong or ['earlier']}: {record!r:.200}")
        for name in record.keys() & {"intended_at", "accepted_at", "ended_at"}:
            datetime.fromisoformat(record[name])
        if (_RANK[record["state"]] >= _RANK[ACCEPTED]) != bool(record.get("veo_task_id")):
            raise ValueError(f"it is a record of a submission whose id and state don't go together: {record!r:.200}")
        key = one_spelling(record["key"])
        return cls(**{**record, "key": key, "earlier": tuple(record.get("earlier", ()))})


def one_spelling(key: str) -> str:
    """Return a key as all its spellings are written: macOS and Windows differ in how they compose letters."""
    return unicodedata.normalize("NFC", key)


def digest_of(body: Mapping[str, Any]) -> str:
    """Return what tells a request from others. It must be the same in every version of this package."""
    return _digest(body)


def earlier_digest_of(body: Mapping[str, Any], account: str, existing_veo_task_id: str | None) -> str:
    """Return what earlier versions told submissions from each other by."""
    return _digest([account, body, existing_veo_task_id])


def _digest(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def now() -> str:
    """Return the time as ISO 8601 text in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
