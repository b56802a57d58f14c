"""
The content of a batch's folder: its results, or its records while it runs. All calls block.

A folder is read only below a root of ``[veo] page_roots``, and only if its own content names the same task instance as
the one whose XCom contains its path.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_veo.batch import inputs
from airflow_provider_veo.batch.results import RESULTS, SUMMARY, VIDEOS, Results
from airflow_provider_veo.batch.shards import JOURNAL
from airflow_provider_veo.journal.batch_journal import BatchJournal
from airflow_provider_veo.ui import lines
from airflow_provider_veo.ui.opening import UnreadableError, folder_path, open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.ui.access import Admitted
    from airflow_provider_veo.ui.lines import Line, LineCursor, LinePage, Readable
    from airflow_provider_veo.ui.opening import Opened

    _T = TypeVar("_T")

_SUMMARY_BYTES = 4 * 1024 * 1024
_HEAD_BYTES = 64 * 1024
_JOURNAL_BYTES = 32 * 1024 * 1024
"""The records of a running batch are read completely; of a larger one, only the card is shown until it has ended."""
_SECONDS_KEPT = 5.0
_BYTES_KEPT = 64 * 1024 * 1024

log = logging.getLogger(__name__)


class _Recent:
    """A short-lived cache: several open pages request the same content every few seconds."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[float, bytes]] = {}
        self._lock = Lock()

    def get(self, key: Any, read: Callable[[], bytes]) -> bytes:
        """Return the cached content of a key, or read it."""
        with self._lock:
            since = time.monotonic() - _SECONDS_KEPT
            self._kept = {each: kept for each, kept in self._kept.items() if kept[0] > since}
            if key in self._kept:
                return self._kept[key][1]
        content = read()
        with self._lock:
            if len(content) + sum(len(kept) for _, kept in self._kept.values()) <= _BYTES_KEPT:
                self._kept[key] = (time.monotonic(), content)
        return content


_recent = _Recent()


class Folder:
    """
    The folder of a batch.

    :param admitted: its path.
    :param owner: the task instance whose XCom contains it, as it is recorded: ``dag_id``, ``run_id``, ``task_id``,
        ``map_index``, and ``loop_index`` in a task loop.
    :param has_ended: whether the task has ended.
    :param batch: the folder of the batch of which this is a shard. Default: it is not divided.
    """

    def __init__(
        self, admitted: Admitted, owner: Mapping[str, Any], *, has_ended: bool, batch: Admitted | None = None
    ) -> None:
        self.root = admitted.root
        self._admitted = admitted
        self._batch = batch or admitted
        self._owner = dict(owner)
        self._has_ended = has_ended
        self._key = (admitted, *self._owner.values(), has_ended)

    def page(self, cursor: LineCursor, limit: int, is_wanted: Callable[[Line], bool]) -> LinePage:
        """
        Return a page of its rows; see :func:`airflow_provider_veo.ui.lines.page_of`.

        :raises UnreadableError: it can't be read, or belongs to another task instance.
        """
        return self._reading(lambda file: lines.page_of(file, cursor, limit, is_wanted))

    def file_of(self, key: str, offset: int) -> Admitted:
        """
        Return the path of a job's file.

        :param key: the job's.
        :param offset: of its row.
        :raises UnreadableError: none is recorded there for this job.
        """
        line = self._reading(lambda file: lines.line_at(file, offset))
        row = line.row if line else None
        if row is None or row.get("key") != key or not isinstance(row.get("file"), str):
            raise UnreadableError("no file is recorded for this job")
        return self._file(row["file"].rpartition("/")[2])

    def poster_of(self, name: str) -> Admitted:
        """
        Return the path of a poster.

        :param name: of its file.
        :raises UnreadableError: the folder belongs to another task instance, or this is not the name of a file.
        """
        _recent.get(("owner", *self._key), self._verified)
        return self._file(name)

    def _file(self, name: str) -> Admitted:
        try:
            return self._batch.joined(VIDEOS, name)
        except ValueError as error:
            raise UnreadableError("it is not the name of a file") from error

    def _reading(self, read: Callable[[Any], _T]) -> _T:
        with self.content() as content:
            return read(content)

    @contextmanager
    def content(self) -> Iterator[Readable]:
        """
        Open the rows of its results, or those of its records.

        :raises UnreadableError: it can't be read, or belongs to another task instance.
        """
        if self._has_ended and (results := self._opened(RESULTS)):
            try:
                _recent.get(("owner", *self._key), self._verified)
                yield results
            finally:
                results.close()
        else:
            yield lines.InMemory(_recent.get(("records", *self._key), self._recorded))

    def _opened(self, name: str) -> Opened | None:
        try:
            return open_file(self._admitted.joined(name))
        except (FileNotFoundError, UnreadableError):
            return None

    def _verified(self) -> bytes:
        """Check that the folder belongs to the task instance."""
        summary = self._opened(SUMMARY)
        if summary is None:
            self._journal()
            return b""
        try:
            said = json.loads(summary.read(0, min(summary.size, _SUMMARY_BYTES)))
            found = {name: said[name] for name in self._owner}
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise UnreadableError("its summary does not name a task instance") from error
        finally:
            summary.close()
        self._compare({**found, "map_index": -1 if found["map_index"] is None else found["map_index"]})
        return b""

    def _compare(self, owner: Any) -> None:
        if owner != self._owner:
            raise UnreadableError("it belongs to another task instance")

    def _recorded(self) -> bytes:
        """Return the records of the batch's jobs, as rows of its results."""
        journal = BatchJournal(self._journal(), self._owner, log)
        rows = Results(inputs.recorded(journal).jobs, journal.read(), None, download=True).rows()
        return b"".join(f"{json.dumps(row)}\n".encode() for row in rows)

    def _journal(self) -> ObjectStoragePath:
        """Return the journal, if it belongs to the task instance, contains only files, and is not too large."""
        journal: ObjectStoragePath = folder_path(self._admitted.joined(JOURNAL))
        journal.fs.invalidate_cache(journal.path)
        files = list(_files(journal))
        if not files or sum(size for _, size in files) > _JOURNAL_BYTES:
            raise UnreadableError("it has no records, or too many to show")
        head = journal.fs.cat_file(files[0][0], start=0, end=_HEAD_BYTES).partition(b"\n")[0]
        try:
            self._compare(json.loads(head).get("task_instance"))
        except (ValueError, RecursionError, AttributeError) as error:
            raise UnreadableError("its records do not name a task instance") from error
        return journal


class ShardedFolder(Folder):
    """
    The folders of the shards of a batch, as one folder: its rows are those of one shard after the other.

    :param shards: their folders.
    """

    def __init__(self, shards: Sequence[Folder]) -> None:
        first = shards[0]
        super().__init__(first._admitted, first._owner, has_ended=first._has_ended, batch=first._batch)
        self._shards = shards

    @contextmanager
    def content(self) -> Iterator[Readable]:
        """
        Open the rows of all shards that can be read: one that has not begun has no records.

        :raises UnreadableError: none can be read.
        """
        contents: list[Readable] = []
        in_memory = 0
        with ExitStack() as opened:
            for shard in self._shards:
                try:
                    contents.append(opened.enter_context(shard.content()))
                except (UnreadableError, FileNotFoundError) as error:
                    log.info("A shard is not shown: %s", error)
                    continue
                in_memory += contents[-1].size if isinstance(contents[-1], lines.InMemory) else 0
                if in_memory > _BYTES_KEPT:  # of a large batch, the other shards are shown when they have ended
                    break
            if not contents:
                raise UnreadableError("no shard can be read")
            yield lines.Joined(tuple(contents))


def _files(folder: ObjectStoragePath) -> Iterator[tuple[str, int]]:
    for found in folder.fs.ls(folder.path, detail=True):
        if found.get("islink") or found.get("type") not in ("file", "directory"):
            raise UnreadableError("it contains something other than regular files")
        if found["type"] == "file":
            yield found["name"], int(found["size"])
