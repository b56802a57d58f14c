"""The fields of a record as they are stored, in each format that is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

FORMAT = 3
"""Format of the record. Increased by every change that an older version would misread."""
FORMATS = (1, 2, FORMAT)
"""Readable formats. In 1, a batch's digest includes the account. In 1 and 2, ``failure`` is called ``trouble``."""


class SubmissionState(str, Enum):
    """What is known about a submission."""

    INTENDED = "intended"
    """About to be sent; the outcome is unknown."""
    UNSENT = "unsent"
    """Certainly not accepted. May be sent again."""
    REFUSED = "refused"
    """The relay refused this request; it is not billed."""
    ACCEPTED = "accepted"
    """Being generated, and billed."""
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    STORED = "stored"
    """The file is in the user's storage."""

    def __str__(self) -> str:
        return self.value

    @property
    def rank(self) -> int:
        """How much is known: of two records of one submission, the one with the higher rank wins."""
        return _RANK[self]


_RANK = dict(zip(SubmissionState, (0, 1, 1, 2, 3, 3, 4), strict=True))
_STATES = tuple(state.value for state in SubmissionState)


def understood(record: Any) -> dict[str, Any]:
    """Return the fields of a record that this version knows, under their current names."""
    if not isinstance(record, Mapping):
        raise ValueError(f"expected a JSON object, got {record!r:.200}")
    version = record.get("format", FORMAT)
    if version not in FORMATS:
        is_newer = isinstance(version, int) and version > FORMAT
        newer = f", written by a newer version of airflow-provider-veo; this version reads up to {FORMAT}" * is_newer
        raise ValueError(f"not the record of a submission: it has format {version!r}{newer}")
    named = {_EARLIER_NAMES.get(str(name), str(name)): value for name, value in record.items()}
    return {name: value for name, value in named.items() if name in _CHECKS}


def mistakes(given: Mapping[str, Any]) -> list[str]:
    """Name the fields of a record that are missing or wrong."""
    required = ("account", "digests", "request") if "digests" in given else ("key", "digest")
    missing = [name for name in ("state", "token", "intended_at", *required) if given.get(name) in (None, "")]
    return [*missing, *(name for name, value in given.items() if not _CHECKS[name](value))]


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 0


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _maps_strings(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values())


def _lists_strings(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).timestamp() > 0
    except (TypeError, ValueError, OverflowError):
        return False


def _is_state(value: Any) -> bool:
    return value in _STATES


def _or_nothing(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "state": _is_state,
    "intended_at": _is_time,
    **dict.fromkeys(("accepted_at", "ended_at"), _or_nothing(_is_time)),
    **dict.fromkeys(("digest", "token", "key"), _is_string),
    **dict.fromkeys(("account", "adopted", "veo_task_id", "replaces", "reworded"), _or_nothing(_is_string)),
    **dict.fromkeys(("attempt", "try_number"), _is_integer),
    **dict.fromkeys(("cost", "price"), _or_nothing(_is_amount)),
    "possible_cost": _is_amount,
    "blocked": _is_count,
    **dict.fromkeys(("video", "file", "failure"), _or_nothing(_is_object)),
    **dict.fromkeys(("digests", "request"), _or_nothing(_maps_strings)),
    **dict.fromkeys(("earlier", "also_replaces"), _lists_strings),
}
_EARLIER_NAMES = {"trouble": "failure"}
