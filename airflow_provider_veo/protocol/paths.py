"""
Where relays put what, as data: paths into the JSON of an answer, the first that leads to a usable value wins.

``videos[0].url`` is the field ``url`` of the first item of the list ``videos``. The sources are in the API document.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_veo.protocol import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


Steps = tuple["str | int", ...]


class Paths(NamedTuple):
    """Successive paths that begin with the same field, parsed once."""

    field: str
    rest: tuple[Steps, ...]
    """Their further steps: fields of objects and positions in lists."""


def _parsed(*paths: str) -> tuple[Paths, ...]:
    grouped = groupby(map(_steps, paths), key=lambda steps: steps[0])
    return tuple(Paths(str(field), tuple(steps[1:] for steps in same)) for field, same in grouped)


def _steps(path: str) -> Steps:
    steps = path.replace("[", ".").replace("]", "").split(".")
    return tuple(int(step) if step.isdecimal() else step for step in steps)


def _inside(parents: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths of all names in the first parent, then in the second …; the parent ``""`` is the answer."""
    return tuple(f"{parent}.{name}" if parent else name for parent in parents for name in names)


WRAPPERS = ("", "data", "data.data")
"""Where the object that describes a video may be."""

_REASONS = ("error", "fail_reason", "failReason", "error_message", "message")

ID = _parsed(
    *("id", "task_id", "taskId", "data.task_id", "data.id", "data.taskId", "output.task_id", "data[0].task_id"),
)
"""
The id. In ``data``, ``task_id`` comes first: new-api's ``id`` there is the number of a row in its database. At the top
level it does so only before a number: the seed's ``id`` is the id.
"""
ID_IN_DATA = _parsed("data")
"""The id, if the answer is not an error: errors have texts there."""
REQUEST_ID = "request_id"
"""The id if nothing else may be it: most relays write the id of the *request* there, and the video's elsewhere."""
ID_NAMES = frozenset({"id", "task_id", "taskId", "video_id", "videoId"})
"""Fields that show, anywhere in an answer that refuses a create, that there is a video after all."""

STATUS = _parsed(*_inside(("data", "data.detail", "", "detail"), ("status", "state", "task_status")))
"""The status word. A wrapper's own comes last."""

URL = _parsed(
    *("video_url", "url", "result_url", "output_url", "output", "output.video_url", "output.url"),
    *("result.video_url", "result.url", "metadata.url", "videos[0]", "videos[0].url", "video_urls[0]"),
    *("task_result.videos[0].url", "detail.upsample_video_url", "detail.video_url", "detail.url"),
)
"""The URL of the file, in each of :data:`WRAPPERS`. It may be there before the video is ready."""
URL_OF_SUCCESS = _parsed(*_inside(WRAPPERS, ("fail_reason",)))
"""Where new-api now and then puts the URL of a success."""

REASON = (
    *_parsed(*_inside(("data", "data.detail", "", "detail"), _REASONS)),
    *_parsed("detail.video_generation_error", "data.detail.video_generation_error"),
    *_parsed(*_inside(("data.data",), _REASONS)),
)
"""Why a video failed, or an answer is an error. Also filled if a retry of the relay succeeded."""

MODEL = _parsed("model", "data.model")
ENHANCED_PROMPT = _parsed(*_inside(("", "detail", "data", "data.detail"), ("enhanced_prompt",)))
UPDATED_AT = _parsed(
    *_inside(("", "data", "detail"), ("status_update_time",)), "data.updated_at", "completed_at", "created"
)
"""When the status last changed; ``created`` is in the answer to a create."""


def values(record: Mapping[str, Any], places: tuple[Paths, ...]) -> Iterator[Any]:
    """Yield the values at those paths that lead somewhere, except ``null``."""
    for field, rest in places:
        value = record.get(field)
        if value is not None:
            for steps in rest:
                found = _at(value, steps)
                if found is not None:
                    yield found


def status_of(content: Mapping[str, Any]) -> str:
    """Return the status word as the relay wrote it; empty if there is none."""
    return next((value for value in values(content, STATUS) if isinstance(value, str) and value.strip()), "")


def id_of(content: Mapping[str, Any]) -> str | None:
    """Return the id of the video, in an answer of any kind: a string, kept exactly, or a number."""
    first, named = content.get("id"), content.get("task_id")
    if isinstance(first, int) and isinstance(named, str) and named.strip():
        return named
    return next(_ids(content, ID), None)


def accepted_id_of(content: Mapping[str, Any]) -> str | None:
    """Return the id of the video in the answer to an accepted create."""
    found = id_of(content)
    if found is None and not _is_error(content):
        found = next((each for each in _ids(content, ID_IN_DATA) if _may_be_id(each)), None)
        found = found or _lone_request_id(content) or _lone_request_id(content.get("data"))
        if found is None and content.get("id") == 0 and type(content["id"]) is int:
            found = "0"
    return found


def any_id_of(value: Any, *, unset: bool = False) -> str | None:
    """
    Return anything that may be the id of a video, wherever it is in an answer.

    :param unset: also a number that was probably never set, such as 0.
    """
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest += value
        elif isinstance(value, dict):
            named = [value[name] for name in ID_NAMES & value.keys()]
            numbers = (str(each) for each in named if unset and type(each) is int)
            if found := next(filter(None, (*map(_id, named), *numbers)), None):
                return found
            rest += value.values()
    return None


def reason_of(content: Mapping[str, Any]) -> str | None:
    """
    Return the reason of a failure or an error.

    It is the first one. If a later one says that the safety filter blocked the video, it is added: some relays write
    ``failed`` into the first.
    """
    first = None
    for reason in _texts(values(content, REASON)):
        if words.is_blocked(reason):
            return reason if first is None else f"{first}; {reason}"
        first = first or reason
    return first


def generation_failed(content: Mapping[str, Any]) -> bool:
    """Whether ``detail`` has a generation error that is not left over from a retry of the relay."""
    for record in wrapped(content):
        detail = record.get("detail")
        if isinstance(detail, dict) and scalar(detail.get("video_generation_error")):
            word = words.normal(scalar(detail.get("status")))
            goes_on = word != words.ERROR and words.STATES.get(word) in ("running", "succeeded")
            return not (goes_on or detail.get("running") is True)
    return False


def wrapped(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects at :data:`WRAPPERS`, the outermost first."""
    inner: Any = content
    for _ in WRAPPERS:
        if not isinstance(inner, dict):
            return
        yield inner
        inner = inner.get("data")


def scalar(value: Any) -> str:
    """Return a string or a number as a string, and the empty string for everything else."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _ids(content: Mapping[str, Any], places: tuple[Paths, ...]) -> Iterator[str]:
    return filter(None, map(_id, values(content, places)))


def _id(value: Any) -> str | None:
    """Return an id: a string that is not blank, or a number. 0 is what Go writes for a number that was never set."""
    if isinstance(value, str):
        return value if value.strip() else None
    return str(value) if type(value) is int and value > 0 else None


def _lone_request_id(record: Any) -> str | None:
    """Return ``request_id`` of an object in which nothing else may be the id of the video, or lead to it."""
    if not isinstance(record, dict):
        return None
    for name, value in record.items():
        if isinstance(value, (dict, list)) or (name != REQUEST_ID and name.lower().endswith("id")):
            return None
    return _id(record.get(REQUEST_ID))


def _is_error(content: Mapping[str, Any]) -> bool:
    """Whether anything in an answer says that it is an error."""
    word = words.normal(status_of(content))
    says_so = scalar(content.get("code")).lower() not in words.NO_ERROR or content.get("success") is False
    return bool(content.get("error")) or says_so or word == words.ERROR or words.STATES.get(word) == "failed"


def _may_be_id(text: str) -> bool:
    """Whether a text may be an id: a word such as ``accepted`` may not."""
    is_word = text.isalpha() or words.normal(text) in words.STATES or text.lower() in words.NO_ERROR
    return text.split() == [text] and "://" not in text and not is_word


def _texts(reasons: Iterator[Any]) -> Iterator[str]:
    for reason in reasons:
        parts = (scalar(reason.get("message")), scalar(reason.get("code"))) if isinstance(reason, dict) else (reason,)
        texts = [text for part in parts if (text := scalar(part)).lower() not in words.NO_ERROR]
        if texts:
            yield texts[0] if len(texts) == 1 else f"{texts[0]} ({texts[1]})"


def _at(value: Any, steps: Steps) -> Any:
    for step in steps:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
        if value is None:
            return None
    return value
