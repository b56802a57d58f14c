"""
The work on a batch: submit what was never sent, wait for what was accepted, store what is ready.

It is one event loop in one worker process. Nothing is sent before :class:`~airflow_provider_veo.batch.scribe.Scribe`
says that the intent is on record, and each answer goes to the scribe at once.

A job is in exactly one of four places:

=============  ==========================================  =====================================================
place          it gets there                               it leaves
=============  ==========================================  =====================================================
``queue``      not submitted yet; not accepted, for now;   when its intent is on record: *in flight*
               failed, and another attempt is allowed
``in_flight``  its intent is on record                     accepted and ended: *storing*, *settled* or *queue*;
                                                           not accepted: *settled* or *queue*; given up: *settled*
``storing``    its video is there, files are stored        stored or not: *settled*
settled        nothing is left to do in this try           never
=============  ==========================================  =====================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_veo.asking import TICK_SECONDS, at_pace, until_ready
from airflow_provider_veo.batch.entry import REFUSED, SUCCEEDED, UNSENT, Entry
from airflow_provider_veo.batch.plan import Step, next_step
from airflow_provider_veo.batch.scribe import LATER, SOON
from airflow_provider_veo.batch.slots import Slots
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
    VeoValidationError,
    VideoTask,
)
from airflow_provider_veo.protocol.waiting import FIRST_LOOK_INTERVALS, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from logging import Logger

    from airflow_provider_veo.batch.backoff import RelayBackoff
    from airflow_provider_veo.batch.budget import Budget
    from airflow_provider_veo.batch.jobs import Job
    from airflow_provider_veo.batch.options import Options
    from airflow_provider_veo.batch.scribe import Scribe
    from airflow_provider_veo.hooks.batch import VeoBatchHook
    from airflow_provider_veo.pace import Pace

DOWNLOADS = 4
"""So many files are stored at a time."""
RESUBMISSIONS = 2
"""So often one try submits a job again whose request may have been accepted, where it is asked to."""
_SETTLE_SECONDS = 60.0


class Engine:
    """
    Works on the jobs of a batch.

    :param jobs: all of them, in their order.
    :param entries: what is on record of them, by key. It is kept up to date.
    :param options: how to go about it.
    :param hook: to the relay.
    :param scribe: records what happens.
    :param pace: of the requests.
    :param backoff: decides how many creates may be sent.
    :param budget: what may be spent.
    :param store: stores the file of a job, in a thread, and returns what is known of it.
    :param log: the task's.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        entries: dict[str, Entry],
        options: Options,
        *,
        hook: VeoBatchHook,
        scribe: Scribe,
        pace: Pace,
        backoff: RelayBackoff,
        budget: Budget,
        store: Callable[[Job, Entry], Mapping[str, Any]],
        log: Logger,
    ) -> None:
        self.entries = entries
        self.in_flight: dict[str, Job] = {}
        """Jobs whose videos are generated, or are just being submitted, by key."""
        self.queue: deque[Job] = deque()
        """Jobs to submit."""
        self.storing: set[str] = set()
        """Keys of the jobs whose files are being stored."""
        self.stopped: VeoError | None = None
        """Why nothing more is submitted in this try."""
        self._jobs = {job.key: job for job in jobs}
        self._options = options
        self._hook = hook
        self._scribe = scribe
        self._pace = pace
        self._backoff = backoff
        self._slots = Slots(options, backoff)
        self._ask = at_pace(pace, hook.get_video)
        self._budget = budget
        self._store_file = store
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._creates: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.killed: BaseException | None = None
        """What has ended the work."""
        self._resubmissions: dict[str, int] = {}
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._threads = ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="veo-download")

    def begin(self, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Find out what is to be done for each job.

        :param outcomes: what a trigger has seen, by id: ``{"video": {…}}`` or ``{"error": {…}}``.
        """
        for job in self._jobs.values():
            entry = self.entries.get(job.key)
            step = next_step(job, entry, self._budget.account, self._options)
            if step is Step.ADOPT:
                entry = self._keep(Entry.adopt(job, self._budget.account, entry))
            if step is Step.SUBMIT:
                self.queue.append(job)
                self._resubmissions[job.key] = entry.again if entry else 0
            elif step in (Step.WAIT, Step.ADOPT) and entry is not None:
                self.in_flight[job.key] = job
                self._go_on(job, entry, outcomes.get(str(entry.veo_task_id)))
            elif step is Step.STORE:
                self._begin_to_store(job)
        self.stopped = self.stopped or _what_stopped(self.entries.values())

    def stop(self, error: VeoError) -> None:
        """Submit nothing more; what is under way goes on."""
        self.stopped = self.stopped or error
        self._changed.set()

    def kill(self, error: BaseException) -> None:
        """End the work: :meth:`run` raises this."""
        self.killed = self.killed or error
        self._changed.set()

    async def run(self) -> None:
        """
        Work until there is nothing to do here: without a trigger, until all has ended.

        Jobs that are left in the queue, unless something has stopped the work, wait for the relay.

        :raises VeoError: the work can't go on; what was sent is on record.
        """
        while True:
            if self.killed:
                raise self.killed
            if room := self._room():
                await self._submit(room)
                continue
            seconds = self._slots.seconds_to_room(self._queued, len(self.in_flight), len(self._creates))
            if not self._tasks and seconds is None:
                return
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)

    async def settle(self) -> None:
        """Wait for the answers to what was sent, and for nothing else."""
        self.queue.clear()
        if self._creates:
            await asyncio.wait(self._creates, timeout=_SETTLE_SECONDS)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def has_more(self) -> bool:
        """Whether there is more to submit in this try."""
        return bool(self.queue) and self.stopped is None

    def _go_on(self, job: Job, entry: Entry, outcome: Mapping[str, Any] | None) -> None:
        """Take in what a trigger has seen, or wait here, or leave it to the trigger."""
        from airflow_provider_veo.protocol.errors import from_dict

        if outcome and "video" in outcome:
            self._ended(job, VideoTask.from_dict(outcome["video"]))
        elif outcome and "error" in outcome:
            self._gave_up(job, from_dict(outcome["error"]))
        elif entry.trouble is None and not self._options.deferrable:
            self._spawn(self._wait(job))

    def _room(self) -> int:
        """Return how many creates may be sent now."""
        self._pace.has_creates = self.has_more
        if self.has_more and self._backoff.is_out_of_patience:
            self.stop(self._backoff.last_error)
        return self._slots.room(self._queued, len(self.in_flight), len(self._creates))

    @property
    def _queued(self) -> int:
        return len(self.queue) if self.stopped is None else 0

    async def _submit(self, room: int) -> None:
        self._slots.taken()
        count = await self._turn(room)
        is_probe = self._backoff.is_open  # perhaps only since a moment ago
        if (allowed := self._backoff.room(len(self._creates))) is not None:
            count = min(count, allowed)
        chosen = [self.queue.popleft() for _ in range(min(count, len(self.queue)))]
        intents = [intent for job in chosen if (intent := self._intent(job))]
        if not intents:
            return
        try:
            await self._scribe.intend(intents)
        except VeoJournalError:
            for entry in intents:  # they may be on record, and are certainly not sent
                self._not_accepted(self._jobs[entry.key], replace(entry, state=UNSENT))
            raise
        for entry in intents:
            self.entries[entry.key] = entry
            self._creates.add(task := self._spawn(self._create(self._jobs[entry.key], entry, is_probe)))
            task.add_done_callback(self._creates.discard)

    async def _turn(self, most: int) -> int:
        """Wait until the pace allows to submit some. 0: meanwhile it turned out that nothing more is submitted."""
        turn = asyncio.ensure_future(self._pace.turn(most))
        while not (turn.done() or self.stopped or self.killed):
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({turn, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        if self.stopped or self.killed:
            turn.cancel()
            return 0
        return turn.result()

    def _intent(self, job: Job) -> Entry | None:
        before = self.entries.get(job.key)
        try:
            self._budget.commit(job)
        except VeoError as error:
            self._log.warning("Job %s (%s) is not submitted. %s", job.key, job.source, error)
            # What is on record of it stays: an earlier video may have failed, and been paid for.
            entry = before or replace(Entry.intend(job, self._budget.account, None), state=UNSENT)
            self._keep(entry.troubled(error, self._options.try_id))
            return None
        self.in_flight[job.key] = job
        return Entry.intend(job, self._budget.account, before, self._budget.price(job))

    async def _create(self, job: Job, entry: Entry, is_probe: bool) -> None:
        sent_at = time.monotonic()
        try_id = self._options.try_id
        try:
            video = await self._hook.create_video(job.body, partial(self._make_sure_that_it_may_be_sent, is_probe))
        except VeoNotSentError:
            self._not_accepted(job, replace(entry, state=UNSENT))
            self.queue.appendleft(job)
        except VeoAmbiguousSubmitError as error:
            self._backoff.fault(error)
            self._unknown(job, entry, error)
        except (VeoRateLimitError, VeoUnavailableError) as error:
            if self._backoff.refused(error, sent_at):
                self._log.warning("The relay takes nothing for now, and is asked more slowly. %s", error)
            self._not_accepted(job, replace(entry, state=UNSENT))
            self.queue.appendleft(job)
        except (VeoQuotaError, VeoAuthenticationError) as error:
            self._log.error("Nothing more is submitted. %s", error)
            self.stop(error)
            self._not_accepted(job, entry.not_accepted(UNSENT, error, try_id))
        except VeoError as error:
            self._log.error("Job %s (%s) is refused. %s", job.key, job.source, error)
            state = UNSENT if isinstance(error, VeoValidationError) else REFUSED  # the former is not the relay's word
            self._not_accepted(job, entry.not_accepted(state, error, try_id))
        else:
            self._backoff.accepted(sent_at)
            self._accepted(job, entry.accepted(video), video)

    def _make_sure_that_it_may_be_sent(self, is_probe: bool) -> None:
        """Between a free socket and the first byte: what has happened while this create waited for one."""
        is_held = self._backoff.is_open and not is_probe
        if self.stopped or self.killed or is_held or not self._scribe.may_send:
            raise VeoNotSentError("Nothing more is sent.")

    def _accepted(self, job: Job, entry: Entry, video: VideoTask) -> None:
        self._keep(entry)
        if video.state == "failed" or (video.state == "succeeded" and video.video_url):
            self._ended(job, video)
        elif not self._options.deferrable:
            self._spawn(self._wait(job))

    def _unknown(self, job: Job, entry: Entry, error: VeoError) -> None:
        again = self._resubmissions.get(job.key, 0) + 1
        if self._options.on_ambiguous_submit == "fail" or again > RESUBMISSIONS:
            again = 0
        self._leave(job, entry.troubled(error, self._options.try_id, again))
        if again:
            self._resubmissions[job.key] = again
            self._log.warning(
                "Job %s (%s) is submitted again, and may be paid for twice. %s", job.key, job.source, error
            )
            self.queue.append(job)
        else:
            self._log.error("Job %s (%s): %s", job.key, job.source, error)

    async def _wait(self, job: Job) -> None:
        entry, options = self.entries[job.key], self._options
        due = entry.submitted + FIRST_LOOK_INTERVALS * options.poll_interval
        wait = Wait(str(entry.veo_task_id), entry.submitted, options.timeout, options.poll_interval, due)
        tick = min(TICK_SECONDS, options.poll_interval / 10)
        try:
            self._ended(job, await until_ready(wait, self._ask, tick=tick))
        except VeoGenerationFailedError:
            self._ended(job, cast("VideoTask", wait.last))
        except VeoError as error:
            self._gave_up(job, error)

    def _ended(self, job: Job, video: VideoTask) -> None:
        entry = self.entries[job.key].ended(video)
        self._leave(job, entry, LATER)
        if entry.state == SUCCEEDED:
            if self._options.download:
                self._begin_to_store(job)
            return
        self._log.warning("Job %s (%s), video %s: generation failed: %s", job.key, job.source, video.id, video.error)
        if entry.attempt < self._options.attempts_per_video:
            self.queue.append(job)

    def _gave_up(self, job: Job, error: VeoError) -> None:
        self._log.error("Job %s (%s): the wait has ended. %s", job.key, job.source, error)
        self._leave(job, self.entries[job.key].troubled(error, self._options.try_id), LATER)
        if isinstance(error, VeoAuthenticationError):
            self.stop(error)

    def _begin_to_store(self, job: Job) -> None:
        self.storing.add(job.key)
        task = self._spawn(self._store(job))
        task.add_done_callback(lambda _: self.storing.discard(job.key))

    async def _store(self, job: Job) -> None:
        async with self._downloads:
            entry = self.entries[job.key]
            try:
                running = asyncio.get_running_loop().run_in_executor(self._threads, self._store_file, job, entry)
                file = await running
            except VeoError as error:
                self._log.error("Job %s (%s): %s", job.key, job.source, error)
                self._keep(entry.troubled(error, self._options.try_id), LATER)
            else:
                self._keep(entry.stored(file), LATER)

    def _not_accepted(self, job: Job, entry: Entry) -> None:
        self._budget.release(job)
        self._leave(job, entry)

    def _keep(self, entry: Entry, within: float = SOON) -> Entry:
        self.entries[entry.key] = entry
        self._scribe.note(entry, within)
        return entry

    def _leave(self, job: Job, entry: Entry, within: float = SOON) -> None:
        """Record something, and give the job's slot back."""
        self._keep(entry, within)
        self.in_flight.pop(job.key, None)
        self._changed.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.kill(error)
        self._changed.set()


def _what_stopped(entries: Iterable[Entry]) -> VeoError | None:
    """Return what has made an earlier process of this try submit nothing more; the records are of this try only."""
    errors = (entry.error for entry in entries if entry.trouble)
    return next((error for error in errors if isinstance(error, (VeoQuotaError, VeoAuthenticationError))), None)
