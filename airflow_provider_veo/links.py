"""The link to a task's video, in Airflow's UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey


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
