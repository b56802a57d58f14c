"""
The record of one submission: the request, the account that is billed, and the outcome.

A task with one video and each job of a batch use the same type. It holds no API key, and no prompt or image of the
request in full, because it is compared, shown to people, and stored in Airflow's database or next to the results. It
does hold the prompt that a function returned in place of a blocked one: nothing else could tell it to a later try.

The compared values of a request must be the same in every version of this package, and no version may add a field to
the requests that existing arguments produce: every video in flight would be billed again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import unicodedata
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_provider_veo.journal.formats import SubmissionState, mistakes, understood
from airflow_provider_veo.protocol import words
from airflow_provider_veo.protocol.prices import NOTHING, exact, number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from airflow_provider_veo.connection import Account
    from airflow_provider_veo.protocol import VeoError, VideoTask

_SHOWN = ("model", "prompt", "aspect_ratio", "enhance_prompt", "enable_upsample")
"""Fields shown as they are. Others (images, ``extra_body``'s) may hold signatures: only a digest of them is kept."""
_SHOWN_CHARACTERS = 160
_DIGEST_CHARACTERS = 32
_SHARED = ("model", "state", "status", "content_type")
_AMOUNTS = ("cost", "price", "possible_cost")
_LISTS = ("earlier", "also_replaces")
_BESIDE_THE_ERROR = ("try", "try_number", "again")
"""Keys of a failure that do not belong to its error."""


INTENDED, UNSENT, REFUSED, ACCEPTED, FAILED, SUCCEEDED, STORED = SubmissionState


@dataclass(frozen=True)
class Wanted:
    """
    The current request of a task or a job.

    :param body: the validated body of the create request.
    :param account: the account that is billed.
    :param key: the job's key; empty for a task with one video.
    :param existing_veo_task_id: the video to continue with instead of submitting one.
    """

    body: Mapping[str, Any]
    account: Account
    key: str = ""
    existing_veo_task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """
    A submission. Immutable: every change makes a new record.

    :param digest: digest of the request: equal for equal requests. Empty for a task with one video. A reworded prompt
        is not part of it: it is still the same request.
    :param account: the account that is billed: the connection's extra ``account``, or its id. ``None`` in a batch's
        records of format 1, whose digest covers account, request and adopted id. A task's records of format 1 include
        the base URL.
    :param key: the job's key; empty for a task with one video.
    :param state: what is known about it.
    :param token: unique id, also among processes that run the same task instance.
    :param digests: a digest of each field of the request, from which a task with one video reports what has changed.
    :param request: the same fields in readable form.
    :param try_number: the try that submitted it. Informational: the record belongs to all tries.
    :param replaces: the token of the record that existed when this submission was decided.
    :param also_replaces: if that is of a submission whose outcome is unknown: the tokens that it replaced itself.
    :param attempt: 1-based number of this submission among the job's accepted ones that were not blocked.
    :param blocked: how many submissions of the current prompt the safety filter has blocked. Earlier versions did not
        count them: see :attr:`times_blocked`.
    :param reworded: the prompt that ``on_blocked`` returned, which is sent in place of the request's.
    :param cost: total price of the job's accepted submissions; ``None`` if one of them has no price.
    :param price: price of this submission; ``None`` if unknown.
    :param possible_cost: price of earlier submissions that may have been accepted but were given up.
    :param adopted: the id that the job named when its video was adopted.
    :param earlier: ids of the job's submissions that were accepted before this one.
    :param intended_at: when it was about to be sent, as ISO 8601 string in UTC.
    :param accepted_at: when the relay accepted it, likewise; ``None`` if unknown.
    :param veo_task_id: the id that the relay returned; ``None`` if unknown.
    :param ended_at: when the generation was seen to have ended.
    :param video: a :class:`~airflow_provider_veo.protocol.VideoTask` as a dict.
    :param file: metadata of the stored file.
    :param failure: why a try of the task gave up on it: a :class:`VeoError` as a dict, with ``try``, the id of that
        try, and ``again``, see :attr:`again`.
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
    also_replaces: tuple[str, ...] = ()
    attempt: int = 1
    blocked: int = 0
    reworded: str | None = None
    cost: Decimal | None = NOTHING
    price: Decimal | None = None
    possible_cost: Decimal = NOTHING
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
        Return the intent of a task with one video.

        :param body: the request's body.
        :param account: the account that is billed.
        :param try_number: the try that sends it.
        """
        digests = {name: digest_of(value) for name, value in sorted(body.items())}
        request = {name: _readable(name, value, digests[name]) for name, value in sorted(body.items())}
        return cls(account=account, digests=digests, request=request, try_number=try_number)

    def priced(self, before: Submission | None, price: Decimal | None) -> Submission:
        """
        Return the intent of a task with one video, with the cost of its earlier submissions.

        :param before: its record, if there is one.
        :param price: price of this submission.
        """
        if before is None:
            return replace(self, price=price)
        earlier = (*before.earlier, *((before.veo_task_id,) if before.veo_task_id else ()))
        cost = None if before.has_no_price else before.cost
        return replace(self, price=price, cost=cost, possible_cost=before.may_have_cost, earlier=earlier)

    def adopting(self, before: Submission | None, veo_task_id: str) -> Submission:
        """
        Return the record of a task with one video that continues with a video submitted elsewhere.

        Like :meth:`adopt`, it adds no cost, unless the task may have been billed for this video.
        """
        adopted = replace(self.priced(before, NOTHING), adopted=veo_task_id)
        if before is None or before.state != INTENDED or before.digests != self.digests:
            return adopted
        return replace(adopted, price=before.price, possible_cost=before.possible_cost)

    @classmethod
    def intend(cls, wanted: Wanted, before: Submission | None, price: Decimal | None = None) -> Submission:
        """
        Return the intent of a job.

        :param wanted: its current request.
        :param before: its record, if there is one.
        :param price: price of one submission.
        """
        intent = cls(digest_of(wanted.body), wanted.account.name, wanted.key, price=price)
        if before is None:
            return intent
        intent = replace(intent, cost=before.cost, possible_cost=before.may_have_cost, adopted=before.adopted)
        is_same = before.asks_for(wanted)
        if is_same:
            intent = intent.following(before)
        if before.veo_task_id is None:
            return replace(intent, attempt=before.attempt, earlier=before.earlier)
        attempt = before.attempt + (not before.is_blocked) if is_same else 1
        return replace(intent, attempt=attempt, earlier=(*before.earlier, before.veo_task_id))

    def following(self, before: Submission) -> Submission:
        """Return it as another submission of the same request: with the prompt of that one, and what is known of it."""
        return replace(self, blocked=before.times_blocked, reworded=before.reworded)

    @classmethod
    def adopt(cls, wanted: Wanted, before: Submission | None) -> Submission:
        """
        Return the record of a video that was submitted elsewhere, which replaces the job's record.

        It adds no cost, unless it is the video that this batch may have been billed for: then the cost is now known.
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
        """Whether the submitted request is the current one, whichever account is billed."""
        if self.digests is not None:
            return self.digests == {name: digest_of(value) for name, value in wanted.body.items()}
        if self.account is not None:
            return self.digest == digest_of(wanted.body)
        ids = dict.fromkeys((wanted.existing_veo_task_id, None, self.veo_task_id))
        return self.digest in [earlier_digest_of(wanted.body, wanted.account.earlier, each) for each in ids]

    def body_for(self, wanted: Wanted) -> Mapping[str, Any]:
        """Return the body that is sent next: the current request, with the reworded prompt if there is one for it."""
        if self.reworded is None or not self.asks_for(wanted):
            return wanted.body
        return {**wanted.body, "prompt": self.reworded}

    def has_adopted(self, wanted: Wanted) -> bool:
        """Whether the video that a job names is the one on record, or was until its generation failed."""
        named = wanted.existing_veo_task_id
        if named is None or self.account is not None:
            return named is not None and named in (self.veo_task_id, self.adopted)
        earlier = earlier_digest_of(wanted.body, wanted.account.earlier, named)
        return named == self.veo_task_id or self.digest == earlier

    def is_billed_to(self, account: str) -> bool:
        """Whether an account is the one on record. Another URL of the same relay is the same account."""
        if self.account in (None, account):
            return True
        # Records of a task in format 1 have the base URL, too.
        return self.digests is not None and str(self.account).startswith(f"{account} at http")

    def changes_to(self, other: Submission) -> list[str]:
        """List the fields in which the request of another record of the task differs."""
        is_same = self.is_billed_to(str(other.account))
        account = [] if is_same else [f"account: was {self.account!r}, is {other.account!r}"]
        before, now = self.digests or {}, other.digests or {}
        return account + [
            f"{name}: was {self._shown(name)}, is {other._shown(name)}"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]

    def _shown(self, name: str) -> str:
        return repr(self.request[name]) if self.request and name in self.request else "not given"

    def describe(self) -> str:
        """Return what a person needs to find it at the relay, one line per field."""
        shown = {"connection": self.account, **(self.request or {})}
        if self.reworded is not None:
            shown["prompt"] = _readable("prompt", self.reworded, digest_of(self.reworded))
        return "\n".join(f"    {name}: {value}" for name, value in shown.items())

    @property
    def is_blocked(self) -> bool:
        """Whether the safety filter blocked its video."""
        return self.state == FAILED and words.is_blocked(str((self.video or {}).get("error") or ""))

    @property
    def times_blocked(self) -> int:
        """How many submissions of the current prompt were blocked: at least the last one, unless it was reworded."""
        return max(self.blocked, int(self.is_blocked and self.reworded is None))

    @property
    def billed_ids(self) -> set[str]:
        """Ids of all its submissions that were accepted, without a video that was submitted elsewhere."""
        return {each for each in (*self.earlier, self.veo_task_id) if each is not None and each != self.adopted}

    @property
    def has_no_price(self) -> bool:
        """Whether it was accepted, and no price was known. Earlier versions recorded none for a task with one video."""
        return self.veo_task_id is not None and self.price is None and self.adopted is None

    @property
    def may_have_cost(self) -> Decimal:
        """What may have been billed in addition to :attr:`cost`, as far as prices are known."""
        return self.possible_cost + (self.price or NOTHING if self.state == INTENDED else NOTHING)

    def accepted(self, veo_task_id: str) -> Submission:
        """Return it as accepted under this id."""
        return replace(
            self,
            state=ACCEPTED,
            veo_task_id=veo_task_id,
            accepted_at=now(),
            cost=_sum(self.cost, self.price),
            failure=None,
        )

    def accepted_video(self, video: VideoTask) -> Submission:
        """Return it as accepted, with the video that the relay returned."""
        return replace(self.accepted(video.id), video=_small(video.to_dict()))

    def not_accepted(self, state: SubmissionState, error: VeoError, try_id: str) -> Submission:
        """Return it as ``unsent`` or ``refused``."""
        return replace(self, state=state).given_up(error, try_id)

    def ended(self, video: VideoTask) -> Submission:
        """Return it as succeeded or failed."""
        # Some relays return the enhanced prompt only in the answer to the create request.
        enhanced = video.enhanced_prompt or (self.video or {}).get("enhanced_prompt")
        shown = _small({**video.to_dict(), "enhanced_prompt": enhanced})
        state = FAILED if video.state == "failed" else SUCCEEDED
        ended = replace(self, state=state, video=shown, ended_at=now(), failure=None)
        return replace(ended, blocked=ended.blocked + ended.is_blocked)

    def with_prompt(self, prompt: str) -> Submission:
        """Return a blocked one as about to be submitted with another prompt."""
        return replace(self, reworded=prompt, blocked=0, failure=None)

    def stored(self, file: Mapping[str, Any]) -> Submission:
        """Return it as stored."""
        return replace(self, state=STORED, file=file, failure=None)

    def given_up(self, error: VeoError, try_id: str, again: int = 0) -> Submission:
        """
        Return it as given up by this try of the task; later tries continue with it.

        :param again: see :attr:`again`.
        """
        failure = {**error.to_dict(), "try": try_id}
        return replace(self, failure={**failure, "again": again} if again else failure)

    @property
    def error(self) -> VeoError | None:
        """Why a try gave up on it."""
        from airflow_provider_veo.protocol.errors import from_dict

        of_error = {name: value for name, value in (self.failure or {}).items() if name not in _BESIDE_THE_ERROR}
        return from_dict(of_error) if "kind" in of_error else None

    @property
    def reason(self) -> str | None:
        """:attr:`error` as a string."""
        error = self.error
        return str(error) if error else None

    @property
    def again(self) -> int:
        """1-based number of the resubmission that this try is about to make; 0: none."""
        return int((self.failure or {}).get("again", 0))

    def of_try(self, try_id: str) -> Submission:
        """Return it without another try's failure."""
        if self.failure is None or self.failure.get("try") == try_id:
            return self
        return replace(self, failure=None)

    def newer(self, other: Submission) -> Submission:
        """
        Return the valid one of this record and one that is read after it.

        Of two records of one submission, the one that knows more wins: what a process that was thought dead has
        learned about its submission may be read before what others have concluded in the meantime.
        """
        return self if self.token == other.token and self.state.rank > other.state.rank else other

    @property
    def submitted(self) -> float:
        """When it was submitted, in epoch seconds."""
        return datetime.fromisoformat(self.accepted_at or self.intended_at).timestamp()

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a JSON object, without default values."""
        known = {name: value for name, default in _DEFAULTS if (value := getattr(self, name)) != default}
        amounts = {name: number(known[name]) for name in _AMOUNTS if name in known}
        lists = {name: list(known[name]) for name in _LISTS if name in known}
        return {**known, **amounts, **lists, "state": self.state.value}

    @classmethod
    def from_dict(cls, record: Any) -> Submission:
        """
        Read what :meth:`to_dict` returned, in this version or an earlier one.

        :raises ValueError: it is not such a record. Nothing is guessed.
        """
        given = understood(record)
        if wrong := mistakes(given):
            raise ValueError(f"not the record of a submission: invalid {', '.join(wrong)}: {record!r:.200}")
        state, veo_task_id = SubmissionState(given["state"]), given.get("veo_task_id")
        if (state.rank >= ACCEPTED.rank) != bool(veo_task_id):
            raise ValueError(f"not the record of a submission: state and id contradict each other: {record!r:.200}")
        given |= {"state": state, "key": one_spelling(given.get("key", ""))}
        given |= {name: tuple(given[name]) for name in _LISTS if name in given}
        if account := given.get("account"):
            given["account"] = sys.intern(account)
        given |= {name: _small(given[name], veo_task_id) for name in ("video", "file") if given.get(name)}
        given |= {name: exact(given[name]) for name in _AMOUNTS if given.get(name) is not None}
        return cls(**given)


_DEFAULTS = tuple((each.name, each.default) for each in fields(Submission))


def _small(facts: Mapping[str, Any], veo_task_id: str | None = None) -> dict[str, Any]:
    """Leave out missing values, and share values that thousands of records have in common."""
    known = {sys.intern(name): value for name, value in facts.items() if value is not None}
    shared = {name: sys.intern(known[name]) for name in _SHARED if isinstance(known.get(name), str)}
    return {**known, **shared, **({"id": veo_task_id} if veo_task_id and known.get("id") == veo_task_id else {})}


def _sum(cost: Decimal | None, price: Decimal | None) -> Decimal | None:
    return None if cost is None or price is None else cost + price


def one_spelling(key: str) -> str:
    """Normalize a key: macOS and Windows differ in how they compose letters."""
    return unicodedata.normalize("NFC", key)


def digest_of(value: Any) -> str:
    """Return the digest of a request, or of a field of it. It must be the same in every version."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def earlier_digest_of(body: Mapping[str, Any], account: str, existing_veo_task_id: str | None) -> str:
    """Return the digest by which format 1 identified the submissions of a batch."""
    return digest_of([account, body, existing_veo_task_id])


def now() -> str:
    """Return the current time as ISO 8601 string in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _readable(name: str, value: Any, digest: str) -> str:
    if name not in _SHOWN:
        count = f"{len(value)} with " if isinstance(value, (list, tuple)) else ""
        return f"{count}sha256 {digest}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}… (sha256 {digest})"
