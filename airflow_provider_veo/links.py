"""What a task leaves for those who look: the link to its video in Airflow's UI, and why there is none."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_veo.protocol import VeoGenerationFailedError, VeoTimeoutError
from airflow_provider_veo.protocol.text import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

log = logging.getLogger(__name__)


class VideoLink(BaseOperatorLink):
    """Opens the video where the relay holds it. Its URL expires: hours to days after it was made, by relay."""

    name = "Video"

    @property
    def xcom_key(self) -> str:
        """Airflow 3 shows what is in this XCom."""
        return "_link_VideoLink"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; an empty text while it isn't known."""
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    @classmethod
    def persist(cls, context: Context, video: dict[str, Any]) -> None:
        """
        Show the link from now on, if the video has a URL already.

        :param context: of the task.
        :param video: a ``veo_video`` dict.
        """
        if url := video.get("video_url"):
            context["ti"].xcom_push(key=cls().xcom_key, value=url)


@contextmanager
def failure_pushed(context: Context, submitted: Mapping[str, Any]) -> Iterator[None]:
    """
    Push the ``veo_video`` with the reason when this is left because there is no video.

    :param context: of the task.
    :param submitted: what is known of the video.
    """
    try:
        yield
    except (VeoGenerationFailedError, VeoTimeoutError) as error:
        state = "failed" if isinstance(error, VeoGenerationFailedError) else "running"
        video = {"id": error.veo_task_id, **submitted, "state": state, "error": first_line(error)}
        try:
            context["ti"].xcom_push(key="veo_video", value=video)
        except Exception:  # the reason itself must be heard
            log.warning("What became of video %s could not be pushed", error.veo_task_id, exc_info=True)
        raise
