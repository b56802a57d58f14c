"""
What shall happen in a run: which task it is, where it dies in which try, and what the relay does to it.

All of it is drawn from the run's seed alone, so that the task's process, the relay and the verdict agree on it, and a
run can be repeated.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tests.chaos.killer import MANNERS, Strike
from tests.chaos.points import (
    AROUND_THE_SUBMIT,
    FREEZES,
    IN_EXECUTE,
    IN_THE_STORE,
    MODES,
    POINTS,
    STORE_CLASSES,
    STORES,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from tests.chaos.points import Point

FREEZE = "freeze"
GENERATION_SECONDS = 2
READ_TIMEOUT = 3
DEATHS = 0.8, 0.45, 0.3
"""How likely the first tries are to be struck; later ones are left alone, so that each run ends."""
ONE_OF_MANY_CALLS = {IN_EXECUTE: 8_000, AROUND_THE_SUBMIT: 5_000}
CALLS_IN_STORE = 500
"""About as many Python calls as there are."""

# Faults of one request each; the first or the second for the prompt.
REFUSED = ("status=503:model_not_found", "rate-limit=1", "status=500", "envelope=system_busy:503", "rate-limit")
UNKNOWN = (
    "drop-after",
    "drop-before",
    "reset-after",
    "reset",
    "bare-after=502",
    "bare=504",
    "cut-off",
    "no-json",
    "empty",
    "no-id",
    f"hang-after={READ_TIMEOUT + 1}",
)
QUERY = ("query:bare=502", "query:reset", "query:status=500", "query:rate-limit=1", "query:drip=0.5", "query:no-json")
QUOTA = "quota"
FAILED = "failed=blocked"
BEFALLING = (FAILED, "not-found-first=2", "late-url=1")
_SEED = re.compile(r"<([\w.:-]+)>")


def prompt(seed: str) -> str:
    """Return the prompt of a run, which no other has."""
    return f"A paper boat in chaos <{seed}>"


def seed_of(context: Mapping[str, Any]) -> str:
    """Return the seed of the run that a task's process is in."""
    task = context["ti"].task
    return _SEED.search(str([getattr(task, name, None) for name in ("prompt", "op_kwargs", "data")]))[1]


@dataclass(frozen=True)
class Plan:
    """The plan of a run."""

    seed: str
    mode: str
    form: str
    """``mapped``, ``alone`` or ``decorated``."""
    strikes: dict[int, Strike]
    """By try number."""
    faults: tuple[str, ...]
    """In the sandbox's grammar, without selectors: each meets the first request, or video, that the one before left."""

    def specs(self) -> list[str]:
        """Return the faults as the sandbox takes them."""
        places = {"create": 0, "query": 0, "video": 0}
        specs = []
        for fault in self.faults:
            place = "query" if fault.startswith("query:") else "video" if fault in BEFALLING else "create"
            places[place] += 1
            specs.append(f"{fault}@prompt=<{self.seed}>,{places[place]}")
        return specs

    def __str__(self) -> str:
        deaths = [f"try {number}: {strike.manner} {strike.name}" for number, strike in self.strikes.items()]
        return f"{self.form}, {self.mode}; {'; '.join([*deaths, *self.faults]) or 'nothing'}"


@cache
def plan(seed: str) -> Plan:
    """Draw the plan of a run from its seed, which names what keeps its journal."""
    if seed.startswith(f"{FREEZE}-"):
        return _freeze(seed)
    chance = random.Random(seed)
    store = store_of(seed)
    mode = chance.choice(list(MODES))
    form = chance.choices(["mapped", "alone", "decorated"], [70, 10, 20])[0]
    strikes = {
        number: _strike(chance, mode, store)
        for number, likely in enumerate(DEATHS, start=1)
        if chance.random() < likely
    }
    return Plan(seed, mode, form, strikes, tuple(_faults(chance)))


def seeds(master: str, store: str, count: int) -> list[str]:
    """Return the seeds of ``count`` runs whose journal is kept in this store."""
    return [f"{master}-{store}-{number}" for number in range(count)]


def freezes(store: str) -> list[str]:
    """Return the seeds of the runs whose first try is frozen until Airflow has begun another one."""
    return seeds(FREEZE, store, len(FREEZES))


def _freeze(seed: str) -> Plan:
    store, number = store_of(seed), int(seed.rpartition("-")[2])
    name, point = FREEZES[number]
    if name == IN_THE_STORE:
        point = point._replace(function=f"{STORE_CLASSES[store]}.{point.function}")
    return Plan(seed, list(MODES)[number % len(MODES)], "mapped", {1: Strike(name, point, "freeze")}, ())


def store_of(seed: str) -> str:
    """Return what keeps the journal of a run, a key of ``STORES``."""
    return seed.split("-")[-2]


def _strike(chance: random.Random, mode: str, store: str) -> Strike:
    everywhere = [name for name in POINTS if not any(name in only for only in MODES.values())]
    names = [*everywhere, IN_THE_STORE, *MODES[mode]]
    weights = [1] * (len(everywhere) + 1) + list(MODES[mode].values())
    name = chance.choices(names, weights)[0]
    # Airflow itself keeps a worker that it thinks dead from its own store, and from no other.
    manner = chance.choices(list(MANNERS), [94, 3, 3] if store == "state" else [82, 3, 15])[0]
    return Strike(name, _point(chance, name, store), manner)


def _point(chance: random.Random, name: str, store: str) -> Point:
    point = chance.choice(STORES[store]) if name == IN_THE_STORE else POINTS[name]
    if name in ONE_OF_MANY_CALLS or not point.function:
        most, share = ONE_OF_MANY_CALLS.get(name, CALLS_IN_STORE), chance.random()
        # Anywhere, but half of the time among the first ones: they are nearer to what matters.
        return point._replace(nth=1 + int(chance.choice((most * share, most**share))))
    if name in (IN_THE_STORE, "in a synchronous wait"):
        return point._replace(nth=chance.choice((1, 1, 2, 3)))
    if name == "after the send, before the answer":
        return point._replace(seconds=chance.choice((0, 0.01, 0.3)))
    return point


def _faults(chance: random.Random) -> list[str]:
    faults = []
    if chance.random() < 0.25:
        faults += chance.sample(REFUSED, chance.choice((1, 1, 2)))
    if chance.random() < 0.12:
        faults.append(chance.choice(UNKNOWN))
    if chance.random() < 0.02:
        faults.append(QUOTA)
    if chance.random() < 0.2:
        faults.append(chance.choice(BEFALLING))
    if chance.random() < 0.25:
        faults += chance.sample(QUERY, chance.choice((1, 2)))
    return faults


def tasks(plans: Iterable[Plan]) -> dict[tuple[str, int], Plan]:
    """Return the plans by the task id and the map index of their task instances."""
    found: dict[tuple[str, int], Plan] = {}
    number: Counter[str] = Counter()
    for run in plans:
        name = f"{run.form}_{run.mode.replace(' ', '_')}"
        place = (f"{name}_{number[name]}", -1) if run.form == "alone" else (name, number[name])
        found[place] = run
        number[name] += 1
    return found
