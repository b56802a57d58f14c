"""
The grammar of faults, and which of them meet a request.

`[create:|query:|file:|models:]KIND[=VALUE][@SELECTOR]`. With the same seed and the same requests in the same order,
the same ones meet the same fault.
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
    (?:@(?P<selector>(?:\d|model=|prompt=).*))?  # an @ before anything else belongs to the value
    """,
    re.VERBOSE | re.DOTALL,
)
_ORDINALS = re.compile(r"(?P<first>\d+)(?:(?P<open>\+)|-(?P<last>\d+))?")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


class FaultSpecError(ValueError):
    """A SPEC says something that the grammar doesn't know."""

    def __init__(self, spec: str, problem: str) -> None:
        super().__init__(f"fault {spec!r}: {problem}")


@dataclasses.dataclass(frozen=True)
class Selector:
    """Which of the requests, or of the videos, a fault meets."""

    first: int = 1
    last: int | None = None
    share: float | None = None
    """From 0 to 1."""
    model: str | None = None
    prompt: str | None = None

    def concerns(self, model: str | None, prompt: str | None) -> bool:
        """Return whether a request for this model and this prompt is one to be counted."""
        return (self.model is None or self.model == model) and (self.prompt is None or self.prompt in (prompt or ""))

    def takes(self, number: int, chance: random.Random) -> bool:
        """Return whether the fault meets the how many-th one it concerns, from 1."""
        if number < self.first or (self.last is not None and number > self.last):
            return False
        return self.share is None or chance.random() < self.share


class Fault:
    """
    One fault that was asked for, and how often it was looked at.

    :param spec: Its text, in the grammar above.
    :param seed: Decides which ones a share takes.
    """

    def __init__(self, spec: str, seed: int) -> None:
        match = _SPEC.fullmatch(spec)
        if not match or match["kind"] not in KINDS:
            raise FaultSpecError(
                spec, f"not of the form [ENDPOINT:]KIND[=VALUE][@SELECTOR] with KIND one of {', '.join(KINDS)}"
            )
        self.spec = spec
        self.kind: Kind = KINDS[match["kind"]]
        self.endpoint: str = match["endpoint"] or self.kind.endpoints[0]
        if self.endpoint not in self.kind.endpoints:
            raise FaultSpecError(spec, f"{self.kind.name} happens to {', '.join(self.kind.endpoints)} only")
        try:
            self.value: Any = self.kind.parse(match["value"])
            self.selector = parse_selector(match["selector"] or "")
        except ValueError as error:
            raise FaultSpecError(spec, str(error)) from None
        self._chance = random.Random(f"{seed} {spec}")  # noqa: S311 (a reproducible choice, not a secret)
        self._seen = 0
        self._videos: set[str] = set()

    def meets(self, model: str | None, prompt: str | None) -> bool:
        """Count one request, or one accepted video, and return whether the fault meets it."""
        if not self.selector.concerns(model, prompt):
            return False
        self._seen += 1
        return self.selector.takes(self._seen, self._chance)

    def consider(self, video: Video) -> None:
        """Decide once and for all whether the fault befalls this video."""
        if self.kind.per_video and self.meets(video.order.model, video.order.prompt):
            self._videos.add(video.id)

    def befalls(self, video: Video | None) -> bool:
        """Return what :meth:`consider` decided."""
        return video is not None and video.id in self._videos


def parse_selector(text: str) -> Selector:
    """
    Return the selector that a SPEC ends with.

    :param text: `3`, `2-4`, `5+`, `10%`, `model=NAME` or `prompt=SUBSTRING`, or several with commas between.
    :raises ValueError: It is none of these.
    """
    found: dict[str, Any] = {}
    for term in filter(None, text.split(",")):
        name, equals, value = term.partition("=")
        if equals and name in ("model", "prompt") and value:
            found[name] = value
        elif match := _SHARE.fullmatch(term):
            found["share"] = float(match[1]) / 100
        elif match := _ORDINALS.fullmatch(term):
            first = int(match["first"])
            found["first"] = first
            found["last"] = None if match["open"] else int(match["last"] or first)
        else:
            raise ValueError(f"the selector {term!r} is none of 3, 2-4, 5+, 10%, model=NAME, prompt=SUBSTRING")
    selector = Selector(**found)
    if selector.first < 1 or (selector.last is not None and selector.last < selector.first):
        raise ValueError(f"the selector {text!r} takes nothing: counting starts at 1")
    if selector.share is not None and selector.share > 1:
        raise ValueError(f"the selector {text!r} is more than all")
    return selector


class Faults:
    """The faults that hold now, and how often each one struck."""

    def __init__(self, specs: Iterable[str] = (), seed: int = 0) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self.fired: collections.Counter[str] = collections.Counter()
        self.replace(specs, ())

    def replace(self, specs: Iterable[str], videos: Iterable[Video]) -> None:
        """
        Put other faults in place of the present ones.

        :param videos: Those accepted so far, in their order: a fault may befall them too.
        :raises FaultSpecError: One of them is wrong; then nothing has changed.
        """
        faults = [Fault(spec, self._seed) for spec in specs]
        for video in videos:
            for fault in faults:
                fault.consider(video)
        self._faults = faults

    @property
    def specs(self) -> list[str]:
        """The text of each fault that holds now."""
        return [fault.spec for fault in self._faults]

    def consider(self, video: Video) -> None:
        """Decide which faults befall a video that was just accepted."""
        for fault in self._faults:
            fault.consider(video)

    def state(self, video: Video, finished: bool) -> str:
        """Return `running`, `succeeded` or `failed`: what a client that asks will find out."""
        if not finished:
            return "running"
        failed = any(fault.kind.name == "failed" and fault.befalls(video) for fault in self._faults)
        return "failed" if failed else "succeeded"

    def meeting(self, endpoint: str, model: str | None, prompt: str | None, video: Video | None = None) -> Met:
        """
        Return the faults that one request meets.

        :param endpoint: One of `ENDPOINTS`.
        :param model: The model that the request is about, if it can be told.
        :param prompt: The prompt, likewise.
        :param video: The video that it asks for, if it exists.
        """
        met = [
            fault
            for fault in self._faults
            if fault.endpoint == endpoint
            and (fault.befalls(video) if fault.kind.per_video else fault.meets(model, prompt))
        ]
        return Met(met, self.fired)


class Met:
    """The faults that one request meets; taking one is what counts it as fired."""

    def __init__(self, faults: list[Fault], fired: collections.Counter[str]) -> None:
        self._faults = faults
        self._fired = fired

    def peek(self, *kinds: str) -> Fault | None:
        """Return the first fault of one of these kinds, without counting it."""
        return next((fault for fault in self._faults if fault.kind.name in kinds), None)

    def take(self, *kinds: str) -> Fault | None:
        """Return the first fault of one of these kinds, to be acted upon."""
        fault = self.peek(*kinds)
        if fault is not None:
            self._fired[fault.spec] += 1
        return fault
