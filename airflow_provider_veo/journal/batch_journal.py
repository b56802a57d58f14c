"""
The journal of a batch: what it submitted, across tries, wake-ups, processes and machines.

It is a folder of small files. Each is written once, atomically, because object storages can't append, and holds a group
of records, so that many jobs need few writes. The invariants are those of the journal of a single video:

- An intent is on record before its request is sent, and the id soon after it is known. An intent without an id means
  that it is unknown whether the request was accepted; it never means that the request was not sent.
- "The records could not be read" is never treated as "there are no records": it raises, and nothing is sent.
- If several processes run one task instance at once (a worker that was thought dead), only the newest one sends.

For the last invariant, each process has a number, one above all that it found, and a token; its first file claims them.
The process then reads what the others have written. Before it sends a group, and after the group's intents are on
record, it checks that there is no newer process. Of two such processes at least one sees the other: the newer one sees
the older one's intents, or the older one sees the newer one's claim and sends nothing (Dekker's algorithm; it requires
that a listing contains everything written before, as with S3, GCS, Azure and file systems). A process that was frozen
after the check, and thought dead in the meantime, checks again before it sends.
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

from airflow_provider_veo.files import atomic, remote
from airflow_provider_veo.journal.formats import FORMAT, FORMATS
from airflow_provider_veo.journal.submission import Submission
from airflow_provider_veo.protocol import VeoError, VeoJournalError, VeoJournalRecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.log import Log

MAX_FILES = 64
"""A process that finds more files than this at its start compacts them, because every later process reads all."""
MAX_FILES_OF_A_PROCESS = 256
"""A process that has more files than this compacts them, because it lists them before each group that it sends."""
FRESH_SECONDS = 5.0
"""How long a check for newer processes stays valid. Airflow takes longer to consider a process dead."""
RECENT_SECONDS = 60.0
"""The same for recorded intents that wait for a socket: listing a storage may take a while."""
_TRIES_TO_READ = 5
_LINES_IN_MEMORY = 500
_READ_AT_ONCE = 32
"""Maximum number of files in memory."""
_NAME = re.compile(r"(\d{6,})-([0-9a-f]{32})-(\d{6,})\.jsonl")
_T = TypeVar("_T")


class SupersededError(VeoJournalError):
    """A newer process is working on the same batch."""


class _Place(NamedTuple):
    """A file's position among the others: the order in which they were written, as far as it matters."""

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

    :param folder: the folder that holds them, used by this task instance only.
    :param owner: the task instance, see :func:`~airflow_provider_veo.journal.identity.owner_of`.
    :param log: the task's logger.
    """

    def __init__(self, folder: ObjectStoragePath, owner: Mapping[str, Any], log: Log) -> None:
        self._folder = folder
        self._owner = dict(owner)
        self._log = log
        self._token = uuid4().hex
        self._process = 0
        self._numbers = itertools.count()
        self._known: dict[str, Submission] = {}
        self._looked_at = 0.0
        self._files: list[_Place] = []
        """The files that hold exactly the known records."""

    def begin(self) -> dict[str, Submission]:
        """
        Claim the batch for this process, and return the records by job key.

        :raises VeoJournalError: the storage can't be read or written, or a newer process has taken over.
        :raises VeoJournalRecordError: the records are invalid, or belong to another task instance.
        """
        places = self._places()
        self._check_owner(places)
        self._process = max((place.process for place in places), default=0) + 1
        self._write([])
        self.give_way_to_the_newer()
        try:
            self._files, self._known = self._all()
        except VeoJournalRecordError:
            # Two task instances began in the same folder at once. This one's files must not block the other.
            atomic.remove([self._folder / place.name for place in self._files])
            raise
        if len(self._files) > MAX_FILES:
            self._tidy()
        return dict(self._known)

    def read(self) -> dict[str, Submission]:
        """
        Return the records by job key without claiming the batch, for readers only.

        :raises VeoJournalError: the storage can't be read.
        :raises VeoJournalRecordError: the records are invalid, or belong to another task instance.
        """
        return self._all()[1]

    def write(self, records: Iterable[Submission]) -> None:
        """
        Write records.

        :raises VeoJournalError: they could not be written.
        """
        records = list(records)
        self._write(records)
        _merge(self._known, records)
        if len(self._files) > MAX_FILES_OF_A_PROCESS:
            self._tidy()

    def intend(self, records: Iterable[Submission]) -> None:
        """
        Record intents. They may be sent only after this returns.

        :raises VeoJournalError: they could not be recorded, or a newer process has taken over.
        """
        self.write(records)
        self.give_way_to_the_newer()

    def load(self, kind: str, convert: Callable[[Any], _T]) -> tuple[Mapping[str, Any], Iterator[_T]] | None:
        """
        Return what the newest process has saved of a kind: the head and, as they are read, the other lines.

        ``None`` if none has.

        :param kind: one word, the prefix of the file name.
        :param convert: makes of a line what it stands for.
        :raises VeoJournalError: it can't be read.
        :raises VeoJournalRecordError: it is invalid, or belongs to another task instance.
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
        lines = self._lines(name, content or b"")
        head = next(self._each(name, lines, lambda line: line), None)
        if not isinstance(head, dict):
            self._refuse(name, f"it has no head: {head!r:.200}")
        return head, self._each(name, lines, convert)

    def save(self, kind: str, lines: Iterable[Any], count: int) -> None:
        """
        Save lines for later processes. A later save by an older process does not replace them.

        :param kind: one word, the prefix of the file name.
        :param lines: JSON values.
        :param count: number of lines.
        :raises VeoJournalError: it could not be written.
        """
        name = f"{kind}-{_Place(self._process, self._token, next(self._numbers)).name}"
        self._write_lines(name, lines, count)

    @property
    def where(self) -> str:
        """Location of the records, for people."""
        return str(self._folder)

    def _write(self, records: list[Submission]) -> None:
        place = _Place(self._process, self._token, next(self._numbers))
        self._write_lines(place.name, (record.to_dict() for record in records), len(records))
        self._files.append(place)

    def _write_lines(self, name: str, lines: Iterable[Any], count: int) -> None:
        head = {"format": FORMAT, "task_instance": self._owner, "lines": count}
        encoded = (f"{json.dumps(line, allow_nan=False)}\n".encode() for line in itertools.chain([head], lines))
        # An upload in parts that a killed process leaves would be found by nobody: the name is its own.
        if remote.has_uploads(self._folder.fs):
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
                continue  # another process has just compacted them
        raise VeoJournalError(self._failure_text("read", "files keep disappearing while they are read"))

    def _read(self, places: list[_Place]) -> dict[str, Submission]:
        records: dict[str, Submission] = {}
        waiting = iter(places)
        while some := list(itertools.islice(waiting, _READ_AT_ONCE)):
            read = partial(atomic.read_all, [self._folder / place.name for place in some])
            for place, content in zip(some, self._try("read", read, passing=FileNotFoundError), strict=True):
                lines = self._lines(place.name, content)
                _merge(records, self._each(place.name, lines, _submission))
        return records

    def _lines(self, name: str, content: bytes) -> Iterator[Any]:
        lines = iter(io.BytesIO(content))
        found = next(self._each(name, lines, json.loads), None)
        head, count = (found if isinstance(found, dict) else {}), content.count(b"\n") - 1
        if head.get("format") not in FORMATS:
            self._refuse(name, f"it has format {head.get('format')!r}, and this version reads formats up to {FORMAT}")
        if head.get("task_instance") != self._owner:
            self._refuse(name, f"it belongs to another task instance: {head.get('task_instance')!r:.300}")
        if head.get("lines") != count or not content.endswith(b"\n"):
            self._refuse(name, f"it is truncated: it has {count} of {head.get('lines')!r} lines")
        return map(json.loads, lines)

    def _check_owner(self, places: list[_Place]) -> None:
        """Check one file of each process, before anything is written next to them."""
        firsts = {(place.process, place.token): place for place in reversed(places)}
        for place in firsts.values():
            try:
                read = partial(atomic.read_all, [self._folder / place.name])
                (content,) = self._try("read", read, passing=FileNotFoundError)
            except FileNotFoundError:
                continue  # another process has just compacted them
            self._lines(place.name, content)

    def _tidy(self) -> None:
        old, self._files = self._files, []
        self._write(list(self._known.values()))
        # Not while a newer process may be listing: it could miss the new file and then find the old ones gone.
        self.give_way_to_the_newer()
        self._log.info("Compacting %d journal files in %s", len(old), self._folder)
        atomic.remove([self._folder / place.name for place in old])

    def give_way_to_the_newer(self) -> None:
        """
        Check that there is no newer process.

        :raises SupersededError: there is a newer process.
        """
        mine, now = (self._process, self._token), time.time()
        if any((place.process, place.token) > mine for place in self._places()):
            raise SupersededError(
                "Another process is working on this batch: Airflow started the task again while this one was "
                "still running. This one sends nothing more."
            )
        self._looked_at = now

    @property
    def is_fresh(self) -> bool:
        """Whether the last check for newer processes is still valid. After a freeze it no longer is."""
        return abs(time.time() - self._looked_at) < FRESH_SECONDS

    @property
    def is_recent(self) -> bool:
        """Whether the last check for newer processes is recent enough for recorded intents."""
        return abs(time.time() - self._looked_at) < RECENT_SECONDS

    def _each(self, name: str, lines: Iterator[Any], convert: Callable[[Any], _T]) -> Iterator[_T]:
        """Convert one line of a file after the other; an error names the file."""
        while True:
            try:
                item = convert(next(lines))
            except StopIteration:
                return
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                self._refuse(name, f"{type(error).__name__}: {error}")
            yield item

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise VeoJournalRecordError(
            f"Could not use {self._folder / name}, a record of what this batch submitted earlier: {why}.\n"
            "Nothing was sent, because videos may already be billed. Each task instance needs its own result_path: put "
            "{{ ds }} or {{ run_id }} into it, {{ ti.map_index }} if the task is mapped, and {{ loop.index }} if it is "
            "in a task loop. The shards of a batch have one result_path, and each shard belongs to one task instance. "
            "To start over, choose another one, or remove the folder once you know what was submitted."
        )

    def _try(self, what: str, act: Callable[[], _T], passing: type[Exception] = VeoError) -> _T:
        try:
            return act()
        except passing:
            raise
        except Exception as error:  # of any storage library
            raise VeoJournalError(self._failure_text(what, f"{type(error).__name__}: {error}")) from error

    def _failure_text(self, what: str, reason: str) -> str:
        return (
            f"Could not {what} the records of this batch's submissions in {self._folder}: {reason}\n"
            "Nothing is sent without them, because videos could be billed twice. Check the storage, then try again."
        )


def _merge(known: dict[str, Submission], records: Iterable[Submission]) -> None:
    for record in records:
        known[record.key] = known[record.key].newer(record) if record.key in known else record


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    while some := b"".join(itertools.islice(lines, _LINES_IN_MEMORY)):
        yield some


def _submission(line: Any) -> Submission:
    submission = Submission.from_dict(line)
    if not submission.key:
        raise ValueError("it has a record without a job key")
    return submission
