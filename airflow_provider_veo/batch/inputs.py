"""Where the jobs of a batch come from: the task's arguments at first, and what they were when it is tried again."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.batch import jobs as batch_jobs
from airflow_provider_veo.batch import manifest
from airflow_provider_veo.batch.jobs import Job
from airflow_provider_veo.batch.rendering import looks_like_template
from airflow_provider_veo.protocol import VeoError, VeoValidationError, coerce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from logging import Logger

    from airflow_provider_veo.batch.manifest import Rows
    from airflow_provider_veo.connection import VeoConnection
    from airflow_provider_veo.journal.batch_journal import BatchJournal

JOBS = "jobs"
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
"""A larger manifest is refused before it is read."""
_DIGEST_VERSION = "2:"
"""Earlier versions recorded a digest without one."""


@dataclass(frozen=True)
class BatchInput:
    """
    What a task was given to make.

    :param jobs: prompts, or dicts of a request's fields; or
    :param manifest: the URI of a file of them.
    :param defaults: the request's fields for all jobs.
    :param max_videos: at most so many.
    :param max_cost: at most so much for all of them.
    :param render: renders a prompt of a manifest that is a template; ``None``: prompts are sent as they are.
    """

    jobs: Any
    manifest: str | None
    defaults: Mapping[str, Any]
    max_videos: int | None = None
    max_cost: float | None = None
    render: Callable[[str], str] | None = None

    def read(self, journal: BatchJournal, settings: VeoConnection, log: Logger) -> tuple[list[Job], str]:
        """
        Return the jobs, and what tells this input from others.

        Where an earlier try was given the very same, its jobs are returned: a prompt that would be rendered to
        something else now, by a date or a random number, is not another job, to be paid for again.

        :param journal: of the batch.
        :param settings: the connection.
        :raises VeoValidationError: naming every mistake in all jobs.
        """
        content = None if coerce.is_nothing(self.manifest) else self._content()
        lines = journal.load(JOBS)
        head = None if lines is None else next(lines)
        for known in (same := self._digest(content), *self._earlier_digests(content)):
            if lines is not None and _is_of(head, known):
                there = _jobs(lines)
                self._check_limits(there, settings)
                log.info("%d jobs, as in the try before", len(there))
                return there, known
        if lines is not None:
            log.warning("The jobs are not those of the try before: those that are the same are not submitted again")
        rows = (
            manifest.of_jobs(self._listed()) if content is None else manifest.read(content, _name(str(self.manifest)))
        )
        if content is not None and self.render is None:
            self._notice_templates(rows, head, lines, log)
        made = batch_jobs.make(
            rows,
            defaults=self.defaults,
            settings=settings,
            max_videos=self.max_videos,
            max_cost=self.max_cost,
            render=None if content is None else self.render,
        )
        log.info("%d jobs, all of them valid", len(made))
        return made, same

    def _check_limits(self, jobs: list[Job], settings: VeoConnection) -> None:
        if mistakes := batch_jobs.limit_mistakes(jobs, settings, self.max_videos, self.max_cost):
            raise VeoValidationError("The batch is not valid. Nothing was sent in this try.", mistakes)

    def _listed(self) -> Any:
        """What a mapped task has pushed comes as a sequence that is read bit by bit."""
        is_sequence = isinstance(self.jobs, Sequence) and not isinstance(self.jobs, str)
        return list(self.jobs) if is_sequence else self.jobs

    def _content(self) -> bytes:
        uri = str(self.manifest)
        try:
            path = ObjectStoragePath(uri)
            about = path.fs.info(path.path)
            size, kind = about.get("size"), about.get("type")
            _refuse_unreadable(uri, size, kind)
            # A size that is not known beforehand is bounded by what is read.
            span = {} if isinstance(size, int) else {"start": 0, "end": MAX_MANIFEST_BYTES + 1}
            content = bytes(path.fs.cat_file(path.path, **span))
            _refuse_unreadable(uri, len(content), kind)
            return content
        except FileNotFoundError:
            raise VeoValidationError(_NOTHING_TO_MAKE, [f"manifest: there is no file {uri!r}"]) from None
        except VeoValidationError:
            raise
        except Exception as error:  # of any storage library
            raise UnreadableManifestError(
                f"Tried to read the manifest {uri}, and could not: {type(error).__name__}: {error}\n"
                "Nothing was sent, nothing is paid. See that the storage works and may be read, then try again."
            ) from error

    def _digest(self, content: bytes | None) -> str:
        return _DIGEST_VERSION + self._hash(content, renders=content is not None and self.render is not None)

    def _earlier_digests(self, content: bytes | None) -> list[str]:
        """
        Return what earlier versions recorded of this input.

        They rendered by default. What they recorded is not read again only because the default is another now: its
        rendered prompts would not be known any more, and their videos would be billed again.
        """
        rendered = self._hash(content, renders=True)
        return [rendered] if self.render is not None else [rendered, self._hash(content, renders=False)]

    def _hash(self, content: bytes | None, *, renders: bool) -> str:
        jobs = self._listed() if content is None else None
        given = json.dumps([jobs, dict(self.defaults), renders], default=str)
        digest = hashlib.sha256(given.encode() + b"\0")
        digest.update(content or b"")
        return digest.hexdigest()

    def _notice_templates(self, rows: Rows, head: Any, lines: Iterator[Any] | None, log: Logger) -> None:
        """
        Say that templates are sent as they are.

        :raises VeoValidationError: an earlier version has rendered them, and may have paid for them.
        """
        templates = sum(looks_like_template(row.fields.get("prompt")) for row in rows.rows)
        if not templates:
            return
        found = f"{templates:,} of {len(rows.rows):,} prompts in the manifest look like templates"
        if lines is not None and _was_rendered(head) and not _are_all_known(rows, lines):
            raise VeoValidationError(
                "The manifest has changed since this batch began, when its prompts were rendered. Nothing was sent in "
                "this try.",
                [
                    f"render_prompts: {found}. Sent as they are, they would be other videos, and be billed again. Set "
                    "render_prompts=True, or choose another result_path"
                ],
            )
        log.warning("%s. They are sent as they are. Set render_prompts=True to have them rendered", found)


_NOTHING_TO_MAKE = "There is nothing to make. Nothing was sent, nothing is paid."


def _refuse_unreadable(uri: str, size: Any, kind: Any) -> None:
    """Refuse a file that is too large, and a FIFO or a device, which may never end."""
    if kind not in ("file", "directory", None):
        raise VeoValidationError(_NOTHING_TO_MAKE, [f"manifest: {uri!r} is not a regular file"])
    if isinstance(size, int) and size > MAX_MANIFEST_BYTES:
        expected = f"expected at most {MAX_MANIFEST_BYTES:,} bytes"
        raise VeoValidationError(_NOTHING_TO_MAKE, [f"manifest: {expected}, {uri!r} has {size:,} or more"])


class UnreadableManifestError(VeoError):
    """The manifest could not be read, for a reason that may pass."""

    final = False


def recorded(journal: BatchJournal) -> list[Job]:
    """
    Return the jobs of a batch that goes on.

    :raises VeoValidationError: there are none: somebody has removed them.
    """
    lines = journal.load(JOBS)
    if lines is None:
        raise VeoValidationError(
            "The batch can't go on: its jobs were there when it began to wait, and are gone.",
            [f"result_path: {journal.where} was removed or emptied. What it had submitted goes on being billed"],
        )
    next(lines)
    return _jobs(lines)


def settled(journal: BatchJournal, jobs: list[Job], same: str, *, is_rendered: bool = False) -> list[Job]:
    """
    Record the jobs, for later tries and for the processes of this one, and return them.

    :param journal: whose batch this process has claimed. What was recorded meanwhile of the very same input goes before
        what was read earlier: another process may have begun to submit it.
    :param jobs: what was read.
    :param same: what tells its input from others.
    :param is_rendered: whether prompts of it were rendered.
    """
    lines = journal.load(JOBS)
    before = None if lines is None else next(lines)
    if lines is not None and _is_of(before, same):
        return _jobs(lines)
    head = {"input": same, "rendered": is_rendered or bool(before and _was_rendered(before))}
    journal.save(JOBS, itertools.chain([head], (job.to_dict() for job in jobs)), 1 + len(jobs))
    return jobs


def _is_of(head: Any, same: str) -> bool:
    return isinstance(head, dict) and head.get("input") == same


def _was_rendered(head: Mapping[str, Any]) -> bool:
    """Whether any try has rendered prompts of this batch; earlier versions did so by default."""
    is_current = str(head.get("input", "")).startswith(_DIGEST_VERSION)
    return bool(head.get("rendered", not is_current))


def _are_all_known(rows: Rows, lines: Iterable[Any]) -> bool:
    """Whether all prompts that look like templates were jobs of this batch before, as they are."""
    known = {record["body"].get("prompt") for record in lines}
    prompts = (row.fields.get("prompt") for row in rows.rows)
    return all(coerce.text(prompt) in known for prompt in prompts if looks_like_template(prompt))


def _jobs(lines: Iterable[Any]) -> list[Job]:
    return [Job.from_dict(record) for record in lines]


def _name(uri: str) -> str:
    """Return the name of a file, without what else is in its URI."""
    return urlsplit(uri).path.rpartition("/")[2] or uri
