"""From rows to jobs: every mistake that can be found without the relay is found before the first video is billed.

Later tries identify a job by its key. If none was given, the key is derived from the request alone.
:func:`derived_key` must be the same in every version of this package, or videos would be billed again.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.batch.manifest import Mistake, short
from airflow_provider_veo.batch.rendering import PromptTemplateError, looks_like_template
from airflow_provider_veo.journal.submission import Wanted, one_spelling
from airflow_provider_veo.protocol import VeoValidationError, coerce
from airflow_provider_veo.protocol.payload import REQUEST_FIELDS, VideoRequest, no_text_mistakes
from airflow_provider_veo.protocol.prices import NOTHING, exact, number, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from airflow_provider_veo.batch.manifest import Row, Rows
    from airflow_provider_veo.batch.shards import Priced
    from airflow_provider_veo.connection import Account, VeoConnection

_DERIVED = "auto-"
_KEY_CHARACTERS = 200
_SHORT_CHARACTERS = 32
_SOURCES_LISTED = 20
_PRICES_LISTED = 20
_MISTAKES_LISTED = 200
_PLACE = re.compile(r"(?P<file>.*), line (?P<line>\d+)|jobs\[(?P<index>\d+)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Job:
    """
    One video of a batch.

    :param key: identifies the job within the batch, in every try.
    :param body: the validated body of the create request.
    :param source: where the job is defined, for people: ``prompts.csv, line 7`` or ``jobs[6]``.
    :param named: whether the key was given, not derived.
    :param existing_veo_task_id: use this video instead of submitting a new one.
    """

    key: str
    body: dict[str, Any]
    source: str
    named: bool
    existing_veo_task_id: str | None = None

    def wanted(self, account: Account) -> Wanted:
        """Return what this job requests from an account."""
        return Wanted(self.body, account, self.key, self.existing_veo_task_id)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict for :meth:`from_dict`."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Job:
        """Restore a job from :meth:`to_dict`."""
        known = {each.name: record[each.name] for each in fields(cls)}
        # Thousands of jobs share names, models and aspect ratios.
        body = {sys.intern(name): _shared(value) for name, value in record["body"].items()}
        return cls(**{**known, "key": one_spelling(record["key"]), "body": body})


def make(
    rows: Rows,
    *,
    defaults: Mapping[str, Any],
    settings: VeoConnection,
    max_videos: int | None = None,
    max_cost: float | None = None,
    render: Callable[[str], str] | None = None,
) -> list[Job]:
    """
    Make a job from each row, in order.

    A row without a key gets one derived from its request (see :func:`derived_key`), so rows inserted or removed above
    it between two tries don't change it. From the second identical request on, derived keys end in ``-2``, ``-3`` …

    :param rows: the rows and the mistakes found while reading them. The list of rows is emptied.
    :param defaults: the task's own arguments. A field that a row omits, or gives as ``None``, ``""``, ``"None"`` or
        ``"null"``, is taken from here as a whole. ``False``, ``0`` and ``[]`` count as given.
    :param settings: the connection, for its models, prices and ``default_model``.
    :param max_videos: maximum number of jobs.
    :param max_cost: maximum price of all videos, in the currency of the connection's ``prices``. An existing video is
        free.
    :param render: renders a row's prompt that is a template, or raises ``PromptTemplateError``. It is not called for
        other prompts, nor for the default one.
    :raises VeoValidationError: lists the mistakes of all rows, reading mistakes included, each distinct one once, up
        to 200 of them.
    """
    if max_videos is not None and len(rows.rows) > max_videos and render is not None:
        render = str  # the batch is rejected anyway: don't render thousands of templates
    body_of = partial(_body, defaults=_given_defaults(defaults, settings), settings=settings)
    drafts = [_Draft(row, body_of, render) for row in _taken_out(rows.rows)]
    _refuse_shared(drafts, "key")
    _refuse_shared(drafts, "existing_veo_task_id")
    mistakes = [*rows.mistakes, *(Mistake(each.source, text) for each in drafts for text in each.mistakes)]
    limits = limit_mistakes([each for each in drafts if each.body], settings, max_videos, max_cost, len(drafts))
    if mistakes or limits:
        raise VeoValidationError(_title(drafts, mistakes), [*_first(list(_together(mistakes))), *limits])
    return list(_jobs(drafts))


def limit_mistakes(
    jobs: Sequence[Job | _Draft | Priced],
    settings: VeoConnection,
    max_videos: int | None,
    max_cost: float | None,
    count: int | None = None,
) -> list[str]:
    """
    Return the limits that a batch exceeds; for the parameters see :func:`make`.

    :param count: the number of jobs, if some of them are invalid.
    """
    count = len(jobs) if count is None else count
    return [*_too_many(count, max_videos), *_too_expensive(jobs, settings, max_cost)]


def is_derived(key: str) -> bool:
    """Whether a key was derived, not given."""
    return key.startswith(_DERIVED)


def base_key(job: Job) -> str:
    """Return the key that a job has in common with those that are told apart only by their order."""
    return job.key if job.named else "-".join(job.key.split("-")[:2])


def models_of(jobs: Iterable[Job]) -> dict[str, str]:
    """Return the models of jobs, by key."""
    return {job.key: job.body["model"] for job in jobs}


def derived_key(body: Mapping[str, Any]) -> str:
    """Return the key of a request without one: ``auto-`` and 16 hexadecimal digits of its SHA-256."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=True)
    return _DERIVED + hashlib.sha256(text.encode()).hexdigest()[:16]


def _shared(value: Any) -> Any:
    return sys.intern(value) if isinstance(value, str) and len(value) < _SHORT_CHARACTERS else value


class _Draft:
    """A row that is being turned into a job, with its mistakes."""

    __slots__ = ("body", "existing_veo_task_id", "key", "mistakes", "source")

    def __init__(
        self, row: Row, body_of: Callable[[Mapping[str, Any]], dict[str, Any]], render: Callable[[str], str] | None
    ) -> None:
        self.source = row.source
        self.mistakes: Sequence[str] = ()
        self.key = self._checked("key", _key, row.fields.get("key"))
        self.existing_veo_task_id = self._checked("existing_veo_task_id", _id, row.fields.get("existing_veo_task_id"))
        prompt = self._rendered(row.fields.get("prompt"), render)
        self.body = self._checked("the request", body_of, {**row.fields, "prompt": prompt})

    def _checked(self, name: str, convert: Callable[[Any], Any], value: Any) -> Any:
        try:
            return convert(value)
        except VeoValidationError as error:
            self.mistakes = (*self.mistakes, *error.mistakes)
        except (ValueError, RecursionError) as error:
            self.mistakes = (*self.mistakes, f"{name}: {error}")
        return None

    def _rendered(self, prompt: Any, render: Callable[[str], str] | None) -> Any:
        if render is None or not looks_like_template(prompt):
            return prompt
        try:
            return render(prompt)
        except PromptTemplateError as error:
            self.mistakes = (*self.mistakes, f"prompt: {' '.join(str(error).split())}")
            return "a prompt that can't be rendered"  # so that the other fields are still checked


def _body(row: Mapping[str, Any], defaults: Mapping[str, Any], settings: VeoConnection) -> dict[str, Any]:
    body = VideoRequest(**{**defaults, **_given(row)}).body(settings.catalog)
    if mistakes := no_text_mistakes(body["prompt"]):
        raise VeoValidationError("The prompt is not valid.", mistakes)
    # Normalize what JSON can't represent, such as numeric mapping keys, to what will be sent and read back.
    body.update(json.loads(json.dumps({name: body[name] for name in body if name not in REQUEST_FIELDS})))
    return body


def _given_defaults(defaults: Mapping[str, Any], settings: VeoConnection) -> dict[str, Any]:
    # Images may be an iterator, or slow to iterate.
    meant = {**defaults, "images": coerce.images(defaults.get("images"))}
    return {"prompt": None, "model": settings.default_model, **_given(meant)}


def _given(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in REQUEST_FIELDS if not coerce.is_nothing(row.get(name))}


def _key(value: Any) -> str | None:
    if coerce.is_nothing(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"expected a string or a number, got {short(value)}")
    key = one_spelling(str(coerce.text(value)))
    if len(key) > _KEY_CHARACTERS or not key.isprintable():
        raise ValueError(f"expected 1 to {_KEY_CHARACTERS} printable characters, got {short(key)} ({len(key)})")
    if key.startswith(_DERIVED):
        raise ValueError(f"the prefix {_DERIVED!r} is reserved for derived keys; choose another key")
    return key


def _id(value: Any) -> str | None:
    if coerce.is_nothing(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip().isprintable():
        raise ValueError(f"expected the id of a video, got {short(value)}")
    return str(value).strip()


def _refuse_shared(drafts: Sequence[_Draft], name: str) -> None:
    values = [getattr(draft, name) for draft in drafts]
    counts = Counter(value for value in values if value is not None)
    for draft, value in zip(drafts, values, strict=True):
        if (count := counts[value]) > 1:
            shared = f"{name}: {count:,} rows have the {name} {value!r:.400}, which must be unique"
            draft.mistakes = (*draft.mistakes, shared)


def _too_many(count: int, max_videos: int | None) -> Iterator[str]:
    if max_videos is not None and count > max_videos:
        yield f"max_videos: expected at most {max_videos:,} jobs, got {count:,}"


def _too_expensive(
    jobs: Iterable[Job | _Draft | Priced], settings: VeoConnection, max_cost: float | None
) -> Iterator[str]:
    if max_cost is None:
        return
    bodies = (job.body for job in jobs if job.existing_veo_task_id is None)
    counts = Counter((body["model"], settings.price_of(body)) for body in bodies if body)
    for (model, price), count in counts.items():
        if price is None:
            yield f"{_without_a_price(model, settings)}; jobs with it: {count:,}"
    priced = [(count, model, price) for (model, price), count in counts.items() if price is not None]
    total, most = sum((count * price for count, _, price in priced), NOTHING), exact(max_cost)
    if total > most:
        each = [f"{count:,} of {model} for {written(price)} each" for count, model, price in priced[:_PRICES_LISTED]]
        more = ["…"] * (len(priced) > len(each))
        yield f"max_cost: expected at most {written(most)}, got {written(total)}: {', '.join([*each, *more])}"


def _without_a_price(model: str, settings: VeoConnection) -> str:
    """Explain why the price of a video is not known."""
    price = settings.prices.get(model)
    if price is None:
        return f'max_cost: {model} has no price in the connection\'s extra, as in "prices": {json.dumps({model: 0.4})}'
    example = json.dumps({model: {"per_second": number(price.amount), "seconds": 8}})
    return (
        f"max_cost: {model} has a price per second, and the request has no valid seconds: set seconds in extra_body, "
        f'or for all requests without them in the connection\'s extra, as in "prices": {example}'
    )


def _taken_out(items: list[Any]) -> Iterator[Any]:
    """Iterate over a list while emptying it: there may be hundreds of thousands of rows."""
    items.reverse()
    while items:
        yield items.pop()


def _jobs(drafts: Iterable[_Draft]) -> Iterator[Job]:
    made: Counter[str] = Counter()
    for draft in drafts:
        key = draft.key
        if key is None:
            key = derived_key(draft.body)
            made[key] += 1
            key += f"-{made[key]}" * (made[key] > 1)
        yield Job(key, draft.body, draft.source, draft.key is not None, draft.existing_veo_task_id)


def _title(drafts: Sequence[_Draft], mistakes: Iterable[Mistake]) -> str:
    wrong = {mistake.source for mistake in mistakes if _PLACE.fullmatch(mistake.source)}
    total = len(wrong.union(draft.source for draft in drafts))
    count = f": {len(wrong):,} of {total:,} rows {'is' if len(wrong) == 1 else 'are'} invalid" if wrong else ""
    return f"The batch is not valid{count}. Nothing was sent or billed."


def _together(mistakes: Iterable[Mistake]) -> Iterator[str]:
    """Yield each distinct mistake once with all its sources, ordered by the first of them."""
    sources: dict[str, dict[str, None]] = {}
    for mistake in sorted(mistakes, key=lambda mistake: position_of(mistake.source)):
        sources.setdefault(mistake.text, {})[mistake.source] = None
    for text, places in sources.items():
        yield f"{text} ({_listed(list(places))})" if len(places) > 1 else f"{next(iter(places))}: {text}"


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _MISTAKES_LISTED
    said = [f"and {more:,} more mistake{'s' * (more > 1)}"] if more > 0 else []
    return [*lines[:_MISTAKES_LISTED], *said]


def position_of(source: str) -> int:
    """Return the line or index of a job's source, by which jobs are in their order; -1 if it has none."""
    place = _PLACE.fullmatch(source)
    return int(place["line"] or place["index"]) if place else -1


def _listed(sources: Sequence[str]) -> str:
    shown, before = list(sources[:_SOURCES_LISTED]), ""
    lines = [place["line"] for source in shown if (place := _PLACE.fullmatch(source)) and place["line"]]
    if len(lines) == len(shown):
        shown, before = lines, f"{shown[0].rpartition(', line ')[0]}, lines "
    last = f"{len(sources) - _SOURCES_LISTED:,} more" if len(sources) > _SOURCES_LISTED else shown.pop()
    return f"{before}{', '.join(shown)} and {last}"
