"""Triggers that wait for videos without a worker.

They only poll. A triggerer may restart its triggers at any time, and two triggerers may run the same one for a while,
so a trigger must never send a request that costs money.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_veo.batch.progress import SECONDS_BETWEEN, Progress
from airflow_provider_veo.journal.identity import identity_of
from airflow_provider_veo.links import VideoLink
from airflow_provider_veo.metrics import SUCCEEDED, TaskMetrics
from airflow_provider_veo.polling.poller import poll_until_ready, rate_limited
from airflow_provider_veo.polling.rate_limiter import RateLimiter
from airflow_provider_veo.protocol import VeoError, VeoGenerationFailedError, VeoValidationError
from airflow_provider_veo.protocol.video import veo_task_id_of
from airflow_provider_veo.protocol.waiting import FIRST_LOOK_INTERVALS, Wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_veo.polling.poller import Poll
    from airflow_provider_veo.protocol import VideoTask


GRACE_SECONDS = 600.0
"""How much later than a wait's own deadline Airflow's is set, because Airflow's ends a trigger without an event."""
_ENDED_HERE = "The wait ended here: a user ended the task, or another triggerer continues it."


def _event(payload: dict[str, Any]) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow does not annotate it


class VeoVideoTrigger(BaseTrigger):
    """
    Wait for a submitted video, and fire one event when it is ready or polling can't succeed.

    **When it polls.** Veo takes one to ten minutes per video. The first poll is at ``due``, when the video can be
    ready; the create operator sets it to four poll intervals after the submission (one minute by default). A random
    part of an interval is added, so that a thousand triggers that start together, after a batch or with a triggerer,
    don't poll together. Then it polls every ``poll_interval`` seconds, plus or minus 20 %, until the wait is five
    minutes old. From then on the interval grows with the age of the wait, to four times its length at twenty minutes:
    the delay stays proportional to the wait, and a video that hangs costs one request a minute. The relay's
    ``Retry-After`` is respected.

    **What it tolerates.** A relay that is down, slow or returns nonsense for up to 30 minutes at a time; a 404 for up
    to a minute; a few successes without a URL. A rotated key is picked up.

    **When it ends.** With the video, a failed generation, an answer that no further poll can change, or ``timeout``
    seconds after ``started``. Both are wall-clock times, because a trigger moves between processes. A deadline that
    passed while no triggerer was running still allows one poll, because the video may be ready.

    The event is ``{"video": {…}}`` or ``{"error": {…}}``, see :func:`airflow_provider_veo.protocol.errors.from_dict`,
    with ``started``, when the wait began.

    :param veo_task_id: the id that create returned, or a ``veo_video`` dict with it.
    :param veo_conn_id: id of a connection of type ``veo``. The key itself is never an argument.
    :param started: epoch seconds when the wait began. Default: when the task instance was deferred.
    :param timeout: maximum wait in seconds. Default: 3600.
    :param poll_interval: seconds between two polls. Default: 15.
    :param due: epoch seconds when the video can be ready at the earliest. Default: now.
    :param xcom: where to read ``veo_task_id`` from instead: ``{"task_id", "key"}`` of an upstream task in the same run.
    :param end_task: end the task instance here, without a worker, and push the video as its ``return_value``.
    """

    def __init__(
        self,
        veo_task_id: str | dict[str, Any] | None = None,
        veo_conn_id: str = "veo_default",
        started: float | None = None,
        timeout: float = 3600,
        poll_interval: float = 15,
        due: float = 0.0,
        xcom: dict[str, Any] | None = None,
        end_task: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow does not annotate it
        self.veo_task_id = veo_task_id
        self.veo_conn_id = veo_conn_id
        self.started = started
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.due = due
        self.xcom = xcom
        self.end_task = end_task
        self._watched: Any = veo_task_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what recreates this trigger in another process. It contains no secret."""
        names = ("veo_task_id", "veo_conn_id", "started", "timeout", "poll_interval", "due", "xcom", "end_task")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the wait ends, and fire one event."""
        started = self._started(time.time())
        try:
            self._watched = await self._id()
            video = await self._wait(self._watched, started)
        except VeoError as error:
            yield _event({"error": error.to_dict(), "started": started})
            return
        if self.end_task:
            yield await self._success(video, started)
        else:
            yield _event({"video": video.to_dict(), "started": started})

    async def on_kill(self) -> None:
        """Log what will be billed: the API cannot cancel a video."""
        self.log.warning(
            "%s Video %s is still being generated and will be billed. The API cannot cancel a video.",
            _ENDED_HERE,
            self._watched,
        )

    async def _wait(self, veo_task_id: str, started: float) -> VideoTask:
        from airflow_provider_veo.hooks import VeoAsyncHook

        wait = Wait(veo_task_id, started, self.timeout, self.poll_interval, self.due)
        async with VeoAsyncHook(self.veo_conn_id) as hook:
            return await poll_until_ready(wait, hook.get_video, self.log)

    def _started(self, now: float) -> float:
        if self.started is not None:
            return self.started
        # A trigger that was started without a worker derives its start from the deadline that Airflow set for it.
        ends: datetime | None = getattr(self, "timeout_after", None)
        if ends is None:
            return now
        ends = ends if ends.tzinfo else ends.replace(tzinfo=timezone.utc)
        return ends.timestamp() - self.timeout - GRACE_SECONDS

    async def _id(self) -> str:
        given = self.veo_task_id
        if self.xcom:
            ti = self._runtime_task_instance()
            given = await XCom.aget_one(
                key=self.xcom["key"],
                dag_id=ti.dag_id,
                task_id=self.xcom["task_id"],
                run_id=ti.run_id,
                # Without it, Airflow requests a mapped task's whole sequence, which a triggerer is not allowed to.
                map_index=-1,
            )
        return veo_task_id_of(given)

    async def _success(self, video: VideoTask, started: float) -> TriggerEvent:
        from airflow.triggers.base import TaskSuccessEvent

        ti = self._runtime_task_instance()
        # Pushed here, because XComs that are passed to the event arrive as JSON strings.
        found = video.to_dict()
        for key, value in {"return_value": found, "veo_video": found, VideoLink().xcom_key: video.video_url}.items():
            await XCom.aset(key=key, value=value, **identity_of(ti))
        # In a thread: the first metric of a process may look up a host.
        await asyncio.to_thread(TaskMetrics.of(ti).ended, SUCCEEDED, video.model, started)
        return TaskSuccessEvent()

    def _runtime_task_instance(self) -> Any:
        if self.task_instance is None:
            raise VeoValidationError("A trigger with xcom or end_task requires a task instance, but has none.")
        return self.task_instance


class VeoVideoBatchTrigger(BaseTrigger):
    """
    Wait for many submitted videos at once, and wake the worker when that is worth a process.

    It polls each video as :class:`VeoVideoTrigger` does. It fires one event: when all videos have ended; when
    ``enough`` of them have; ``linger`` seconds after the first one has; or at ``wake_at``. It is
    ``{"outcomes": {…}, …}``, with ``{"video": {…}}`` or ``{"error": {…}}`` for the id of each that has ended.

    :param videos: submission times in epoch seconds, by the id that create returned.
    :param veo_conn_id: id of a connection of type ``veo``. The key itself is never an argument.
    :param timeout: maximum wait for a video in seconds, counted from its submission. Default: 3600.
    :param poll_interval: seconds between two polls of a video. Default: 15.
    :param enough: number of ended videos that are worth waking the worker; 0 (default): all of them.
    :param linger: seconds to wait for more after the first video has ended; ``None`` (default): no limit.
    :param wake_at: epoch seconds at which the worker is woken in any case. Default: never.
    :param requests_per_minute: maximum number of polls per minute. Default: no limit.
    :param held_until: epoch seconds before which the relay accepts no requests. The event holds its latest value.
    :param refused_since: passed to the event.
    :param progress: progress of the batch, see :class:`~airflow_provider_veo.batch.progress.Progress`.
    :param told_at: epoch seconds when progress was last reported.
    :param handed_on: passed to the event unchanged.
    """

    def __init__(
        self,
        videos: dict[str, float],
        veo_conn_id: str = "veo_default",
        timeout: float = 3600,
        poll_interval: float = 15,
        enough: int = 0,
        linger: float | None = None,
        wake_at: float | None = None,
        requests_per_minute: float | None = None,
        held_until: float | None = None,
        refused_since: float | None = None,
        progress: dict[str, Any] | None = None,
        told_at: float = 0.0,
        handed_on: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow does not annotate it
        self.videos = videos
        self.veo_conn_id = veo_conn_id
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.enough = enough
        self.linger = linger
        self.wake_at = wake_at
        self.requests_per_minute = requests_per_minute
        self.held_until = held_until
        self.refused_since = refused_since
        self.progress = progress
        self.told_at = told_at
        self.handed_on = handed_on
        self._limiter = RateLimiter(requests_per_minute)
        self._limiter.hold(held_until)
        self._outcomes: dict[str, dict[str, Any]] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what recreates this trigger in another process. It contains no secret."""
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until enough videos have ended, and fire one event."""
        from airflow_provider_veo.hooks import VeoAsyncHook

        async with VeoAsyncHook(self.veo_conn_id) as hook:
            poll = rate_limited(self._limiter, hook.get_video)
            waits = {asyncio.ensure_future(self._watch(poll, *video)) for video in self.videos.items()}
            reporting = asyncio.ensure_future(self._report())
            try:
                await self._until_enough(waits)
            finally:
                tasks = (reporting, *waits)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        handed_on = {**(self.handed_on or {}), "refused_since": self.refused_since, "told_at": self.told_at}
        yield _event({"outcomes": self._outcomes, **handed_on, "held_until": self._limiter.held_until})

    async def on_kill(self) -> None:
        """Log what will be billed: the API cannot cancel a video."""
        self.log.warning(
            "%s %d videos are still being generated and will be billed. The API cannot cancel a video. They are on "
            "record: clear the task to continue with them.",
            _ENDED_HERE,
            len(self.videos) - len(self._outcomes),
        )

    async def _until_enough(self, waits: set[asyncio.Task[None]]) -> None:
        if not waits:
            await asyncio.sleep(max(0.0, (self.wake_at or 0.0) - time.time()))
        wake_at = self.wake_at or math.inf
        enough = self.enough or len(waits)
        while len(self._outcomes) < enough and waits and (seconds := wake_at - time.time()) > 0:
            timeout = None if seconds == math.inf else seconds
            done, waits = await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if self._outcomes and self.linger is not None:
                wake_at = min(wake_at, time.time() + self.linger)

    async def _watch(self, poll: Poll, veo_task_id: str, submitted: float) -> None:
        due = submitted + FIRST_LOOK_INTERVALS * self.poll_interval
        wait = Wait(veo_task_id, submitted, self.timeout, self.poll_interval, due)
        try:
            video = await poll_until_ready(wait, poll)
            if video.warning:
                self.log.warning("Video %s: %s", veo_task_id, video.warning)
            self._outcomes[veo_task_id] = {"video": video.to_dict()}
        except VeoGenerationFailedError:
            self._outcomes[veo_task_id] = {"video": cast("VideoTask", wait.last).to_dict()}
        except VeoError as error:
            self._outcomes[veo_task_id] = {"error": error.to_dict()}

    async def _report(self) -> None:
        if self.progress is None:
            return
        before = Progress(**self.progress)
        while True:
            await asyncio.sleep(max(0.0, self.told_at + SECONDS_BETWEEN - time.time()))
            self.told_at = time.time()
            succeeded = sum(outcome.get("video", {}).get("state") == "succeeded" for outcome in self._outcomes.values())
            progress = before.with_ended(succeeded, len(self._outcomes) - succeeded)
            self.log.info(progress.line(time.time()))
            # Shielded: up to Airflow 3.2, a cancelled request to the supervisor takes the answer of the next one.
            await asyncio.shield(self._publish(progress))

    async def _publish(self, progress: Progress) -> None:
        """Push the progress, if this Airflow version lets a trigger do so."""
        ti = self.task_instance
        if ti is None or not hasattr(XCom, "aset"):
            return
        try:
            await XCom.aset(key="progress", value=progress.to_dict(), **identity_of(ti))
        except Exception as error:  # must not end a batch of billed videos
            self.log.debug("The progress could not be pushed: %s", error)
