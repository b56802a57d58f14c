"""Store a video that is ready in the user's storage, and announce the file on asset events."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_veo import metrics, storage
from airflow_provider_veo.protocol import VeoDownloadError
from airflow_provider_veo.protocol.waiting import raise_if_failed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_veo.hooks import VeoHook
    from airflow_provider_veo.log import Log
    from airflow_provider_veo.storage import StoredVideo

OVERWRITES = ("never", "always")
_DIGEST_CHARACTERS = 12


@dataclass(frozen=True)
class Download:
    """
    How a task stores its video.

    :param hook: to the relay.
    :param destination: URI of the file, or of a folder if it ends in ``/``.
    :param log: the task's.
    :param conn_id: Airflow connection of the storage.
    :param overwrite: ``"never"`` or ``"always"``.
    :param max_bytes: maximum size of the file.
    :param timeout: seconds in total.
    """

    hook: VeoHook
    destination: str
    log: Log
    conn_id: str | None = None
    overwrite: Literal["never", "always"] = "never"
    max_bytes: int = storage.DEFAULT_MAX_BYTES
    timeout: float = storage.DEFAULT_TIMEOUT

    def run(self, context: Context, url: str, veo_task_id: str | None = None) -> StoredVideo:
        """
        Store a video.

        :param context: of the task.
        :param url: of the video. If it has expired and the id is known, a new one is requested.
        :param veo_task_id: the relay's id.
        :raises VeoError: the file could not be stored.
        """
        with metrics.span(metrics.STORE):
            stored = storage.store_video(
                url,
                self._path(context, url, veo_task_id),
                settings=self.hook.settings,
                log=self.log,
                veo_task_id=veo_task_id,
                fresh_url=(lambda: self.url_of(veo_task_id)) if veo_task_id else None,
                overwrite=self.overwrite,
                max_bytes=self.max_bytes,
                timeout=self.timeout,
            )
        if not stored.reused:
            metrics.TaskMetrics.of(context["ti"]).stored(stored.bytes)
        return stored

    def run_and_push(self, context: Context, url: str, veo_task_id: str | None = None) -> dict[str, Any]:
        """
        Store a video, push the facts of its file as ``veo_file``, and return them.

        ``veo_path`` is the path for ``ObjectStoragePath``: the URI with the id of the connection.
        """
        stored = self.run(context, url, veo_task_id).to_dict()
        context["ti"].xcom_push(key="veo_file", value=stored)
        context["ti"].xcom_push(key="veo_path", value=str(self._path(context, url, veo_task_id)))
        return stored

    def url_of(self, veo_task_id: str) -> str:
        """
        Request the current URL of a video from the relay.

        :raises VeoGenerationFailedError: the generation failed.
        :raises VeoDownloadError: the video is not ready.
        """
        video = self.hook.get_video(veo_task_id)
        raise_if_failed(video)
        if not video.video_url or (video.state == "running" and not video.may_be_ready):
            raise VeoDownloadError(
                f"Tried to store video {veo_task_id}, which is not ready: the relay's status is "
                f"{video.status!r}.\nWait for it first, with a VeoVideoSensor upstream.",
                veo_task_id=veo_task_id,
            )
        return video.video_url

    def _path(self, context: Context, url: str, veo_task_id: str | None) -> ObjectStoragePath:
        return storage.destination_for(
            self.destination,
            conn_id=self.conn_id,
            veo_task_id=veo_task_id or _name_of(url),
            dag_id=context["ti"].dag_id,
            run_date=run_date(context),
        )


def run_date(context: Context) -> datetime:
    """Return the logical date of a DAG run; if it has none, its ``run_after``."""
    return context.get("logical_date") or context["dag_run"].run_after


def announce(context: Context, outlets: Iterable[Any], stored: Mapping[str, Any]) -> None:
    """
    Add the facts of a file to the asset events that the task emits.

    :param context: of the task.
    :param outlets: the task's. An ``AssetAlias`` gets the file's own asset.
    :param stored: facts of the file.
    """
    for outlet in outlets:
        event = context["outlet_events"][outlet]
        if isinstance(outlet, AssetAlias):
            event.add(Asset(uri=stored["uri"]), extra=dict(stored))
        else:
            event.extra.update(stored)


def announce_batch(
    context: Context, outlets: Iterable[Any], summary: Mapping[str, Any], files: Iterable[Mapping[str, Any]]
) -> None:
    """
    Add the facts of many files to the asset events that the task emits.

    :param context: of the task.
    :param outlets: the task's. An ``AssetAlias`` gets an asset for each file; an ``Asset``'s event gets the summary.
    :param summary: of all files.
    :param files: facts of each file.
    """
    outlets, files = list(outlets), list(files)
    announce(context, [outlet for outlet in outlets if not isinstance(outlet, AssetAlias)], summary)
    aliases = [outlet for outlet in outlets if isinstance(outlet, AssetAlias)]
    for stored in files:
        announce(context, aliases, stored)


def batch_file_name(key: str | None, veo_task_id: str) -> str:
    """Return the file name of a batch's video: the job's key, if it has one, and the video's id."""
    name = storage.video_name(veo_task_id)
    return f"{storage.safe_name(f'{key}-{name}') if key else name}.mp4"


def _name_of(url: str) -> str:
    """Return a name for a video of which only the URL is known: its file name and a digest of the URL."""
    where = urlsplit(url)
    digest = hashlib.sha256(f"{where.netloc}{where.path}".encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{PurePosixPath(where.path).stem or 'video'}-{digest}"
