"""The link to a task's video in Airflow's UI, and the XCom that says why there is no video."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_veo.metrics import TaskMetrics, end_by
from airflow_provider_veo.protocol import VeoGenerationFailedError, VeoTimeoutError
from airflow_provider_veo.protocol.text import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

log = logging.getLogger(__name__)


class VideoLink(BaseOperatorLink):
    """Opens the video at the relay. Its URL expires after hours to days, depending on the relay."""

    name = "Video"

    @property
    def xcom_key(self) -> str:
        """The XCom that Airflow 3 reads the link from."""
        return "_link_VideoLink"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL, or an empty string while it is unknown."""
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    @classmethod
    def persist(cls, context: Context, video: dict[str, Any]) -> None:
        """
        Store the link if the video has a URL.

        :param context: the task's context.
        :param video: a ``veo_video`` dict.
        """
        if url := video.get("video_url"):
            context["ti"].xcom_push(key=cls().xcom_key, value=url)


@contextmanager
def failure_pushed(context: Context, submitted: Mapping[str, Any], since: float | None) -> Iterator[None]:
    """
    Push the ``veo_video`` with the reason if the block fails because there is no video, and count that.

    :param context: the task's context.
    :param submitted: what is known of the video.
    :param since: when the wait began, in epoch seconds, if that is known.
    """
    try:
        yield
    except (VeoGenerationFailedError, VeoTimeoutError) as error:
        state = "failed" if isinstance(error, VeoGenerationFailedError) else "running"
        video = {"id": error.veo_task_id, **submitted, "state": state, "error": first_line(error)}
        try:
            context["ti"].xcom_push(key="veo_video", value=video)
        except Exception:  # the original error must be raised
            log.warning("The state of video %s could not be pushed", error.veo_task_id, exc_info=True)
        TaskMetrics.of(context["ti"]).ended(end_by(error), submitted.get("model"), since)
        raise
