"""The sensor that waits for a submitted video. It only polls, so retries cost nothing."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    XComArg,
    conf,
)

from airflow_provider_veo.compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_veo.links import VideoLink, failure_pushed
from airflow_provider_veo.metrics import SUCCEEDED, TaskMetrics
from airflow_provider_veo.operators.task import VeoTask
from airflow_provider_veo.protocol import VeoError, VeoGenerationFailedError, VeoNotFoundError, VeoTimeoutError
from airflow_provider_veo.protocol.errors import from_dict
from airflow_provider_veo.protocol.video import veo_task_id_of
from airflow_provider_veo.protocol.waiting import Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_veo.protocol import VideoTask

SECONDS_TO_MAKE_SURE = 15.0
"""Maximum seconds between two polls of one process in ``reschedule`` mode, if the first answer was not clear."""


class VeoVideoSensor(VeoTask, BaseSensorOperator):
    """
    Wait for a submitted video. XComs ``return_value`` and ``veo_video`` are a dict of the
    :class:`~airflow_provider_veo.protocol.VideoTask`.

    A failed generation fails the sensor at once, without retries, because the video stays failed. Transient errors of
    the relay are waited out in every mode.

    :param veo_task_id: the id that create returned, or its ``veo_video`` (templated, or an XComArg).
    :param veo_conn_id: id of a connection of type ``veo`` (templated). Default: ``veo_default``.
    :param deferrable: wait without a worker slot. Default: Airflow's ``[operators] default_deferrable``. If the video
        is already ready, the sensor ends without deferring.
    :param poll_interval: seconds between two polls: Airflow's ``poke_interval``. Default: 15. Deferred waits poll less
        often as they get older, see :class:`~airflow_provider_veo.triggers.VeoVideoTrigger`.
    :param timeout: seconds until the wait gives up. Default: 3600.
    :param start_from_trigger: start in the triggerer, without a worker process (Airflow 3.3, deferrable). Default:
        false. The id must be an XComArg of an unmapped task, or literal, and the sensor itself must not be mapped.
        Otherwise it starts in a worker as usual, and logs why. Listeners (such as OpenLineage) are not notified of the
        start of such a task instance.
    :param end_from_trigger: also end in the triggerer if the video is ready (Airflow 3.3, deferrable). Default: false.
        With both, a wait runs no worker process at all. Listeners are not notified of the end, outlets get no events,
        and Airflow rejects DAGs with such tasks if listeners are installed.
    """

    template_fields: Sequence[str] = ("veo_task_id", "veo_conn_id")
    operator_extra_links = (VideoLink(),)
    ui_color = "#e8eaf6"
    final_errors = (VeoGenerationFailedError,)

    def __init__(
        self,
        *,
        veo_task_id: str | dict[str, Any] | XComArg,
        veo_conn_id: str | XComArg = "veo_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 15,
        timeout: float | timedelta = 3600,
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **{"poke_interval": poll_interval, **kwargs})
        self.veo_task_id = veo_task_id
        self.veo_conn_id = veo_conn_id
        self.deferrable = deferrable
        self.poll_interval = self.poke_interval
        self.end_from_trigger = end_from_trigger and deferrable and AIRFLOW_V_3_3_PLUS
        self._why_not_from_trigger = self._obstacle() if start_from_trigger else None
        if start_from_trigger and not self._why_not_from_trigger:
            self.start_from_trigger = True
            self.start_trigger_args = self._start_trigger_args()
        self._wait: Wait | None = None

    def execute(self, context: Context) -> Any:
        """Poll until the video is ready; if deferrable, poll once and leave the rest to a trigger."""
        if self._why_not_from_trigger:
            self.log.info("start_from_trigger is not possible: %s. Started in a worker.", self._why_not_from_trigger)
        with self.talking_to_the_relay():
            video = super().execute(context)
            return self._ready(context, video, self._wait.started if self._wait else None)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once. If the video is not ready and the sensor is deferrable, defer."""
        try:
            if self._wait is None or self.reschedule:
                self._wait = self._begin(context)
            with failure_pushed(context, {}, self._wait.started):
                video = self._poll(self._wait)
        except VeoError as error:
            raise self.for_airflow(error) from error
        if video is None and self.deferrable:
            self._defer(self._wait)
        return PokeReturnValue(is_done=video is not None, xcom_value=video and video.to_dict())

    def _poll(self, wait: Wait) -> VideoTask | None:
        """
        Poll once; in a process of its own, until the answers decide whether the video is ready, or exists.

        :raises VeoError: the wait has ended.
        """
        while True:
            video = self.hook.poll(wait)
            if video is not None:
                return video
            seconds = wait.seconds_to_next(time.time())  # raises when the deadline has passed
            is_unclear = wait.is_undecided or isinstance(wait.last_error, VeoNotFoundError)
            if self.deferrable or not (self.reschedule and is_unclear):
                return None
            time.sleep(min(seconds, SECONDS_TO_MAKE_SURE))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Continue after the trigger: with the video, or with the error that ended the wait."""
        if "error" in event:
            error = from_dict(event["error"])
            with suppress(VeoError), failure_pushed(context, {}, event.get("started")):
                raise error
            raise self.for_airflow(error)
        return self._ready(context, event["video"], event.get("started"))

    def for_airflow(self, error: VeoError) -> Exception:
        """Return the exception for Airflow: ``soft_fail`` and similar arguments depend on its class."""
        if isinstance(error, VeoTimeoutError):
            return AirflowSensorTimeout(str(error))
        meant = super().for_airflow(error)
        return AirflowException(str(error)) if meant is error else meant

    def _ready(self, context: Context, video: dict[str, Any], since: float | None) -> dict[str, Any]:
        context["ti"].xcom_push(key="veo_video", value=video)
        VideoLink.persist(context, video)
        self.log.info("Video %s is ready: %s", video["id"], video["video_url"])
        TaskMetrics.of(context["ti"]).ended(SUCCEEDED, video.get("model"), since)
        return video

    def _defer(self, wait: Wait) -> None:
        from airflow_provider_veo.triggers import VeoVideoTrigger

        self.log.info(
            "Deferred: polling video %s from the triggerer, for at most %.0f s", wait.veo_task_id, self.timeout
        )
        self.defer(
            trigger=VeoVideoTrigger(
                veo_task_id=wait.veo_task_id,
                started=wait.started,
                due=time.time() + self.poke_interval,
                **self._trigger_kwargs(),
            ),
            method_name="execute_complete",
        )

    def _trigger_kwargs(self) -> dict[str, Any]:
        return {
            "veo_conn_id": self.veo_conn_id,
            "timeout": self.timeout,
            "poll_interval": self.poke_interval,
            "end_task": self.end_from_trigger and self.do_xcom_push,
        }

    def _begin(self, context: Context) -> Wait:
        wait = Wait(veo_task_id_of(self.veo_task_id), time.time(), self.timeout, self.poke_interval)
        first = getattr(context["ti"], "get_first_reschedule_date", None) if self.reschedule else None
        if first and (began := first(context)):
            # Each poke is a separate process, and Airflow only stores when the first one started.
            wait.started = began.timestamp()
        return wait

    def _obstacle(self) -> str | None:
        """Return why the triggerer can't start this task instance by itself; ``None`` if it can."""
        given = self.veo_task_id
        if not AIRFLOW_V_3_3_PLUS:
            return "it needs Airflow 3.3"
        if not self.deferrable:
            return "the sensor is not deferrable"
        if self.is_from_mapped:
            return "the sensor is mapped"
        if isinstance(self.veo_conn_id, XComArg) or "{{" in str(self.veo_conn_id):
            return "the triggerer can't render veo_conn_id"
        if isinstance(given, XComArg):
            is_plain = _reference(given) is not None
            return None if is_plain else "the id is not a plain XComArg of a single task instance"
        if "{{" in str(given):
            return "the triggerer can't render templates that pull XComs; give the id as an XComArg"
        return None

    def _start_trigger_args(self) -> Any:
        from airflow.triggers.base import StartTriggerArgs

        from airflow_provider_veo.triggers import GRACE_SECONDS, VeoVideoTrigger

        reference = _reference(self.veo_task_id)
        return StartTriggerArgs(
            trigger_cls=f"{VeoVideoTrigger.__module__}.{VeoVideoTrigger.__qualname__}",
            trigger_kwargs={
                **({"xcom": reference} if reference else {"veo_task_id": self.veo_task_id}),
                **self._trigger_kwargs(),
            },
            next_method="execute_complete",
            next_kwargs=None,
            timeout=timedelta(seconds=self.timeout + GRACE_SECONDS),
        )


def _reference(given: Any) -> dict[str, str] | None:
    """Return the location of an XComArg's XCom, if it belongs to a single task instance."""
    operator, key = getattr(given, "operator", None), getattr(given, "key", None)
    if operator is None or key is None or operator.is_mapped or list(operator.iter_mapped_task_groups()):
        return None
    return {"task_id": operator.task_id, "key": key}
