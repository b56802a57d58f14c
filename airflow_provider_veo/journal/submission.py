"""
The record of one submission: what was asked for, who is billed, and what became of it.

One type serves a task with one video and each job of a batch. It holds no key, and no prompt or image in full: it is
compared, shown to people, and kept in Airflow's database or beside the results.

What is compared must never come out differently for the same request, in any version of this package, nor may a version
add a field to the requests of arguments that were there before: every video under way would be billed again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from airflow_provider_veo.connection import Account
    from airflow_provider_veo.protocol import VeoError, VideoTask

FORMAT = 3
"""Of the record. It rises with any change that an older version would misunderstand."""
FORMATS = (1, 2, FORMAT)
"""Those that are read. 1: a batch's digest includes the account; 1 and 2: what is ``failure`` now was ``trouble``."""

_SHOWN = ("model", "prompt", "aspect_ratio", "enhance_prompt", "enable_upsample")
"""Shown as they are. Of all other fields (images, ``extra_body``'s) only a digest is kept: they may hold signatures."""
_SHOWN_CHARACTERS = 160
_DIGEST_CHARACTERS = 32
_SHARED = ("model", "state", "status", "content_type")
_BESIDE_THE_ERROR = ("try", "try_number", "again")
"""What a failure holds that is not of its error."""


class SubmissionState(str, Enum):
    """What is known of a submission."""

    INTENDED = "intended"
    """About to be sent, and nobody knows more."""
    UNSENT = "unsent"
    """Certainly not accepted. It may be sent again."""
    REFUSED = "refused"
    """The relay refuses this very request; it is not billed."""
    ACCEPTED = "accepted"
    """It is being generated, and billed."""
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    STORED = "stored"
    """Its file is in the user's storage."""

    def __str__(self) -> str:
        return self.value

    @property
    def rank(self) -> int:
        """How much is known: of two records of one submission the one of the higher rank holds."""
        return _RANK[self]


_RANK = dict(zip(SubmissionState, (0, 1, 1, 2, 3, 3, 4), strict=True))
INTENDED, UNSENT, REFUSED, ACCEPTED, FAILED, SUCCEEDED, STORED = SubmissionState

_NOTHING = type(None)
_TEXTS = ("digest", "token", "key", "intended_at")
_OPTIONAL_TEXTS = ("account", "adopted", "accepted_at", "ended_at", "veo_task_id", "replaces")
_TYPES: dict[str, Any] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_OPTIONAL_TEXTS, (str, _NOTHING)),
    **dict.fromkeys(("attempt", "try_number"), int),
    **dict.fromkeys(("cost", "price", "possible_cost"), (int, float, _NOTHING)),
    **dict.fromkeys(("video", "file", "failure", "digests", "request"), (Mapping, _NOTHING)),
    "earlier": (list, tuple),
}


@dataclass(frozen=True)
class Wanted:
    """
    What a task or a job asks for now.

    :param body: the validated body of the create request.
    :param account: who is billed.
    :param key: the job's; empty for a task with one video.
    :param existing_veo_task_id: the video to continue with instead of submitting one.
    """

    body: Mapping[str, Any]
    account: Account
    key: str = ""
    existing_veo_task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """
    A submission. It never changes: what happens makes a new record.

    :param digest: of the request: what was submitted is the same where this is. Empty for a task with one video.
    :param account: who is billed: the connection's extra ``account``, or its id. ``None`` in a batch's records of
        format 1, whose digest is of account, request and adopted id. A task's of format 1 name the base URL, too.
    :param key: the job's; empty for a task with one video.
    :param state: what is known of it.
    :param token: tells it from all others, also of processes that run the same task instance.
    :param digests: a digest of each field of the request, by which a task with one video says what has changed.
    :param request: the same fields as a person reads them.
    :param try_number: the try that submitted it. It is for people: the record belongs to all tries.
    :param replaces: the token of what was on record when it was decided to submit this.
    :param attempt: 1-based number of this submission among those of its job that the relay accepts.
    :param cost: price of all submissions of the job that were accepted; ``None`` where one of them has no price.
    :param price: of this submission; ``None`` where it is not known.
    :param possible_cost: price of earlier submissions that may have been accepted, and were not waited for.
    :param adopted: the id that the job named when its video was adopted.
    :param earlier: ids of the job's submissions that were accepted before this one.
    :param intended_at: when it was about to be sent, as ISO 8601 string in UTC.
    :param accepted_at: when the relay accepted it, likewise; ``None`` where that isn't known.
    :param veo_task_id: the id that the relay gave; ``None`` where that isn't known.
    :param ended_at: when it was seen that the generation has ended.
    :param video: a :class:`~airflow_provider_veo.protocol.VideoTask` as a dict.
    :param file: what is known of the stored file.
    :param failure: why a try of the task has given up on it: a :class:`VeoError` as a dict, with ``try``, the id of
        that try, and ``again``, see :attr:`again`.
    """

    digest: str = ""
    account: str | None = None
    key: str = ""
    state: SubmissionState = INTENDED
    token: str = field(default_factory=lambda: uuid4().hex)
    digests: Mapping[str, str] | None = None
    request: Mapping[str, str] | None = None
    try_number: int = 1
    replaces: str | None = None
    attempt: int = 1
    cost: float | None = 0.0
    price: float | None = None
    possible_cost: float = 0.0
    adopted: str | None = None
    earlier: tuple[str, ...] = ()
    intended_at: str = field(default_factory=lambda: now())
    accepted_at: str | None = None
    veo_task_id: str | None = None
    ended_at: str | None = None
    video: Mapping[str, Any] | None = None
    file: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any], *, account: str, try_number: int = 1) -> Submission:
        """
        Record that a task with one video is about to send a request.

        :param body: the request's body.
        :param account: who is billed.
        :param try_number: the try that sends it.
        """
        digests = {name: digest_of(value) for name, value in sorted(body.items())}
        request = {name: _readable(name, value, digests[name]) for name, value in sorted(body.items())}
        return cls(account=account, digests=digests, request=request, try_number=try_number)

    @classmethod
    def intend(cls, wanted: Wanted, before: Submission | None, price: float | None = None) -> Submission:
        """
        Record that a job is about to be sent.

        :param wanted: what it asks for.
        :param before: what is on record of it.
        :param price: of one submission.
        """
        intent = cls(digest_of(wanted.body), wanted.account.name, wanted.key, price=price)
        if before is None:
            return intent
        intent = replace(intent, cost=before.cost, possible_cost=before.may_have_cost, adopted=before.adopted)
        if before.veo_task_id is None:
            return replace(intent, attempt=before.attempt, earlier=before.earlier)
        attempt = before.attempt + 1 if before.asks_for(wanted) else 1
        return replace(intent, attempt=attempt, earlier=(*before.earlier, before.veo_task_id))

    @classmethod
    def adopt(cls, wanted: Wanted, before: Submission | None) -> Submission:
        """
        Record a video that was submitted elsewhere, in place of what is on record.

        It costs nothing here, unless it is the one that this batch may have been billed for: then that is known now.
        """
        named = wanted.existing_veo_task_id
        intent = cls.intend(wanted, before)
        adopted = replace(
            intent,
            state=ACCEPTED,
            veo_task_id=named,
            adopted=named,
            accepted_at=now(),
            attempt=1,
            earlier=tuple(each for each in intent.earlier if each != named),
        )
        if before is None or before.state != INTENDED or not before.asks_for(wanted):
            return adopted
        return replace(adopted, cost=_sum(adopted.cost, before.price), possible_cost=before.possible_cost)

    def asks_for(self, wanted: Wanted) -> bool:
        """Whether what was submitted is what is asked for now; who is billed for it is another question."""
        if self.digests is not None:
            return self.digests == {name: digest_of(value) for name, value in wanted.body.items()}
        if self.account is not None:
            return self.digest == digest_of(wanted.body)
        ids = dict.fromkeys((wanted.existing_veo_task_id, None, self.veo_task_id))
        return self.digest in [earlier_digest_of(wanted.body, wanted.account.earlier, each) for each in ids]

    def has_adopted(self, wanted: Wanted) -> bool:
        """Whether the video that a job names is the one on record, or was, and could not be generated."""
        named = wanted.existing_veo_task_id
        if named is None or self.account is not None:
            return named is not None and named in (self.veo_task_id, self.adopted)
        earlier = earlier_digest_of(wanted.body, wanted.account.earlier, named)
        return named == self.veo_task_id or self.digest == earlier

    def is_billed_to(self, account: str) -> bool:
        """Whether an account is the one on record. Another URL of the same relay is not another account."""
        return self.account in (None, account) or str(self.account).startswith(f"{account} at http")

    def changes_to(self, other: Submission) -> list[str]:
        """Say in which fields the request of another record of a task differs; an empty list where it is the same."""
        is_same = self.is_billed_to(str(other.account))
        account = [] if is_same else [f"account: was {self.account!r}, is {other.account!r}"]
        before, now = self.digests or {}, other.digests or {}
        return account + [
            f"{name}: was {self._told(name)}, is {other._told(name)}"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]

    def _told(self, name: str) -> str:
        return repr(self.request[name]) if self.request and name in self.request else "not given"

    def describe(self) -> str:
        """Return what a person needs to find it at the relay, a line for each field."""
        told = {"connection": self.account, **(self.request or {})}
        return "\n".join(f"    {name}: {value}" for name, value in told.items())

    @property
    def may_have_cost(self) -> float:
        """What may have been billed beside :attr:`cost`, as far as prices are known."""
        return self.possible_cost + (self.price or 0.0 if self.state == INTENDED else 0.0)

    def accepted(self, veo_task_id: str) -> Submission:
        """Return it as what the relay accepted under this id."""
        return replace(
            self,
            state=ACCEPTED,
            veo_task_id=veo_task_id,
            accepted_at=now(),
            cost=_sum(self.cost, self.price),
            failure=None,
        )

    def accepted_video(self, video: VideoTask) -> Submission:
        """Return it as what the relay accepted, with what it said of the video."""
        return replace(self.accepted(video.id), video=_small(video.to_dict()))

    def not_accepted(self, state: SubmissionState, error: VeoError, try_id: str) -> Submission:
        """Return it as ``unsent`` or ``refused``."""
        return replace(self, state=state).given_up(error, try_id)

    def ended(self, video: VideoTask) -> Submission:
        """Return it as what has succeeded or failed."""
        # Only who submits is told the prompt that the relay has made of it, at some relays.
        enhanced = video.enhanced_prompt or (self.video or {}).get("enhanced_prompt")
        shown = _small({**video.to_dict(), "enhanced_prompt": enhanced})
        state = FAILED if video.state == "failed" else SUCCEEDED
        return replace(self, state=state, video=shown, ended_at=now(), failure=None)

    def stored(self, file: Mapping[str, Any]) -> Submission:
        """Return it as what is in the user's storage."""
        return replace(self, state=STORED, file=file, failure=None)

    def given_up(self, error: VeoError, try_id: str, again: int = 0) -> Submission:
        """
        Return it as what this try of the task has given up on; a later one doesn't.

        :param again: see :attr:`again`.
        """
        failure = {**error.to_dict(), "try": try_id}
        return replace(self, failure={**failure, "again": again} if again else failure)

    @property
    def error(self) -> VeoError | None:
        """Why a try has given up on it."""
        from airflow_provider_veo.protocol.errors import from_dict

        of_error = {name: value for name, value in (self.failure or {}).items() if name not in _BESIDE_THE_ERROR}
        return from_dict(of_error) if "kind" in of_error else None

    @property
    def reason(self) -> str | None:
        """The same as a string."""
        error = self.error
        return str(error) if error else None

    @property
    def again(self) -> int:
        """1-based number of the resubmission that this try is to make of it; 0: it makes none."""
        return int((self.failure or {}).get("again", 0))

    def of_try(self, try_id: str) -> Submission:
        """Return it without the failure of other tries."""
        if self.failure is None or self.failure.get("try") == try_id:
            return self
        return replace(self, failure=None)

    def newer(self, other: Submission) -> Submission:
        """
        Return the one that holds, of this record and one that was written after it.

        Of one submission it is the one that knows more: what a process that was thought dead has learned of its
        submission may be read before what others have concluded meanwhile.
        """
        return self if self.token == other.token and self.state.rank > other.state.rank else other

    @property
    def submitted(self) -> float:
        """When it was submitted, in epoch seconds."""
        return datetime.fromisoformat(self.accepted_at or self.intended_at).timestamp()

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON knows it, without what is as it is at first."""
        known = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        known["state"] = (self.state.value, MISSING)
        return {name: value for name, (value, default) in known.items() if value != default}

    @classmethod
    def from_dict(cls, record: Any) -> Submission:
        """
        Make it again of what :meth:`to_dict` returned, in this version or an earlier one.

        :raises ValueError: that is not such a record. Nothing is guessed.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f"expected a JSON object, got {record!r:.200}")
        if (version := record.get("format", FORMAT)) not in FORMATS:
            newer = (
                f"; this version of airflow-provider-veo knows formats up to {FORMAT}, a newer version has written it"
            )
            is_newer = isinstance(version, int) and version > FORMAT
            raise ValueError(f"not the record of a submission: it has format {version!r}{newer * is_newer}")
        given = dict(record)
        if (failure := given.pop("trouble", None)) is not None:
            given["failure"] = failure
        given = {name: value for name, value in given.items() if name in _TYPES or name == "state"}
        if wrong := _mistakes(given):
            raise ValueError(f"not the record of a submission, by its {', '.join(wrong)}: {record!r:.200}")
        if (_RANK[SubmissionState(given["state"])] >= _RANK[ACCEPTED]) != bool(given.get("veo_task_id")):
            raise ValueError(f"not the record of a submission: id and state don't go together: {record!r:.200}")
        given["state"] = SubmissionState(given["state"])
        given["key"] = one_spelling(given.get("key", ""))
        given["earlier"] = tuple(given.get("earlier", ()))
        if given.get("account"):
            given["account"] = sys.intern(given["account"])
        for name in ("video", "file"):
            if given.get(name):
                given[name] = _small(given[name], given["veo_task_id"])
        return cls(**given)


def _mistakes(given: Mapping[str, Any]) -> list[str]:
    """Name the fields of a record that are missing or wrong."""
    missing = [name for name in ("state", "token", "intended_at") if not given.get(name)]
    if not (given.get("key") and given.get("digest")) and not (
        given.get("account") and {"digests", "request"} <= given.keys()
    ):
        missing.append("key and digest")
    wrong = [name for name, value in given.items() if name in _TYPES and not isinstance(value, _TYPES[name])]
    if given.get("state") not in [state.value for state in SubmissionState]:
        wrong.append("state")
    for name in ("digests", "request"):
        if isinstance(given.get(name), Mapping) and not all(isinstance(each, str) for each in given[name].values()):
            wrong.append(name)
    if "earlier" not in wrong and not all(isinstance(each, str) for each in given.get("earlier", ())):
        wrong.append("earlier")
    for name in ("intended_at", "accepted_at", "ended_at"):
        if name not in wrong and given.get(name) and not _is_time(given[name]):
            wrong.append(name)
    return [*missing, *wrong]


def _small(facts: Mapping[str, Any], veo_task_id: str = "") -> dict[str, Any]:
    """Leave out what is not known, and share what is the same in thousands of records."""
    known = {sys.intern(name): value for name, value in facts.items() if value is not None}
    for name, value in known.items():
        if value == veo_task_id:
            known[name] = veo_task_id
        elif name in _SHARED and isinstance(value, str):
            known[name] = sys.intern(value)
    return known


def _is_time(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _sum(cost: float | None, price: float | None) -> float | None:
    return None if cost is None or price is None else cost + price


def one_spelling(key: str) -> str:
    """Return a key as all its spellings are written: macOS and Windows differ in how they compose letters."""
    return unicodedata.normalize("NFC", key)


def digest_of(value: Any) -> str:
    """Return what tells a request, or a field of it, from others. It must be the same in every version."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def earlier_digest_of(body: Mapping[str, Any], account: str, existing_veo_task_id: str | None) -> str:
    """Return what format 1 told the submissions of a batch from each other by."""
    return digest_of([account, body, existing_veo_task_id])


def now() -> str:
    """Return the time as ISO 8601 string in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _readable(name: str, value: Any, digest: str) -> str:
    if name not in _SHOWN:
        how_many = f"{len(value)} with " if isinstance(value, (list, tuple)) else ""
        return f"{how_many}sha256 {digest}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}… (sha256 {digest})"
