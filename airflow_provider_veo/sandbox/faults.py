"""
The grammar of faults, and the matching of faults and requests.

`[create:|query:|file:|models:]KIND[=VALUE][@SELECTOR]`. The same seed and the same sequence of requests always give the
same faults.
"""

from __future__ import annotations

import collections
import dataclasses
import random
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.sandbox.fault_kinds import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_veo.sandbox.video import Video

_SPEC = re.compile(
    r"""
    (?:(?P<endpoint>create|query|file|models):)?
    (?P<kind>[a-z][a-z0-9-]*)
    (?:=(?P<value>.*?))?
    (?:@(?P<selector>(?:\d|model=|prompt=).*))?  # any other @ belongs to the value
    """,
    re.VERBOSE | re.DOTALL,
)
_ORDINALS = re.compile(r"(?P<first>\d+)(?:(?P<open>\+)|-(?P<last>\d+))?")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


class FaultSpecError(ValueError):
    """A SPEC is invalid."""

    def __init__(self, spec: str, problem: str) -> None:
        super().__init__(f"fault {spec!r}: {problem}")


@dataclasses.dataclass(frozen=True)
class Selector:
    """Which requests or videos a fault affects."""

    first: int = 1
    last: int | None = None
    share: float | None = None
    """From 0 to 1."""
    model: str | None = None
    prompt: str | None = None

    def counts(self, model: str | None, prompt: str | None) -> bool:
        """Return whether a request for this model and this prompt is counted."""
        return (self.model is None or self.model == model) and (self.prompt is None or self.prompt in (prompt or ""))

    def selects(self, number: int, chance: random.Random) -> bool:
        """Return whether the counted request with this 1-based number is affected."""
        if number < self.first or (self.last is not None and number > self.last):
            return False
        return self.share is None or chance.random() < self.share


class Fault:
    """
    One active fault, and the number of requests it has counted.

    :param spec: Its SPEC, in the grammar above.
    :param seed: Chooses the requests that a share affects.
    """

    def __init__(self, spec: str, seed: int) -> None:
        try:
            spec.encode()
        except UnicodeEncodeError:
            raise FaultSpecError(spec, "is not valid UTF-8") from None
        match = _SPEC.fullmatch(spec)
        if not match or match["kind"] not in KINDS:
            raise FaultSpecError(
                spec, f"expected [ENDPOINT:]KIND[=VALUE][@SELECTOR] with KIND one of {', '.join(KINDS)}"
            )
        self.spec = spec
        self.kind: Kind = KINDS[match["kind"]]
        self.endpoint: str = match["endpoint"] or self.kind.endpoints[0]
        if self.endpoint not in self.kind.endpoints:
            raise FaultSpecError(spec, f"{self.kind.name} applies to {', '.join(self.kind.endpoints)} only")
        try:
            self.value: Any = self.kind.parse(match["value"])
            self.selector = parse_selector(match["selector"] or "")
        except ValueError as error:
            raise FaultSpecError(spec, str(error)) from None
        self._chance = random.Random(f"{seed} {spec}")  # noqa: S311 (reproducible, not a secret)
        self._seen = 0
        self._videos: set[str] = set()

    def matches(self, model: str | None, prompt: str | None) -> bool:
        """Count one request or accepted video, and return whether the fault affects it."""
        if not self.selector.counts(model, prompt):
            return False
        self._seen += 1
        return self.selector.selects(self._seen, self._chance)

    def consider(self, video: Video) -> None:
        """Decide permanently whether the fault affects this video."""
        if self.kind.per_video and self.matches(video.order.model, video.order.prompt):
            self._videos.add(video.id)

    def affects(self, video: Video | None) -> bool:
        """Return what :meth:`consider` decided."""
        return video is not None and video.id in self._videos


def parse_selector(text: str) -> Selector:
    """
    Parse the selector of a SPEC.

    :param text: `3`, `2-4`, `5+`, `10%`, `model=NAME` or `prompt=SUBSTRING`, or several of them joined with commas.
    :raises ValueError: It is invalid.
    """
    fields: dict[str, Any] = {}
    for term in filter(None, text.split(",")):
        fields |= _parse_term(term)
    selector = Selector(**fields)
    if selector.first < 1 or (selector.last is not None and selector.last < selector.first):
        raise ValueError(f"the selector {text!r} matches nothing: counting starts at 1")
    if selector.share is not None and selector.share > 1:
        raise ValueError(f"the selector {text!r} is more than 100%")
    return selector


def _parse_term(term: str) -> dict[str, Any]:
    name, _, value = term.partition("=")
    if name in ("model", "prompt") and value:
        return {name: value}
    if match := _SHARE.fullmatch(term):
        return {"share": float(match[1]) / 100}
    if match := _ORDINALS.fullmatch(term):
        first = int(match["first"])
        return {"first": first, "last": None if match["open"] else int(match["last"] or first)}
    raise ValueError(f"the selector {term!r} is none of 3, 2-4, 5+, 10%, model=NAME, prompt=SUBSTRING")


class Faults:
    """The active faults, and how often each one fired."""

    def __init__(self, specs: Iterable[str] = (), seed: int = 0) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self.fired: collections.Counter[str] = collections.Counter()
        self.replace(specs, ())

    def replace(self, specs: Iterable[str], videos: Iterable[Video]) -> None:
        """
        Replace all faults.

        :param videos: The videos accepted so far, in order. The new faults may affect them, too.
        :raises FaultSpecError: One of them is invalid. Nothing has changed.
        """
        faults = [Fault(spec, self._seed) for spec in specs]
        for video in videos:
            for fault in faults:
                fault.consider(video)
        self._faults = faults

    @property
    def specs(self) -> list[str]:
        """The SPECs of the active faults."""
        return [fault.spec for fault in self._faults]

    def consider(self, video: Video) -> None:
        """Decide which faults affect a video that was just accepted."""
        for fault in self._faults:
            fault.consider(video)

    def state(self, video: Video, finished: bool) -> str:
        """Return `running`, `succeeded` or `failed`, as a polling client will find out."""
        if not finished:
            return "running"
        failed = any(fault.kind.name == "failed" and fault.affects(video) for fault in self._faults)
        return "failed" if failed else "succeeded"

    def match(self, endpoint: str, model: str | None, prompt: str | None, video: Video | None = None) -> MatchedFaults:
        """
        Count one request, and return the faults that affect it.

        :param endpoint: One of `ENDPOINTS`.
        :param model: The request's model, if known.
        :param prompt: The request's prompt, if known.
        :param video: The video it is about, if it exists.
        """
        matched = [
            fault
            for fault in self._faults
            if fault.endpoint == endpoint
            and (fault.affects(video) if fault.kind.per_video else fault.matches(model, prompt))
        ]
        return MatchedFaults(matched, self.fired)


class MatchedFaults:
    """The faults that affect one request. Taking a fault counts it as fired."""

    def __init__(self, faults: list[Fault], fired: collections.Counter[str]) -> None:
        self._faults = faults
        self._fired = fired

    def peek(self, *kinds: str) -> Fault | None:
        """Return the first fault of one of these kinds, without counting it."""
        return next((fault for fault in self._faults if fault.kind.name in kinds), None)

    def take(self, *kinds: str) -> Fault | None:
        """Return the first fault of one of these kinds, and count it as fired."""
        fault = self.peek(*kinds)
        if fault is not None:
            self._fired[fault.spec] += 1
        return fault
