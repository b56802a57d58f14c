"""The work on a batch: submit what was never sent, poll what was accepted, store what is ready.

It runs in one event loop of one worker process. Nothing is sent before the
:class:`~airflow_provider_veo.journal.writer.JournalWriter` has put the intent on record, and each answer goes to the
writer at once. :mod:`~airflow_provider_veo.batch.places` defines where a job may be, and where it may move.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_provider_veo.batch.capacity import Capacity
from airflow_provider_veo.batch.places import Places
from airflow_provider_veo.batch.preparation import Preparation
from airflow_provider_veo.batch.tasks import Tasks
from airflow_provider_veo.batch.threads import Aside, Threads
from airflow_provider_veo.journal.decision import Action, decide
from airflow_provider_veo.journal.submission import FAILED, REFUSED, UNSENT, Submission
from airflow_provider_veo.journal.writer import LATER, SOON
from airflow_provider_veo.metrics import end_by, end_of
from airflow_provider_veo.polling.poller import TICK_SECONDS, poll_until_ready, rate_limited
from airflow_provider_veo.protocol import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoError,
    VeoGenerationFailedError,
    VeoJournalError,
    VeoNotSentError,
    VeoQuotaError,
    VeoRateLimitError,
    VeoUnavailableError,
    VideoTask,
)
from airflow_provider_veo.protocol.errors import from_dict
from airflow_provider_veo.protocol.waiting import FIRST_LOOK_INTERVALS, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_veo.batch.backoff import RelayBackoff
    from airflow_provider_veo.batch.budget import Budget
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.batch.options import Options
    from airflow_provider_veo.hooks.batch import VeoBatchHook
    from airflow_provider_veo.hooks.uploads import Prepared
    from airflow_provider_veo.journal.writer import JournalWriter
    from airflow_provider_veo.log import Log
    from airflow_provider_veo.metrics import TaskMetrics
    from airflow_provider_veo.polling.rate_limiter import RateLimiter

RESUBMISSIONS = 2
"""Maximum number of times that one try resubmits a job that may have been accepted, with ``"resubmit"``."""
_DOWNLOADS_AT_ONCE, _SETTLE_SECONDS = 4, 60.0
_T = TypeVar("_T")


class Engine:
    """
    Works on the jobs of a batch.

    :param jobs: all jobs, in their order.
    :param records: the records by job key. Kept up to date.
    :param options: the options of the batch.
    :param hook: the hook to the relay.
    :param writer: writes the records.
    :param limiter: limits the rate of all requests.
    :param backoff: decides how many creates may be sent.
    :param budget: limits the cost.
    :param store: stores the file of a job, in a thread, and returns its metadata.
    :param reword: returns another prompt for a job whose video was blocked, in a thread, for one job at a time.
    :param metrics: the task's.
    :param log: the task's logger.
    :param images_failing_since: epoch seconds since when no image could be fetched, as seen by another process.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        records: dict[str, Submission],
        options: Options,
        *,
        hook: VeoBatchHook,
        writer: JournalWriter,
        limiter: RateLimiter,
        backoff: RelayBackoff,
        budget: Budget,
        store: Callable[[Job, Submission], Mapping[str, Any]],
        reword: Callable[[Job, Submission], str],
        metrics: TaskMetrics,
        log: Log,
        images_failing_since: float | None = None,
    ) -> None:
        self.records = records
        self.places = Places()
        self.stopped: VeoError | None = None
        """Why nothing more is submitted in this try."""
        self._jobs = {job.key: job for job in jobs}
        self._options = options
        self._hook = hook
        self._writer = writer
        self._limiter = limiter
        self._backoff = backoff
        self._poll = rate_limited(limiter, hook.get_video)
        self._budget = budget
        self._downloads = Threads(store, _DOWNLOADS_AT_ONCE, "veo-download")
        self._rewordings = Threads(reword, 1, "veo-reword")
        self._metrics = metrics
        self.counting = Aside("veo-metrics")
        """Counts what has happened: a metrics system that hangs must not keep answers from being recorded."""
        self._log = log
        self._tasks = Tasks()
        self._resubmissions: dict[str, int] = {}
        self.preparation = Preparation(
            self.places,
            hook,
            self._body,
            self._tasks.spawn,
            self._not_submitted,
            log,
            may_wait=not options.deferrable,
            failing_since=images_failing_since,
        )
        self._capacity = Capacity(options, backoff, limiter, self.places, self.preparation, self._tasks)

    def begin(self, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Decide the next action for each job.

        :param outcomes: what a trigger has seen, by id: ``{"video": {…}}`` or ``{"error": {…}}``.
        :raises VeoValidationError: another account is billed for videos in flight.
        """
        actions = {key: self._decide(job) for key, job in self._jobs.items()}
        others = [self.records[key] for key, action in actions.items() if action is Action.OTHER_ACCOUNT]
        self._budget.refuse_other_accounts(others)
        for job in self._jobs.values():
            self._begin_job(job, actions[job.key], outcomes)
        self.preparation.begin()
        self.stopped = self.stopped or _what_stopped(self.records.values())

    def stop(self, error: VeoError) -> None:
        """Submit nothing more; what is in flight continues."""
        self.stopped = self.stopped or error
        self.preparation.cancel()
        self._tasks.note_change()

    def kill(self, error: BaseException) -> None:
        """End the work: :meth:`run` raises the error."""
        self._tasks.kill(error)

    @property
    def killed(self) -> BaseException | None:
        """Why the work ends."""
        return self._tasks.killed

    async def run(self) -> None:
        """
        Work until there is nothing left to do here: without a trigger, until all jobs have ended.

        Jobs that are left to submit, unless something has stopped the work, wait for the relay or for their images.

        :raises VeoError: the work can't continue; what was sent is on record.
        """
        while True:
            if self.killed:
                raise self.killed
            if self.has_more and self._backoff.is_out_of_patience:
                self.stop(self._backoff.last_error)
            if room := self._capacity.room(has_more=self.has_more):
                await self._submit(room)
                continue
            seconds = self._capacity.seconds_to_room(has_more=self.has_more)
            if seconds is None and not self._capacity.has_work:
                await self.preparation.end()
                return
            await self._tasks.next_change(seconds)

    async def settle(self) -> None:
        """Wait for the answers to creates, and cancel everything else."""
        self.places.queue.clear()
        if self._capacity.creates:
            await asyncio.wait(self._capacity.creates, timeout=_SETTLE_SECONDS)
        await self._tasks.cancel()

    def close(self) -> None:
        """Start nothing more."""
        for threads in (self._downloads, self._rewordings):
            threads.close()

    @property
    def has_more(self) -> bool:
        """Whether there is more to submit in this try."""
        return bool(self.places.queue or self.places.preparing) and self.stopped is None

    def _decide(self, job: Job) -> Action:
        return decide(self.records.get(job.key), job.wanted(self._budget.account), self._options.policy)

    def _body(self, job: Job) -> Mapping[str, Any]:
        """Return the body to send: with the prompt on record, if the job was reworded."""
        record = self.records.get(job.key)
        return job.body if record is None else record.body_for(job.wanted(self._budget.account))

    def _begin_job(self, job: Job, action: Action, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
        record = self.records.get(job.key)
        if action is Action.ADOPT:
            record = self._keep(Submission.adopt(job.wanted(self._budget.account), record))
        if action is Action.SUBMIT:
            self.preparation.queue(job)
            self._resubmissions[job.key] = record.again if record else 0
        elif action in (Action.POLL, Action.ADOPT) and record is not None:
            self.places.flies(job)
            self._resume(job, record, outcomes.get(str(record.veo_task_id)))
        elif not self._begin_in_a_thread(job, action):
            self.places.settled(job)

    def _resume(self, job: Job, record: Submission, outcome: Mapping[str, Any] | None) -> None:
        """Take over what a trigger has seen, or poll here, or leave polling to the trigger."""
        if outcome and "video" in outcome:
            self._ended(job, VideoTask.from_dict(outcome["video"]))
        elif outcome and "error" in outcome:
            self._gave_up(job, from_dict(outcome["error"]))
        elif record.failure is None and not self._options.deferrable:
            self._tasks.spawn(self._wait(job))

    async def _submit(self, room: int) -> None:
        self._capacity.taken()
        count = await self._tasks.unless(self._is_over, self._limiter.turn(room)) or 0
        is_probe = self._backoff.is_open  # it may have opened a moment ago
        if (allowed := self._backoff.room(len(self._capacity.creates))) is not None:
            count = min(count, allowed)
        prepared = {job.key: each for job, each in await self.preparation.take(count) if self._commit(job)}
        intents = [self._intent(self._jobs[key]) for key in prepared]
        if not intents:
            return
        try:
            await self._writer.intend(intents)
        except VeoJournalError:
            for record in intents:  # possibly on record, but certainly not sent
                self._not_accepted(self._jobs[record.key], replace(record, state=UNSENT))
            raise
        for record in intents:
            self.records[record.key] = record
            work = self._create(self._jobs[record.key], record, prepared[record.key], is_probe)
            self._capacity.creates.add(task := self._tasks.spawn(work))
            task.add_done_callback(self._capacity.creates.discard)

    def _is_over(self) -> bool:
        """Whether nothing more may be sent in this try."""
        return bool(self.stopped or self.killed)

    def _commit(self, job: Job) -> bool:
        """Reserve the price of a job; if the budget is exhausted, settle the job."""
        try:
            self._budget.commit(job)
        except VeoError as error:
            self._not_submitted(job, error)
            return False
        return True

    def _not_submitted(self, job: Job, error: VeoError) -> None:
        self._log.warning("Job %s (%s) is not submitted. %s", job.key, job.source, error)
        # Its record stays: an earlier video may have failed, and been billed.
        unsent = replace(Submission.intend(job.wanted(self._budget.account), None), state=UNSENT)
        self._keep((self.records.get(job.key) or unsent).given_up(error, self._options.try_id))
        self.places.settled(job)

    def _intent(self, job: Job) -> Submission:
        self.places.flies(job)
        return Submission.intend(job.wanted(self._budget.account), self.records.get(job.key), self._budget.price(job))

    async def _create(self, job: Job, record: Submission, prepared: Prepared, is_probe: bool) -> None:
        sent_at, try_id = time.monotonic(), self._options.try_id
        create = self._metrics.create(job.body["model"], record.price)
        try:
            with create.sending():
                video = await self._hook.submit(prepared, partial(self._check_that_it_may_be_sent, is_probe))
        except VeoNotSentError:
            self._not_accepted(job, replace(record, state=UNSENT), again=True)
        except VeoAmbiguousSubmitError as error:
            self._backoff.fault(error)
            self._unknown(job, record, error)
        except (VeoRateLimitError, VeoUnavailableError) as error:
            if self._backoff.refused(error, sent_at):
                self._log.warning("The relay is refusing requests; slowing down. %s", error)
            self._not_accepted(job, replace(record, state=UNSENT), again=True)
        except (VeoQuotaError, VeoAuthenticationError) as error:
            self._log.error("Nothing more is submitted. %s", error)
            self.stop(error)
            self._not_accepted(job, record.not_accepted(UNSENT, error, try_id))
        except VeoError as error:
            self._log.error("Job %s (%s) is refused. %s", job.key, job.source, error)
            self._not_accepted(job, record.not_accepted(REFUSED, error, try_id))
        else:
            self._backoff.accepted(sent_at)
            self._accepted(job, record.accepted_video(video), video)
        finally:
            self.counting.do(create.report)

    def _check_that_it_may_be_sent(self, is_probe: bool) -> None:
        """Check between a free socket and the first byte: things may have changed while this create waited."""
        is_held = self._backoff.is_open and not is_probe
        if self._is_over() or is_held or not self._writer.may_send:
            raise VeoNotSentError("Nothing more is sent.")

    def _accepted(self, job: Job, record: Submission, video: VideoTask) -> None:
        self._keep(record)
        if video.state == "failed" or (video.state == "succeeded" and video.video_url):
            self._ended(job, video)
        elif not self._options.deferrable:
            self._tasks.spawn(self._wait(job))

    def _unknown(self, job: Job, record: Submission, error: VeoError) -> None:
        again = self._resubmissions.get(job.key, 0) + 1
        if self._options.on_ambiguous_submit == "fail" or again > RESUBMISSIONS:
            again = 0
        self._resubmissions[job.key] = again
        if again:
            self._log.warning("Job %s (%s) is submitted again, and may be billed twice. %s", job.key, job.source, error)
        else:
            self._log.error("Job %s (%s): %s", job.key, job.source, error)
        self._keep(record.given_up(error, self._options.try_id, again))
        self._leave(job, again=bool(again), first=False)

    async def _wait(self, job: Job) -> None:
        record, options = self.records[job.key], self._options
        due = record.submitted + FIRST_LOOK_INTERVALS * options.poll_interval
        wait = Wait(str(record.veo_task_id), record.submitted, options.timeout, options.poll_interval, due)
        tick = min(TICK_SECONDS, options.poll_interval / 10)
        try:
            self._ended(job, await poll_until_ready(wait, self._poll, tick=tick))
        except VeoGenerationFailedError:
            self._ended(job, cast("VideoTask", wait.last))
        except VeoError as error:
            self._gave_up(job, error)

    def _ended(self, job: Job, video: VideoTask) -> None:
        record = self._keep(self.records[job.key].ended(video), LATER)
        self.counting.do(self._metrics.ended, end_of(video), job.body["model"], record.submitted)
        if record.state == FAILED:
            times = f"{record.blocked} of at most {self._options.attempts_if_blocked + 1} submissions of this prompt"
            failed = f"was blocked ({times})" if record.is_blocked else "failed"
            self._log.warning("Job %s (%s): video %s %s: %s", job.key, job.source, video.id, failed, video.error)
        elif video.warning:
            self._log.warning("Job %s (%s): video %s: %s", job.key, job.source, video.id, video.warning)
        if not self._begin_in_a_thread(job, action := self._decide(job)):
            self._leave(job, again=action is Action.SUBMIT, first=False)

    def _gave_up(self, job: Job, error: VeoError) -> None:
        self._log.error("Job %s (%s): no longer polled. %s", job.key, job.source, error)
        record = self._keep(self.records[job.key].given_up(error, self._options.try_id), LATER)
        self.counting.do(self._metrics.ended, end_by(error), job.body["model"], record.submitted)
        self._leave(job)
        if isinstance(error, VeoAuthenticationError):
            self.stop(error)

    def _begin_in_a_thread(self, job: Job, action: Action) -> bool:
        """Begin to store a job's file, or to reword its prompt; return false if it needs neither."""
        if action is Action.STORE:
            self.places.stores(job)
            self._tasks.spawn(self._store(job))
        elif action is Action.REWORD:
            self.places.rewords(job)
            self._tasks.spawn(self._reword(job))
        else:
            return False
        self._tasks.note_change()
        return True

    async def _store(self, job: Job) -> None:
        await self._changed_in_a_thread(job, self._downloads, Submission.stored, LATER)
        self.places.settled(job)

    async def _reword(self, job: Job) -> None:
        record = await self._changed_in_a_thread(job, self._rewordings, Submission.with_prompt, SOON)
        self._leave(job, again=record.failure is None, first=False)

    async def _changed_in_a_thread(
        self, job: Job, threads: Threads[_T], change: Callable[[Submission, _T], Submission], within: float
    ) -> Submission:
        """Change a job's record by the result of a function, or give the job up in this try if that fails."""
        record = self.records[job.key]
        try:
            record = change(record, await threads.call(job, record))
        except VeoError as error:
            self._log.error("Job %s (%s): %s", job.key, job.source, error)
            record = record.given_up(error, self._options.try_id)
        return self._keep(record, within)

    def _not_accepted(self, job: Job, record: Submission, *, again: bool = False) -> None:
        self._budget.release(job)
        self._keep(record)
        self._leave(job, again=again)

    def _keep(self, record: Submission, within: float = SOON) -> Submission:
        self.records[record.key] = record
        self._writer.note(record, within)
        return record

    def _leave(self, job: Job, *, again: bool = False, first: bool = True) -> None:
        """Release a job's slot: it is settled, or submitted again."""
        if again:
            self.preparation.queue(job, first=first)
        else:
            self.places.settled(job)
        self._tasks.note_change()


def _what_stopped(records: Iterable[Submission]) -> VeoError | None:
    """Return the error that stopped submission in an earlier process of this try; the records hold only this try's."""
    errors = (record.error for record in records if record.failure)
    return next((error for error in errors if isinstance(error, (VeoQuotaError, VeoAuthenticationError))), None)
