"""
Metrics through Airflow's ``Stats``, and spans through OpenTelemetry.

Neither may fail a task, and neither comes between a relay's answer and its record. The outcome is part of a metric's
name, because plain StatsD has no tags. No tag has more values than a deployment has DAGs, tasks and models.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoContentBlockedError,
    VeoError,
    VeoGenerationFailedError,
    VeoNotSentError,
    VeoRateLimitError,
    VeoUnavailableError,
    words,
)
from airflow_provider_veo.protocol.models import OPEN_CATALOG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal

    from airflow_provider_veo.protocol import VideoTask

log = logging.getLogger(__name__)

ACCEPTED, REFUSED, UNAVAILABLE, UNKNOWN = OUTCOMES = ("accepted", "refused", "unavailable", "unknown")
"""
Outcomes of a create request.

``unavailable``: not accepted for now, and safe to send again; ``refused``: not accepted for another reason.
"""
SUCCEEDED, FAILED, BLOCKED, TIMED_OUT = ENDS = ("succeeded", "failed", "blocked", "timed_out")
"""How a wait for a video can end."""
SUBMISSIONS, VIDEOS = "veo.submissions", "veo.videos"
FOUND_UNKNOWN, COST, WAITED = "veo.found_unknown", "veo.cost", "veo.waited_seconds"
STORED_FILES, STORED_BYTES = "veo.stored_files", "veo.stored_bytes"
NAMES = (
    *(f"{SUBMISSIONS}.{outcome}" for outcome in OUTCOMES),
    *(f"{VIDEOS}.{end}" for end in ENDS),
    *(FOUND_UNKNOWN, COST, WAITED, STORED_FILES, STORED_BYTES),
)
"""All metrics. Each is a counter."""
SUBMIT, STORE = "veo.submit", "veo.store"
"""The spans."""
_OTHER_MODEL = "other"
_warned: set[str] = set()


@dataclass(frozen=True)
class TaskMetrics:
    """
    The metrics of a task instance.

    :param dag_id: a tag of each metric; none if it is empty.
    :param task_id: likewise.
    :param models: names of models that may be tags. All others are ``other``.
    """

    dag_id: str = ""
    task_id: str = ""
    models: frozenset[str] = frozenset(OPEN_CATALOG.keys())

    @classmethod
    def of(cls, task_instance: Any, catalog: Iterable[str] = OPEN_CATALOG) -> TaskMetrics:
        """
        Return the metrics of a task instance.

        :param task_instance: the one that runs.
        :param catalog: the known models.
        """
        return cls(task_instance.dag_id, task_instance.task_id, frozenset(iter(catalog)))

    def create(self, model: Any, price: Decimal | None) -> Create:
        """Return the metrics of a create request that is about to be sent."""
        return Create(self, self._model(model), price)

    def found_unknown(self, count: int) -> None:
        """Count submissions of earlier tries whose outcome is not on record."""
        self.add(FOUND_UNKNOWN, count)

    def ended(self, end: str, model: Any, since: float | None) -> None:
        """
        Count the end of a wait.

        :param end: one of the :data:`ENDS`.
        :param model: the video's, if it is known.
        :param since: when the wait began, in epoch seconds; ``None`` if that is unknown.
        """
        tags = {"model": self._model(model)}
        self.add(f"{VIDEOS}.{end}", 1, tags)
        if since is not None:
            self.add(WAITED, round(max(0.0, time.time() - since), 3), tags)

    def stored(self, size: int) -> None:
        """Count a file that was written."""
        self.add(STORED_FILES, 1)
        self.add(STORED_BYTES, size)

    def add(self, name: str, value: float, tags: dict[str, str] | None = None) -> None:
        """Add to a counter, whatever is wrong with the metrics system."""
        if not value:
            return
        own = {key: text for key, text in (("dag_id", self.dag_id), ("task_id", self.task_id)) if text}
        with _harmless("metrics"):
            from airflow.providers.common.compat.sdk import Stats

            Stats.incr(name, value, tags=own | (tags or {}))  # type: ignore[arg-type]  # all its backends add numbers

    def _model(self, name: Any) -> str:
        return name if isinstance(name, str) and name in self.models else _OTHER_MODEL


UNTAGGED = TaskMetrics()
"""For what does not belong to a task instance."""


class Create:
    """
    The metrics and the span of one create request.

    :param metrics: the task's.
    :param model: the tag.
    :param price: what is billed if it is accepted; ``None`` if unknown.
    """

    def __init__(self, metrics: TaskMetrics, model: str, price: Decimal | None) -> None:
        self._metrics = metrics
        self._tags = {"model": model}
        self._price = price
        self._span = _started(SUBMIT, self._tags)
        self._outcome: str | None = None
        self._error: BaseException | None = None
        self._ended_at: int | None = None

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Note the outcome of the block, which sends the request."""
        with _current(self._span):
            try:
                yield
                self._outcome = ACCEPTED
            except BaseException as error:
                self._outcome, self._error = _outcome_of(error), error
                raise
            finally:
                self._ended_at = time.time_ns()

    def report(self) -> None:
        """Count and trace the request. Called when its outcome is on record, so that nothing delays that."""
        with _harmless("traces"):
            self._span.set_attribute("veo.outcome", self._outcome or "interrupted")
        _end(self._span, self._error, self._ended_at)
        if self._outcome is None:  # not sent, or interrupted: then the next try finds it
            return
        self._metrics.add(f"{SUBMISSIONS}.{self._outcome}", 1, self._tags)
        if self._outcome == ACCEPTED and self._price:
            self._metrics.add(COST, float(self._price), self._tags)


def end_of(video: VideoTask) -> str:
    """Return how the generation of a video has ended."""
    if video.state != "failed":
        return SUCCEEDED
    return BLOCKED if words.is_blocked(video.error or "") else FAILED


def end_by(error: VeoError) -> str:
    """Return how a wait has ended with an error."""
    if isinstance(error, VeoContentBlockedError):
        return BLOCKED
    return FAILED if isinstance(error, VeoGenerationFailedError) else TIMED_OUT


@contextlib.contextmanager
def span(name: str) -> Iterator[None]:
    """
    Trace a block.

    :param name: of the span.
    """
    started, failure = _started(name, {}), None
    try:
        with _current(started):
            yield
    except BaseException as error:
        failure = error
        raise
    finally:
        _end(started, failure)


class _NoSpan:
    """What stands in for a span without OpenTelemetry."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: None


def _started(name: str, attributes: dict[str, str]) -> Any:
    """Start a span with the tracer that Airflow, or whoever traces this process, has set up."""
    with _harmless("traces"), contextlib.suppress(ImportError):
        from opentelemetry import trace

        named = {f"veo.{key}": value for key, value in attributes.items()}
        return trace.get_tracer("airflow_provider_veo").start_span(name, attributes=named)
    return _NoSpan()


@contextlib.contextmanager
def _current(started: Any) -> Iterator[None]:
    """Let a span be the parent of those that the block starts. It does not end with the block."""
    token = None
    if not isinstance(started, _NoSpan):
        with _harmless("traces"):
            from opentelemetry import context, trace

            token = context.attach(trace.set_span_in_context(started))
    try:
        yield
    finally:
        if token is not None:
            with _harmless("traces"):
                context.detach(token)


def _end(started: Any, error: BaseException | None, at: int | None = None) -> None:
    """End a span. An error marks it with its class only: its text may contain a prompt or a URL."""
    with _harmless("traces"):
        if error is not None and not isinstance(started, _NoSpan):
            from opentelemetry.trace import Status, StatusCode

            started.set_attribute("error.type", type(error).__name__)
            started.set_status(Status(StatusCode.ERROR))
        started.end(end_time=at)


def _outcome_of(error: BaseException) -> str | None:
    if isinstance(error, VeoNotSentError) or not isinstance(error, VeoError):
        return None
    if isinstance(error, VeoAmbiguousSubmitError):
        return UNKNOWN
    return UNAVAILABLE if isinstance(error, (VeoRateLimitError, VeoUnavailableError)) else REFUSED


@contextlib.contextmanager
def _harmless(what: str) -> Iterator[None]:
    """Swallow every error, and log the first one of this process."""
    try:
        yield
    except Exception as error:
        if what not in _warned:
            _warned.add(what)
            log.warning(
                "The %s of videos could not be sent: %s: %s. The task is not affected. This is logged once.",
                what,
                type(error).__name__,
                error,
            )
