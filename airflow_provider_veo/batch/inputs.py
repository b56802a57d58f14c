"""Where the jobs of a batch come from: the task's arguments, or what an earlier try recorded of them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.batch import jobs as batch_jobs
from airflow_provider_veo.batch import manifest
from airflow_provider_veo.batch.jobs import Job
from airflow_provider_veo.batch.rendering import looks_like_template
from airflow_provider_veo.batch.shards import WHOLE, Shard, Tally
from airflow_provider_veo.protocol import VeoError, VeoValidationError, coerce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_provider_veo.batch.manifest import Rows
    from airflow_provider_veo.connection import VeoConnection
    from airflow_provider_veo.journal.batch_journal import BatchJournal
    from airflow_provider_veo.log import Log

JOBS = "jobs"
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
"""A larger manifest is rejected before it is read."""
_DIGEST_VERSION = "2:"
"""Earlier versions recorded a digest without one."""


class Jobs(NamedTuple):
    """The jobs of a task, and what is recorded with them."""

    jobs: list[Job]
    head: Mapping[str, Any]
    """``input``: the digest that identifies their input; ``whole``: of a shard, the tally of all shards' jobs."""

    @property
    def whole(self) -> Tally:
        """All jobs of the batch."""
        return Tally.of(self.head["whole"]) if "whole" in self.head else Tally(self.jobs)


@dataclass(frozen=True)
class BatchInput:
    """
    The input of a task.

    :param jobs: prompts, or dicts of a request's fields; or
    :param manifest: the URI of a file of them.
    :param defaults: request fields that apply to all jobs.
    :param max_videos: maximum number of jobs.
    :param max_cost: maximum price of all videos.
    :param render: renders a manifest prompt that is a template; ``None``: prompts are sent unrendered.
    :param shard: which of the jobs this task takes. Mistakes and limits concern all of them.
    """

    jobs: Any
    manifest: str | None
    defaults: Mapping[str, Any]
    max_videos: int | None = None
    max_cost: float | None = None
    render: Callable[[str], str] | None = None
    shard: Shard = WHOLE

    def read(self, journal: BatchJournal, settings: VeoConnection, log: Log) -> Jobs:
        """
        Return the jobs.

        If an earlier try had the same input, its recorded jobs are returned: a prompt that renders differently now,
        because of a date or a random number, must not become a new job that is billed again.

        :raises VeoValidationError: lists the mistakes of all jobs.
        """
        content = None if coerce.is_nothing(self.manifest) else self._content()
        head, recorded_jobs = journal.load(JOBS, Job.from_dict) or ({}, iter(()))
        for known in (same := self._digest(content), *self._earlier_digests(content)):
            if head.get("input") == known:
                there = Jobs(list(recorded_jobs), {**head, "input": known})
                self._check_limits(there, settings)
                log.info("%d jobs, the same as in the previous try", len(there.jobs))
                return there
        if head:
            log.warning("The jobs differ from the previous try. Jobs that did not change are not submitted again")
        rows = (
            manifest.of_jobs(self._listed()) if content is None else manifest.read(content, _name(str(self.manifest)))
        )
        if content is not None and self.render is None:
            self._notice_templates(rows, head, recorded_jobs, log)
        made = batch_jobs.make(
            rows,
            defaults=self.defaults,
            settings=settings,
            max_videos=self.max_videos,
            max_cost=self.max_cost,
            render=None if content is None else self.render,
        )
        log.info("%d jobs, all valid", len(made))
        if self.shard.is_whole:
            return Jobs(made, {"input": same})
        mine = [job for job in made if self.shard.takes(job)]
        log.info("%d of them are for shard %s", len(mine), self.shard.name)
        return Jobs(mine, {"input": same, "whole": Tally(made).to_list()})

    def _check_limits(self, recorded: Jobs, settings: VeoConnection) -> None:
        jobs = recorded.jobs if self.shard.is_whole else recorded.whole.jobs
        if mistakes := batch_jobs.limit_mistakes(jobs, settings, self.max_videos, self.max_cost):
            raise VeoValidationError("The batch is not valid. Nothing was sent in this try.", mistakes)

    def _listed(self) -> Any:
        """Return the jobs as a list: what a mapped task pushed is a lazy sequence."""
        is_sequence = isinstance(self.jobs, Sequence) and not isinstance(self.jobs, str)
        return list(self.jobs) if is_sequence else self.jobs

    def _content(self) -> bytes:
        uri = str(self.manifest)
        try:
            path = ObjectStoragePath(uri)
            about = path.fs.info(path.path)
            size, kind = about.get("size"), about.get("type")
            _refuse_unreadable(uri, size, kind)
            # If the size is unknown, limit how much is read.
            span = {} if isinstance(size, int) else {"start": 0, "end": MAX_MANIFEST_BYTES + 1}
            content = bytes(path.fs.cat_file(path.path, **span))
            _refuse_unreadable(uri, len(content), kind)
            return content
        except FileNotFoundError:
            raise VeoValidationError(_UNREADABLE, [f"manifest: the file {uri!r} does not exist"]) from None
        except VeoValidationError:
            raise
        except Exception as error:  # raised by any storage library
            raise UnreadableManifestError(
                f"The manifest {uri!r} could not be read. The storage returned {type(error).__name__}: {error}\n"
                "Nothing was sent or billed. Check that the storage is available and readable, then retry."
            ) from error

    def _digest(self, content: bytes | None) -> str:
        return _DIGEST_VERSION + self._hash(content, renders=content is not None and self.render is not None)

    def _earlier_digests(self, content: bytes | None) -> list[str]:
        """
        Return the digests that earlier versions recorded for this input.

        They rendered prompts by default. The new default alone must not make their recorded jobs unknown: the rendered
        prompts would be lost and their videos billed again.
        """
        rendered = self._hash(content, renders=True)
        return [rendered] if self.render is not None else [rendered, self._hash(content, renders=False)]

    def _hash(self, content: bytes | None, *, renders: bool) -> str:
        jobs = self._listed() if content is None else None
        given = json.dumps([jobs, dict(self.defaults), renders], default=str)
        digest = hashlib.sha256(given.encode() + b"\0")
        digest.update(content or b"")
        return digest.hexdigest()

    def _notice_templates(self, rows: Rows, head: Mapping[str, Any], before: Iterable[Job], log: Log) -> None:
        """
        Warn that templates are sent unrendered.

        :raises VeoValidationError: an earlier version rendered them, and their videos may have been billed.
        """
        templates = sum(looks_like_template(row.fields.get("prompt")) for row in rows.rows)
        if not templates:
            return
        found = f"{templates:,} of {len(rows.rows):,} prompts in the manifest look like templates"
        if head and _was_rendered(head) and not _are_all_known(rows, before):
            raise VeoValidationError(
                "The manifest has changed, and earlier tries of this batch rendered its prompts. Nothing was sent in "
                "this try.",
                [
                    f"render_prompts: {found}. Sent unrendered, they would be different requests and billed again. Set "
                    "render_prompts=True, or choose another result_path"
                ],
            )
        log.warning("%s. They are sent unrendered. Set render_prompts=True to render them", found)


_UNREADABLE = "The manifest can't be read. Nothing was sent or billed."


def _refuse_unreadable(uri: str, size: Any, kind: Any) -> None:
    """Reject a file that is too large, and a FIFO or a device, which may never end."""
    if kind not in ("file", "directory", None):
        raise VeoValidationError(_UNREADABLE, [f"manifest: {uri!r} is not a regular file"])
    if isinstance(size, int) and size > MAX_MANIFEST_BYTES:
        expected = f"expected at most {MAX_MANIFEST_BYTES:,} bytes"
        raise VeoValidationError(_UNREADABLE, [f"manifest: {expected}, {uri!r} has {size:,} or more"])


class UnreadableManifestError(VeoError):
    """The manifest could not be read, and a retry may succeed."""

    final = False


def recorded(journal: BatchJournal) -> Jobs:
    """
    Return the recorded jobs of a batch that continues.

    :raises VeoValidationError: the record was removed.
    """
    saved = journal.load(JOBS, Job.from_dict)
    if saved is None:
        raise VeoValidationError(
            "The batch can't continue: its recorded jobs disappeared while it was deferred.",
            [f"result_path: {journal.where} was removed or emptied. Videos already submitted will still be billed"],
        )
    return Jobs(list(saved[1]), saved[0])


def settled(journal: BatchJournal, read: Jobs, *, is_rendered: bool = False) -> Jobs:
    """
    Record the jobs for later tries and for the processes of this one, and return them.

    :param journal: of a batch that this process has claimed. If another process has meanwhile recorded jobs for the
        same input, those are returned instead: it may have begun to submit them.
    :param read: the jobs that were read.
    :param is_rendered: whether their prompts were rendered.
    """
    before, recorded_jobs = journal.load(JOBS, Job.from_dict) or ({}, iter(()))
    if before.get("input") == read.head["input"]:
        return Jobs(list(recorded_jobs), before)
    head = {**read.head, "rendered": is_rendered or bool(before and _was_rendered(before))}
    journal.save(JOBS, itertools.chain([head], (job.to_dict() for job in read.jobs)), 1 + len(read.jobs))
    return read


def _was_rendered(head: Mapping[str, Any]) -> bool:
    """Whether any try has rendered prompts of this batch; earlier versions did by default."""
    is_current = str(head.get("input", "")).startswith(_DIGEST_VERSION)
    return bool(head.get("rendered", not is_current))


def _are_all_known(rows: Rows, jobs: Iterable[Job]) -> bool:
    """Whether all prompts that look like templates were already jobs of this batch, unrendered."""
    known = {job.body.get("prompt") for job in jobs}
    prompts = (row.fields.get("prompt") for row in rows.rows)
    return all(coerce.text(prompt) in known for prompt in prompts if looks_like_template(prompt))


def _name(uri: str) -> str:
    """Return the file name of a URI."""
    return urlsplit(uri).path.rpartition("/")[2] or uri
