"""The record of one submission: what was asked for, of which account, and what became of it.

It holds no key, and no prompt or image in full: it is compared, shown to people, and kept in Airflow's database.

What is compared must never come out differently for the same request, in any version of this package, nor may a version
add a field to the requests of arguments that were there before: every video under way would be paid for again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Literal
from uuid import uuid4

FORMAT = 1
"""Of the record. One that is higher was written by a newer version of this package."""

_SHOWN = ("model", "prompt", "aspect_ratio", "enhance_prompt", "enable_upsample")
"""Shown as they are. Of all other fields (images, ``extra_body``'s) only a digest is kept: they may hold signatures."""
_SHOWN_CHARACTERS = 160
_DIGEST_CHARACTERS = 32


@dataclass(frozen=True)
class Submission:
    """
    What a task instance submitted, or was about to submit.

    :param account: whom the relay bills, as far as we know it: the connection's extra ``account``, or its id. Earlier
        versions recorded the base URL with it.
    :param digests: a digest of each field of the request. Requests are the same where these are.
    :param request: the request's fields as a person reads them.
    :param try_number: the try that submitted it. It is for people: the record belongs to all tries.
    :param intended_at: when it was about to be sent, as ISO 8601 text in UTC.
    :param accepted_at: when the relay accepted it, as ISO 8601 text in UTC; ``None`` where that isn't known.
    :param veo_task_id: the id that the relay gave; ``None`` where that isn't known.
    :param token: tells it from all others, also of processes that run the same task instance.
    :param replaces: the token of what was on record when it was decided to submit this.
    """

    account: str
    digests: Mapping[str, str]
    request: Mapping[str, str]
    try_number: int = 1
    intended_at: str = field(default_factory=lambda: _now())
    accepted_at: str | None = None
    veo_task_id: str | None = None
    token: str = field(default_factory=lambda: uuid4().hex)
    replaces: str | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any], *, account: str, try_number: int = 1) -> Submission:
        """
        Record that a request is about to be sent.

        :param body: the request's body.
        :param account: who is billed.
        :param try_number: the try that sends it.
        """
        digests = {name: _digest(value) for name, value in sorted(body.items())}
        request = {name: _readable(name, value, digests[name]) for name, value in sorted(body.items())}
        return cls(account, digests, request, try_number)

    def accepted(self, veo_task_id: str) -> Submission:
        """Return it as what the relay accepted under this id."""
        return replace(self, veo_task_id=veo_task_id, accepted_at=_now())

    @property
    def state(self) -> Literal["intended", "accepted"]:
        """``intended`` until its id is known."""
        return "accepted" if self.veo_task_id is not None else "intended"

    @property
    def submitted(self) -> float:
        """When it was submitted, in epoch seconds."""
        return datetime.fromisoformat(self.accepted_at or self.intended_at).timestamp()

    def changes_to(self, other: Submission) -> list[str]:
        """Say in which fields another request differs from this one; an empty list where it is the same."""
        # Earlier versions recorded the URL, too: another one of the same relay is no other account.
        is_same = self.account == other.account or self.account.startswith(f"{other.account} at http")
        account = [] if is_same else [f"account: was {self.account!r}, is {other.account!r}"]
        return account + [
            f"{name}: was {self._told(name)}, is {other._told(name)}"
            for name in sorted({*self.digests, *other.digests})
            if self.digests.get(name) != other.digests.get(name)
        ]

    def _told(self, name: str) -> str:
        return repr(self.request[name]) if name in self.request else "not given"

    def describe(self) -> str:
        """Return what a person needs to find it at the relay, a line for each field."""
        fields = {"connection": self.account, **self.request}
        return "\n".join(f"    {name}: {value}" for name, value in fields.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON knows it."""
        return {
            "format": FORMAT,
            "state": self.state,
            "veo_task_id": self.veo_task_id,
            "try_number": self.try_number,
            "intended_at": self.intended_at,
            "accepted_at": self.accepted_at,
            "account": self.account,
            "request": dict(self.request),
            "digests": dict(self.digests),
            "token": self.token,
            "replaces": self.replaces,
        }

    @classmethod
    def from_dict(cls, record: Any) -> Submission:
        """
        Make it again of what :meth:`to_dict` returned.

        :raises ValueError: that is no such record, or one of a newer format. Nothing is guessed.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f"expected a JSON object, got {record!r:.200}")
        version = record.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise ValueError(
                f"it has format {version}, and this version of airflow-provider-veo knows formats up to {FORMAT}; "
                "a newer version has written it"
            )
        try:
            made = cls(**{name: record[name] for name in cls.__dataclass_fields__})
            for time in made.intended_at, made.accepted_at or made.intended_at:
                datetime.fromisoformat(time)
            problems = [*made._wrong_types(), *([] if made.state == record["state"] else ["state"])]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"it is no record of a submission ({type(error).__name__}: {error})") from None
        if version != FORMAT or problems:
            raise ValueError(f"it is no record of a submission (wrong: {', '.join(problems) or 'format'})")
        return made

    def _wrong_types(self) -> list[str]:
        texts = (self.account, self.token, self.intended_at)
        right = {
            "account, token or intended_at": all(isinstance(text, str) and text for text in texts),
            "replaces": self.replaces is None or isinstance(self.replaces, str),
            "veo_task_id": self.veo_task_id is None or (isinstance(self.veo_task_id, str) and bool(self.veo_task_id)),
            "accepted_at": (self.accepted_at is None) == (self.veo_task_id is None),
            "try_number": isinstance(self.try_number, int),
            "request or digests": all(
                isinstance(fields, Mapping) and all(isinstance(value, str) for value in fields.values())
                for fields in (self.request, self.digests)
            ),
        }
        return [name for name, is_right in right.items() if not is_right]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _digest(value: Any) -> str:
    """Videos under way are recognized by it: it must be the same in every version of this package."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _readable(name: str, value: Any, digest: str) -> str:
    if name not in _SHOWN:
        how_many = f"{len(value)} with " if isinstance(value, (list, tuple)) else ""
        return f"{how_many}sha256 {digest}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}… (sha256 {digest})"
