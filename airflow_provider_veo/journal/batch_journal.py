"""
What a batch has submitted, remembered across tries, wake-ups, processes and machines.

It is a folder of small files, each written once and whole: object storages can't append. A file holds a group of
records, so that many jobs cost few writes. The invariants are those of the journal of a single video:

- An intent is on record before its request is sent, and the id soon after it is known. An intent without an id means
  that nobody knows whether the request was accepted; it never means that it was not sent.
- "The records could not be read" is never "there are none": it raises, and nothing is sent.
- Of several processes that run one task instance at once (a worker that was thought dead), the newest one sends.

For the last one each process has a number, one above all that it found, and a token; its first file claims them. It
then reads what the others have written, and makes sure before each group that it sends, after the group's intents are
on record, that there is no newer process. Of two processes that do so, at least one sees the other: the newer one sees
the older one's intents, or the older one sees the newer one's claim and sends nothing (T. Dekker's way; storages must
list what was written before, as S3, GCS, Azure and file systems do). A process that was frozen after it made sure, and
thought dead meanwhile, makes sure once more before it sends.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar
from uuid import uuid4

from airflow_provider_veo.files import atomic
from airflow_provider_veo.journal.submission import FORMAT, FORMATS, Submission
from airflow_provider_veo.protocol import VeoError, VeoJournalError, VeoJournalRecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from logging import Logger

    from airflow.providers.common.compat.sdk import ObjectStoragePath

MAX_FILES = 64
"""A process that finds more of them writes one in their place: every later one reads all of them."""
MAX_FILES_OF_A_PROCESS = 256
"""One that comes to have more of them does, too: before each group that it sends, it lists them."""
FRESH_SECONDS = 5.0
"""So long it holds that there is no newer process. Airflow takes longer to think that one is dead."""
RECENT_SECONDS = 60.0
"""The same for what is on record and waits for a socket: a storage may take its time to be listed."""
_TRIES_TO_READ = 5
_LINES_IN_MEMORY = 500
_READ_AT_ONCE = 32
"""Files that are in memory at a time."""
_NAME = re.compile(r"(\d{6,})-([0-9a-f]{32})-(\d{6,})\.jsonl")
_T = TypeVar("_T")


class SupersededError(VeoJournalError):
    """A newer process works on the same batch."""


class _Place(NamedTuple):
    """Where a file stands among the others: in this order they were written, as far as that matters."""

    process: int
    token: str
    number: int

    @classmethod
    def of(cls, name: str) -> _Place | None:
        found = _NAME.fullmatch(name)
        return cls(int(found[1]), found[2], int(found[3])) if found else None

    @property
    def name(self) -> str:
        return f"{self.process:06d}-{self.token}-{self.number:06d}.jsonl"


class BatchJournal:
    """
    The records of one batch.

    :param folder: where they are: a folder that only this task instance uses.
    :param owner: the task instance: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    :param log: the task's.
    """

    def __init__(self, folder: ObjectStoragePath, owner: Mapping[str, Any], log: Logger) -> None:
        self._folder = folder
        self._owner = dict(owner)
        self._log = log
        self._token = uuid4().hex
        self._process = 0
        self._numbers = itertools.count()
        self._known: dict[str, Submission] = {}
        self._looked_at = 0.0
        self._files: list[_Place] = []
        """Those that hold what is known, and nothing else."""

    def begin(self) -> dict[str, Submission]:
        """
        Claim the batch for this process, and return what is on record, by the jobs' keys.

        :raises VeoJournalError: the storage can't be read or written, or a newer process is at it.
        :raises VeoJournalRecordError: the records can't be understood, or belong to another task instance.
        """
        places = self._places()
        self._make_sure_that_it_is_ours(places)
        self._process = max((place.process for place in places), default=0) + 1
        self._write([])
        self.give_way_to_the_newer()
        try:
            self._files, self._known = self._all()
        except VeoJournalRecordError:
            # Two began at once in the same place. What this one wrote must not keep the other from its records.
            atomic.remove([self._folder / place.name for place in self._files])
            raise
        if len(self._files) > MAX_FILES:
            self._tidy()
        return dict(self._known)

    def read(self) -> dict[str, Submission]:
        """
        Return what is on record, by the jobs' keys, claiming nothing: for those who only look.

        :raises VeoJournalError: the storage can't be read.
        :raises VeoJournalRecordError: the records can't be understood, or belong to another task instance.
        """
        return self._all()[1]

    def write(self, records: Iterable[Submission]) -> None:
        """
        Record what happened.

        :raises VeoJournalError: it could not be recorded.
        """
        records = list(records)
        self._write(records)
        _merge(self._known, records)
        if len(self._files) > MAX_FILES_OF_A_PROCESS:
            self._tidy()

    def intend(self, records: Iterable[Submission]) -> None:
        """
        Record what is about to be sent. Only who returns from here may send it.

        :raises VeoJournalError: it could not be recorded, or a newer process is at it.
        """
        self.write(records)
        self.give_way_to_the_newer()

    def load(self, kind: str) -> Iterator[Any] | None:
        """
        Return what the newest process has saved of a kind; ``None``: nobody has.

        :param kind: what it is, in a word.
        :raises VeoJournalError: it can't be read.
        :raises VeoJournalRecordError: it can't be understood, or belongs to another task instance.
        """
        prefix = f"{kind}-"
        saved = [
            (place, name)
            for name in self._try("read", lambda: atomic.names(self._folder))
            if name.startswith(prefix) and (place := _Place.of(name.removeprefix(prefix)))
        ]
        if not saved:
            return None
        name = max(saved)[1]
        content = self._try("read", lambda: atomic.read(self._folder / name))
        return self._lines(name, content or b"")

    def save(self, kind: str, lines: Iterable[Any], count: int) -> None:
        """
        Save something for later processes. What an older one saves later doesn't take its place.

        :param kind: what it is, in a word.
        :param lines: what JSON knows.
        :param count: of the lines.

        :raises VeoJournalError: it could not be written.
        """
        name = f"{kind}-{_Place(self._process, self._token, next(self._numbers)).name}"
        self._write_lines(name, lines, count)

    @property
    def where(self) -> str:
        """Where a person finds the records."""
        return str(self._folder)

    def _write(self, records: list[Submission]) -> None:
        place = _Place(self._process, self._token, next(self._numbers))
        self._write_lines(place.name, (record.to_dict() for record in records), len(records))
        self._files.append(place)

    def _write_lines(self, name: str, lines: Iterable[Any], count: int) -> None:
        head = {"format": FORMAT, "task_instance": self._owner, "lines": count}
        encoded = (f"{json.dumps(line, allow_nan=False)}\n".encode() for line in itertools.chain([head], lines))
        if count <= _LINES_IN_MEMORY:
            self._try("write", lambda: atomic.write(self._folder / name, b"".join(encoded)))
        else:
            self._try("write", lambda: atomic.write_stream(self._folder / name, _joined(encoded)))

    def _places(self) -> list[_Place]:
        names = self._try("read", lambda: atomic.names(self._folder))
        return sorted(place for name in names if (place := _Place.of(name)))

    def _all(self) -> tuple[list[_Place], dict[str, Submission]]:
        for _ in range(_TRIES_TO_READ):
            places = self._places()
            try:
                return places, self._read(places)
            except FileNotFoundError:
                continue  # another process has just written one file in the place of many
        raise VeoJournalError(self._trouble("read", "its files vanish while they are read"))

    def _read(self, places: list[_Place]) -> dict[str, Submission]:
        records: dict[str, Submission] = {}
        waiting = iter(places)
        while some := list(itertools.islice(waiting, _READ_AT_ONCE)):
            read = partial(atomic.read_all, [self._folder / place.name for place in some])
            for place, content in zip(some, self._try("read", read, passing=FileNotFoundError), strict=True):
                lines = self._lines(place.name, content)
                self._understood(place.name, partial(_merge, records, _submissions(lines)))
        return records

    def _lines(self, name: str, content: bytes) -> Iterator[Any]:
        lines = map(json.loads, io.BytesIO(content))
        head = self._understood(name, lambda: next(lines, None))
        head, count = (head if isinstance(head, dict) else {}), content.count(b"\n") - 1
        if head.get("format") not in FORMATS:
            self._refuse(name, f"it has format {head.get('format')!r}, and this version knows formats up to {FORMAT}")
        if head.get("task_instance") != self._owner:
            self._refuse(name, f"it belongs to another task instance: {head.get('task_instance')!r:.300}")
        if head.get("lines") != count:
            self._refuse(name, f"it is cut off: it has {count} lines of {head.get('lines')!r}")
        return lines

    def _make_sure_that_it_is_ours(self, places: list[_Place]) -> None:
        """Look at one file of each process, before anything is written among them."""
        firsts = {(place.process, place.token): place for place in reversed(places)}
        for place in firsts.values():
            try:
                read = partial(atomic.read_all, [self._folder / place.name])
                (content,) = self._try("read", read, passing=FileNotFoundError)
            except FileNotFoundError:
                continue  # another process has just written one file in the place of many
            self._lines(place.name, content)

    def _tidy(self) -> None:
        old, self._files = self._files, []
        self._write(list(self._known.values()))
        # Not while a newer process may be listing: it could miss the new file, and then find the old ones gone.
        self.give_way_to_the_newer()
        self._log.info("Taking together %d files of the journal %s", len(old), self._folder)
        atomic.remove([self._folder / place.name for place in old])

    def give_way_to_the_newer(self) -> None:
        """
        Make sure that there is no newer process.

        :raises SupersededError: there is one.
        """
        mine, now = (self._process, self._token), time.time()
        if any((place.process, place.token) > mine for place in self._places()):
            raise SupersededError(
                "Another process is working on this same batch: Airflow started the task again while this one was "
                "still running. This one sends nothing more."
            )
        self._looked_at = now

    @property
    def is_fresh(self) -> bool:
        """Whether it was just now that there was no newer process. A process that was frozen finds that it wasn't."""
        return abs(time.time() - self._looked_at) < FRESH_SECONDS

    @property
    def is_recent(self) -> bool:
        """Whether it was a moment ago that there was no newer process."""
        return abs(time.time() - self._looked_at) < RECENT_SECONDS

    def _understood(self, name: str, understand: Callable[[], _T]) -> _T:
        try:
            return understand()
        except (ValueError, KeyError, TypeError) as error:
            self._refuse(name, f"{type(error).__name__}: {error}")

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise VeoJournalRecordError(
            f"Tried to read what this batch has submitted before, and can't use {self._folder / name}: {why}.\n"
            "Nothing was sent, for videos may be paid for already. Each task instance needs a result_path of its own: "
            "put {{ ds }} or {{ run_id }} into it, and {{ ti.map_index }} if the task is mapped. To begin anew, choose "
            "another one, or remove the folder once you know what was submitted."
        )

    def _try(self, what: str, act: Callable[[], _T], passing: type[Exception] = VeoError) -> _T:
        try:
            return act()
        except passing:
            raise
        except Exception as error:  # of any storage library
            raise VeoJournalError(self._trouble(what, f"{type(error).__name__}: {error}")) from error

    def _trouble(self, what: str, came: str) -> str:
        return (
            f"Tried to {what} the records of what this batch submits, in {self._folder}, and could not: {came}\n"
            "Nothing is sent without them: videos could be paid for twice. See that the storage works, then try again."
        )


def _merge(known: dict[str, Submission], records: Iterable[Submission]) -> None:
    for record in records:
        known[record.key] = known[record.key].newer(record) if record.key in known else record


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    while some := b"".join(itertools.islice(lines, _LINES_IN_MEMORY)):
        yield some


def _submissions(lines: Iterable[Any]) -> Iterator[Submission]:
    for line in lines:
        submission = Submission.from_dict(line)
        if not submission.key:
            raise ValueError("it has a record without the key of a job")
        yield submission
