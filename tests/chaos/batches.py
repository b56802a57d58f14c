"""
What shall happen to a batch: how it is set up, where it dies in which try, and what the relay does to its videos.

All of it is drawn from the batch's seed alone, as :mod:`tests.chaos.plans` does for a single video.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tests.chaos.batch_points import FREEZES, IN_THE_DOWNLOAD, PLACES, open_to
from tests.chaos.killer import MANNERS, TOLD, Strike
from tests.chaos.plans import BEFALLING, FAILED, QUERY, QUOTA, REFUSED, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

STORE = "batch"
"""Stands in a seed where that of a single video names what keeps its journal."""
JOBS = 50
IN_FLIGHT = 10, 20, 25
MANY_IN_FLIGHT = 25
"""A batch that is deferred comes back for each quarter of them."""
RENDERED = 1, 11, 16, 26
"""Numbers of batches whose prompts another try would render to something else; the first try is frozen."""
PRICE = 0.4
DEATHS = 0.95, 0.65, 0.4, 0.25
"""How likely the first tries are to be struck; later ones are left alone, so that each batch ends."""
RETRIES = 9
EVERY_MANNER = (*MANNERS, *TOLD)
OF_MANNERS = 66, 5, 13, 8, 8
FEW_FILES = 8
"""A journal of more files is tidied, in some batches: fifty jobs make too few for that."""

REFUSED_FOR_GOOD = ("status=400", "status=422:invalid_request", "echo-key=400")
FAILED_TWICE = f"{FAILED}@2"
FILE = ("file:reset", "file:status=503", "file:cut-off", "file:wrong-length=500")
_MARK = re.compile(r"<([\w-]+)/(\d+)>")


def prompt(seed: str, number: int) -> str:
    """Return the prompt of a job, which no other has."""
    return f"A paper fleet in chaos <{seed}/{number}>"


def job_of(text: str) -> tuple[str, int]:
    """Return the seed of the batch and the number of the job that a prompt belongs to."""
    seed, number = _MARK.search(text).groups()
    return seed, int(number)


def seed_in(result_path: str) -> str:
    """Return the seed of the batch whose results are written there."""
    return PurePosixPath(result_path).name


@dataclass(frozen=True)
class Batch:
    """The plan of a batch."""

    seed: str
    deferrable: bool
    form: str
    """``jobs``, ``mapped`` or ``manifest``."""
    storage: str
    """``local`` or ``memory``."""
    named: bool
    """Whether its jobs are given keys."""
    tidies: bool
    download: bool
    in_flight: int
    """The operator's ``max_in_flight``."""
    attempts: int
    """The operator's ``attempts_per_video``."""
    resubmits: bool
    all_or_fail: bool
    """The operator's ``fail_on_partial_error``."""
    strikes: dict[int, Strike]
    """By try number."""
    faults: dict[int, tuple[str, ...]]
    """By the job's number: in the sandbox's grammar, each for the first request, or video, of that job."""

    def specs(self) -> list[str]:
        """Return the faults as the sandbox takes them."""
        return [_spec(fault, f"<{self.seed}/{number}>") for number, faults in self.faults.items() for fault in faults]

    def arguments(self, roots: dict[str, str]) -> dict[str, Any]:
        """Return what the operator is given, besides its jobs."""
        return {
            "result_path": f"{roots[self.storage]}/{self.seed}",
            "download": self.download,
            "max_in_flight": self.in_flight,
            "attempts_per_video": self.attempts,
            "on_ambiguous_submit": "resubmit" if self.resubmits else "fail",
            "fail_on_partial_error": self.all_or_fail,
            "deferrable": self.deferrable,
        }

    def jobs(self) -> list[str | dict[str, str]]:
        """Return the jobs as they are given."""
        texts = [prompt(self.seed, number) for number in range(JOBS)]
        return [{"key": self.key(number), "prompt": text} for number, text in enumerate(texts)] if self.named else texts

    def key(self, number: int) -> str:
        """Return the key of a job that is given one."""
        return f"boat {number}"

    def manifest(self) -> str:
        """Return the jobs as a file, each with a prompt that another try would render to something else."""
        rows = [{"prompt": f"{prompt(self.seed, number)} {{{{ range(99999) | random }}}}"} for number in range(JOBS)]
        if self.named:
            rows = [{**row, "key": self.key(number)} for number, row in enumerate(rows)]
        return "".join(f"{json.dumps(row)}\n" for row in rows)

    def __str__(self) -> str:
        flags = [name for name in ("named", "tidies", "download", "resubmits", "all_or_fail") if getattr(self, name)]
        kind = [self.form, "deferrable" if self.deferrable else "in the worker", self.storage]
        deaths = [
            f"try {number}: {strike.manner} {strike.name} ({strike.point.nth})"
            for number, strike in self.strikes.items()
        ]
        faults = [f"{number} {fault}" for number, faults in self.faults.items() for fault in faults]
        numbers = f"{self.in_flight} in flight", f"{self.attempts} attempts"
        return "; ".join([", ".join([*kind, *flags, *numbers]), *deaths, *faults])


def seeds(master: str, count: int) -> list[str]:
    """Return the seeds of ``count`` batches."""
    return [f"{master}-{STORE}-{number}" for number in range(count)]


@cache
def batch(seed: str) -> Batch:
    """Draw the plan of a batch from its seed, whose number sees to it that there are some of each kind among many."""
    chance = random.Random(seed)
    number = int(seed.rpartition("-")[2])
    deferrable, download, tidies = number % 2 == 1, number % 9 == 4, chance.random() < 0.4
    groups = open_to(deferrable=deferrable, download=download, tidies=tidies)
    return Batch(
        seed=seed,
        deferrable=deferrable,
        form="manifest" if number in RENDERED else chance.choice(["mapped", "mapped", "jobs", "manifest"]),
        storage="memory" if number % 5 == 2 else "local",
        named=chance.random() < 0.5,
        tidies=tidies,
        download=download,
        in_flight=MANY_IN_FLIGHT if deferrable else chance.choice(IN_FLIGHT),
        attempts=chance.choice((1, 1, 2)),
        resubmits=number % 11 == 6,
        all_or_fail=chance.random() < 0.3,
        strikes=_strikes(chance, groups, number, _first(number, download=download)),
        faults=_faults(chance, download=download, ambiguous=2 * (number % 11 == 6), out_of_money=number % 13 == 8),
    )


def _strikes(chance: random.Random, groups: list[list[str]], number: int, first: Strike | None) -> dict[int, Strike]:
    strikes, places = {}, [name for group in groups for name in group]
    rota = 1 if first is None else 2
    for try_number, likely in enumerate(DEATHS, start=1):
        # Each place has its turn in some batches. What comes after is drawn, and seldom while things are sent: two
        # such deaths, and there is little left that is not unknown.
        in_turn = try_number <= rota
        name = places[number // 2 % len(places)] if in_turn else chance.choice(chance.choice(groups))
        manner = chance.choices(EVERY_MANNER, OF_MANNERS)[0]
        if chance.random() < likely or in_turn:
            strikes[try_number] = Strike(name, PLACES[name].draw(chance), manner)
    if number in RENDERED and first:
        return {1: first}  # so that the next try is running when this one resumes
    return strikes if first is None else {**strikes, 1: first}


def _first(number: int, *, download: bool) -> Strike | None:
    """Return what hits the first try of a batch whose turn it is not to die at any place."""
    if number % 5 == 1:
        return Strike(*FREEZES[number // 5 % len(FREEZES)], "freeze")
    if download:
        return Strike(IN_THE_DOWNLOAD, PLACES[IN_THE_DOWNLOAD].points[0]._replace(nth=number), "kill")
    return None


def _faults(chance: random.Random, *, download: bool, ambiguous: int, out_of_money: bool) -> dict[int, tuple[str, ...]]:
    drawn: list[str] = [chance.choice((FAILED, FAILED, FAILED_TWICE)) for _ in range(chance.randint(0, 3))]
    drawn += chance.choices(REFUSED, k=chance.randint(0, 3))
    drawn += chance.choices(UNKNOWN, k=chance.choice((0, 0, 1, 1, 2)) + ambiguous)
    drawn += chance.choices(QUERY, k=chance.randint(0, 4))
    drawn += chance.choices([each for each in BEFALLING if each != FAILED], k=chance.randint(0, 3))
    drawn += chance.choices(REFUSED_FOR_GOOD, k=chance.choice((0, 0, 0, 1)))
    drawn += chance.choices(FILE, k=2) if download else []
    drawn += [QUOTA] if out_of_money else []
    faults: dict[int, list[str]] = defaultdict(list)
    for fault in drawn:
        faults[chance.randrange(JOBS)].append(fault)
    return {number: tuple(faults[number]) for number in sorted(faults)}


def _spec(fault: str, mark: str) -> str:
    fault, _, last = fault.partition("@")
    return f"{fault}@prompt={mark},1{f'-{last}' if last else ''}"


def tasks(batches: Iterable[Batch]) -> dict[tuple[str, int], Batch]:
    """Return the batches by the task id and the map index of their task instances."""
    found: dict[tuple[str, int], Batch] = {}
    for run in batches:
        mapped = sum(each.form == "mapped" for each in found.values())
        found[("mapped", mapped) if run.form == "mapped" else (f"batch_{run.seed}", -1)] = run
    return found
