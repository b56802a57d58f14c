"""The trigger that waits for a video without a worker.

It only asks. A triggerer starts its triggers anew at will, and two triggerers may run the same one for a while: a
request that costs money has no place here.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_veo.links import VideoLink
from airflow_provider_veo.protocol import VeoError, VeoValidationError
from airflow_provider_veo.protocol.coerce import is_nothing, mapping
from airflow_provider_veo.protocol.waiting import Wait, log_answer, log_no_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_veo.protocol import VideoTask


TICK_SECONDS = 0.25
"""Questions are sent at multiples of this, up to so much later than they are due."""
GRACE_SECONDS = 600.0
"""So much later than a wait's own deadline is the one that is set for Airflow, which ends a trigger without a word."""


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
        """Ask until there is something to tell, and tell it once."""
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
            "The wait was ended by a user. Video %s goes on being generated, and is billed: the API has no cancel.",
            self._watched,
        )

    async def _wait(self, veo_task_id: str) -> VideoTask:
        from airflow_provider_veo.hooks import VeoAsyncHook

        now = time.time()
        wait = Wait(veo_task_id, self._started(now), self.timeout, self.poll_interval, self.due)
        async with VeoAsyncHook(self.veo_conn_id) as hook:
            await _sleep(wait.seconds_to_first(now, random.random()))  # noqa: S311  it spreads, it hides nothing
            while True:
                before = wait.last
                try:
                    video = await hook.get_video(veo_task_id)
                except VeoError as error:
                    if wait.trouble is None:
                        log_no_answer(self.log, veo_task_id, error)
                    wait.got_no_answer(error, time.time())
                else:
                    log_answer(self.log, before, video)
                    if wait.answered(video):
                        return video
                await _sleep(wait.seconds_to_next(time.time(), random.random()))  # noqa: S311

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
        return the_id(given)

    async def _success(self, video: VideoTask) -> TriggerEvent:
        from airflow.triggers.base import TaskSuccessEvent

        ti = self._runtime_task_instance()
        # Pushed here, for XComs that are given to the event arrive as texts of JSON.
        for key, value in ("return_value", video.to_dict()), (VideoLink().xcom_key, video.video_url):
            await XCom.aset(
                key=key,
                value=value,
                dag_id=ti.dag_id,
                task_id=ti.task_id,
                run_id=ti.run_id,
                map_index=-1 if ti.map_index is None else ti.map_index,
            )
        return TaskSuccessEvent()

    def _runtime_task_instance(self) -> Any:
        if self.task_instance is None:
            raise VeoValidationError(
                "A trigger with xcom or end_task belongs to a task instance, and this one has none."
            )
        return self.task_instance


async def _sleep(seconds: float) -> None:
    """Sleep until the next tick after so many seconds: waits that are due together then wake the loop only once."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(math.ceil((now + seconds) / TICK_SECONDS) * TICK_SECONDS - now)


def the_id(given: Any) -> str:
    """
    Return the id in what an upstream task pushed: the id itself, or a ``veo_video`` dict.

    :raises VeoValidationError: there is none.
    """
    given = mapping(given)
    found = given.get("id") if isinstance(given, dict) else given
    if is_nothing(found) or not isinstance(found, (str, int)):
        raise VeoValidationError(
            "There is no video to wait for.",
            [f"veo_task_id: expected the id that create returned, or its veo_video, got {given!r:.200}"],
        )
    return str(found)
