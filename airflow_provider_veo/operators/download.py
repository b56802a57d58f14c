"""Store a video that is ready as a verified file, which appears under its name only when it is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_veo import storage
from airflow_provider_veo.links import VideoLink
from airflow_provider_veo.operators.arguments import choice_mistakes, number_mistakes
from airflow_provider_veo.operators.lineage import FileLineage
from airflow_provider_veo.operators.storing import OVERWRITES, Download, announce
from airflow_provider_veo.operators.task import VeoTask
from airflow_provider_veo.protocol import VeoGenerationFailedError, VeoValidationError, coerce
from airflow_provider_veo.protocol.video import veo_task_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, XComArg

_SOURCES = ("veo_task_id", "video_url", "veo_video")


class VeoDownloadVideoOperator(VeoTask, FileLineage, BaseOperator):
    """
    Store the file of a video in local or object storage.

    The download is streamed with bounded memory, resumed if it breaks, and verified: its length, its checksum, and that
    it is an MP4, MOV or WebM by its own bytes. The file appears under its name only when it is complete.

    XCom ``return_value``: ``{"uri", "bytes", "sha256", "content_type", "width", "height", "duration_seconds",
    "veo_task_id", "verified", "poster"}``; the picture's size and duration only if the file gives them, ``veo_task_id``
    only if it is known, ``poster`` (the URI of a JPEG beside the file) only if PyAV is installed. The same facts are in
    XCom ``veo_file`` and in the ``extra`` of the events of the task's ``outlets``; an ``AssetAlias`` among them gets
    the file's own asset. XCom ``veo_path`` is the path for ``ObjectStoragePath``.

    Give one of ``veo_task_id``, ``video_url`` and ``veo_video``.

    :param destination: a URI for ``ObjectStoragePath`` (templated), e.g. ``s3://aws_default@bucket/film.mp4``. If it
        ends in ``/``, it is a folder, and the file becomes ``{dag_id}/{date of the run}/{id}.mp4`` below it.
    :param veo_task_id: the id that create returned (templated). A fresh URL is requested from the relay, so an expired
        one doesn't matter.
    :param video_url: URL of the video (templated).
    :param veo_video: a ``veo_video`` dict of a create task, or what a sensor returned (templated). Its URL is used; if
        it has expired, a new one is requested.
    :param destination_conn_id: Airflow connection of the storage (templated), if the URI names none.
    :param veo_conn_id: id of a connection of type ``veo`` (templated).
    :param overwrite: ``"never"``: an existing file of the same video is verified and reused, and a different file is an
        error; or ``"always"``.
    :param max_bytes: maximum size of the file.
    :param timeout: seconds in total.
    """

    template_fields: Sequence[str] = (*_SOURCES, "destination", "destination_conn_id", "veo_conn_id")
    template_fields_renderers = {"veo_video": "json"}  # noqa: RUF012  as Airflow declares it
    operator_extra_links = (VideoLink(),)
    ui_color = "#e8eaf6"
    final_errors = (VeoGenerationFailedError,)

    def __init__(
        self,
        *,
        destination: str | XComArg,
        veo_task_id: str | dict[str, Any] | XComArg | None = None,
        video_url: str | XComArg | None = None,
        veo_video: dict[str, Any] | str | XComArg | None = None,
        destination_conn_id: str | XComArg | None = None,
        veo_conn_id: str | XComArg = "veo_default",
        overwrite: Literal["never", "always"] = "never",
        max_bytes: int = storage.DEFAULT_MAX_BYTES,
        timeout: float = storage.DEFAULT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.veo_task_id = veo_task_id
        self.video_url = video_url
        self.veo_video = veo_video
        self.destination_conn_id = destination_conn_id
        self.veo_conn_id = veo_conn_id
        self.overwrite = overwrite
        self.max_bytes = max_bytes
        self.timeout = timeout
        if not self.is_from_mapped:
            self._fail_on_mistakes()

    def execute(self, context: Context) -> dict[str, Any]:
        """Store the video and return the facts of its file."""
        with self.talking_to_the_relay():
            self._fail_on_mistakes()
            stored = self._store(context)
        self.report_lineage(self._requested_images(), stored)
        announce(context, self.outlets, stored)
        return stored

    def _store(self, context: Context) -> dict[str, Any]:
        download = Download(
            self.hook,
            str(self.destination),
            self.log,
            None if coerce.is_nothing(self.destination_conn_id) else str(self.destination_conn_id),
            self.overwrite,
            self.max_bytes,
            self.timeout,
        )
        veo_task_id, url = self._source()
        url = url or download.url_of(veo_task_id or "")
        VideoLink.persist(context, {"video_url": url})
        return download.run_and_push(context, url, veo_task_id)

    def _requested_images(self) -> list[str]:
        video = coerce.mapping(self.veo_video)
        return list(video.get("images") or ()) if isinstance(video, dict) else []

    def _source(self) -> tuple[str | None, str | None]:
        """Return the id of the video and its URL, if given."""
        if not coerce.is_nothing(self.veo_task_id):
            return veo_task_id_of(self.veo_task_id), None
        if not coerce.is_nothing(self.video_url):
            return None, str(self.video_url)
        video = coerce.mapping(self.veo_video)
        if not isinstance(video, dict):
            raise VeoValidationError(
                "There is no video to store.", [f"veo_video: expected a veo_video dict, got {video!r:.200}"]
            )
        return veo_task_id_of(video), video.get("video_url")

    def _fail_on_mistakes(self) -> None:
        mistakes = []
        given = [name for name in _SOURCES if not coerce.is_nothing(getattr(self, name))]
        if len(given) != 1:
            mistakes.append(f"expected one of {', '.join(_SOURCES)}, got {' and '.join(given) or 'none of them'}")
        if coerce.is_nothing(self.destination):
            mistakes.append("destination: expected the URI of a file, or of a folder that ends in /")
        mistakes += file_mistakes(self.overwrite, self.max_bytes, self.timeout)
        self.refuse(mistakes)


def file_mistakes(overwrite: Any, max_bytes: Any, timeout: Any) -> list[str]:
    """Return the mistakes in the arguments of a download."""
    return [
        *choice_mistakes("overwrite", overwrite, OVERWRITES),
        *number_mistakes("max_bytes", max_bytes),
        *number_mistakes("timeout", timeout),
    ]
