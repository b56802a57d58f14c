"""The triggers that wait for videos without a worker.

They only ask. A triggerer starts its triggers anew at will, and two triggerers may run the same one for a while: a
request that costs money has no place here.
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
"""So much later than a wait's own deadline is the one that is set for Airflow, which ends a trigger without a word."""
_ENDED_HERE = "The wait has ended here: a user ended the task, or another triggerer goes on with it."


class VeoVideoTrigger(BaseTrigger):
    """
    Wait for a submitted video, and fire one event when it is there or when waiting is no use any more.

    **When it asks.** Veo takes one to ten minutes a video. The first question is due when the video can be ready,
    ``due``, which the create operator sets to four poll intervals after the submission: a minute, by default. A random
    part of an interval comes on top, so that a thousand triggers that start together, after a batch or with a
    triggerer, don't ask together. Then it asks every ``poll_interval`` seconds, 20 % more or less, until the wait is
    five minutes old. From then on the interval grows with the age of the wait, to four times itself at twenty minutes:
    the answer stays as fresh in proportion to the wait, and a video that hangs costs a request a minute. A
    ``Retry-After`` of the relay's is waited for.

    **What it tolerates.** A relay that is down, slow or confused for up to 30 minutes at a stretch; a 404 for
    up to a minute; a success without a URL, a few times. A key that was rotated is picked up.

    **When it ends.** With the video, a failed generation, an answer that no further question can change, or ``timeout``
    seconds after ``started``. Both are wall-clock times: a trigger moves between processes. A deadline that passed
    while no triggerer was running still allows one question, for the video may be there.

    The event is ``{"video": {…}}`` or ``{"error": {…}}``, see :func:`airflow_provider_veo.protocol.errors.from_dict`.

    :param veo_task_id: the id that create returned, or a ``veo_video`` dict with it.
    :param veo_conn_id: id of a connection of type ``veo``. The key itself is never an argument.
    :param started: epoch seconds when the wait began. Default: when the task instance was deferred.
    :param timeout: seconds.
    :param poll_interval: seconds.
    :param due: epoch seconds when the video can be ready.
    :param xcom: where to find ``veo_task_id`` instead: ``{"task_id", "key"}`` of an upstream task in the same run.
    :param end_task: end the task instance here, without a worker: the video is pushed as its ``return_value``.
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
        super().__init__()
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
        """Return what makes this trigger anew in another process. There is no secret in it."""
        names = ("veo_task_id", "veo_conn_id", "started", "timeout", "poll_interval", "due", "xcom", "end_task")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until there is something to tell, and tell it once."""
        try:
            self._watched = await self._id()
            video = await self._wait(self._watched)
        except VeoError as error:
            yield TriggerEvent({"error": error.to_dict()})
            return
        if self.end_task:
            yield await self._success(video)
        else:
            yield TriggerEvent({"video": video.to_dict()})

    async def on_kill(self) -> None:
        """Say what goes on being billed: the API has no way to cancel a video."""
        self.log.warning(
            "%s Video %s goes on being generated, and is billed: the API has no cancel.", _ENDED_HERE, self._watched
        )

    async def _wait(self, veo_task_id: str) -> VideoTask:
        from airflow_provider_veo.hooks import VeoAsyncHook

        wait = Wait(veo_task_id, self._started(time.time()), self.timeout, self.poll_interval, self.due)
        async with VeoAsyncHook(self.veo_conn_id) as hook:
            return await poll_until_ready(wait, hook.get_video, self.log)

    def _started(self, now: float) -> float:
        if self.started is not None:
            return self.started
        # A trigger that was started without a worker learns of its beginning by the end that Airflow set for it.
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
                # Without it the whole sequence of a mapped task is asked for, which a triggerer may not.
                map_index=-1,
            )
        return veo_task_id_of(given)

    async def _success(self, video: VideoTask) -> TriggerEvent:
        from airflow.triggers.base import TaskSuccessEvent

        ti = self._runtime_task_instance()
        # Pushed here, for XComs that are given to the event arrive as texts of JSON.
        found = video.to_dict()
        for key, value in {"return_value": found, "veo_video": found, VideoLink().xcom_key: video.video_url}.items():
            await XCom.aset(key=key, value=value, **identity_of(ti))
        return TaskSuccessEvent()

    def _runtime_task_instance(self) -> Any:
        if self.task_instance is None:
            raise VeoValidationError(
                "A trigger with xcom or end_task belongs to a task instance, and this one has none."
            )
        return self.task_instance


class VeoVideoBatchTrigger(BaseTrigger):
    """
    Wait for many submitted videos at once, and wake the worker when that is worth a process.

    It asks for each as :class:`VeoVideoTrigger` does. One event is fired: when all have ended; when ``enough`` of them
    have; ``linger`` seconds after the first one that has; or at ``wake_at``. It is ``{"outcomes": {…}, …}``,
    with ``{"video": {…}}`` or ``{"error": {…}}`` for the id of each that has ended.

    :param videos: when each was submitted, in epoch seconds, by the id that create returned.
    :param veo_conn_id: id of a connection of type ``veo``. The key itself is never an argument.
    :param timeout: seconds for a video, from its submission.
    :param poll_interval: seconds between two questions for a video.
    :param enough: so many are worth waking the worker; 0: all of them.
    :param linger: seconds; ``None``: as long as it takes.
    :param wake_at: epoch seconds at which the worker is woken in any case.
    :param requests_per_minute: the most questions a minute.
    :param held_until: epoch seconds before which the relay wants to hear nothing; what it says later is in the event.
    :param refused_since: handed on to the event.
    :param progress: how far the batch is, see :class:`~airflow_provider_veo.batch.progress.Progress`.
    :param told_at: epoch seconds when that was told last.
    :param handed_on: goes into the event as it is.
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
        super().__init__()
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
        """Return what makes this trigger anew in another process. There is no secret in it."""
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until there is enough to tell, and tell it once."""
        from airflow_provider_veo.hooks import VeoAsyncHook

        async with VeoAsyncHook(self.veo_conn_id) as hook:
            poll = rate_limited(self._limiter, hook.get_video)
            waits = {asyncio.ensure_future(self._watch(poll, *video)) for video in self.videos.items()}
            telling = asyncio.ensure_future(self._tell())
            try:
                await self._until_enough(waits)
            finally:
                tasks = (telling, *waits)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        handed_on = {**(self.handed_on or {}), "refused_since": self.refused_since, "told_at": self.told_at}
        yield TriggerEvent({"outcomes": self._outcomes, **handed_on, "held_until": self._limiter.held_until})

    async def on_kill(self) -> None:
        """Say what goes on being billed: the API has no way to cancel a video."""
        self.log.warning(
            "%s %d videos go on being generated, and are billed: the API has no cancel. They are on record: the task "
            "goes on with them when it is cleared.",
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
            self._outcomes[veo_task_id] = {"video": (await poll_until_ready(wait, poll)).to_dict()}
        except VeoGenerationFailedError:
            self._outcomes[veo_task_id] = {"video": cast("VideoTask", wait.last).to_dict()}
        except VeoError as error:
            self._outcomes[veo_task_id] = {"error": error.to_dict()}

    async def _tell(self) -> None:
        if self.progress is None:
            return
        before = Progress(**self.progress)
        while True:
            await asyncio.sleep(max(0.0, self.told_at + SECONDS_BETWEEN - time.time()))
            self.told_at = time.time()
            succeeded = sum(outcome.get("video", {}).get("state") == "succeeded" for outcome in self._outcomes.values())
            progress = before.with_ended(succeeded, len(self._outcomes) - succeeded)
            self.log.info(progress.line(time.time()))
            # Shielded: up to Airflow 3.2 a request to the supervisor that is cancelled takes the next one's answer.
            await asyncio.shield(self._publish(progress))

    async def _publish(self, progress: Progress) -> None:
        """Push how far it is, where a trigger can."""
        ti = self.task_instance
        if ti is None or not hasattr(XCom, "aset"):
            return
        try:
            await XCom.aset(key="progress", value=progress.to_dict(), **identity_of(ti))
        except Exception as error:  # nothing that a night of paid videos may end for
            self.log.debug("The progress could not be pushed: %s", error)
