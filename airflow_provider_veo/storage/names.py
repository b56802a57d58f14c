"""Names of stored files.

Whatever an id contains, the name derived from it is a single path component: it can't point outside the destination.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import ObjectStoragePath

if TYPE_CHECKING:
    from datetime import date

_NAME_CHARACTERS = 120
"""Most file systems allow 255 bytes; the name of an unfinished file is a few characters longer."""


def destination_for(
    destination: str, *, conn_id: str | None = None, veo_task_id: str, dag_id: str, run_date: date | str
) -> ObjectStoragePath:
    """
    Return the path of a video's file.

    :param destination: the file's URI. If it ends in ``/``, it is a folder, and the file becomes
        ``{dag_id}/{run_date}/{veo_task_id}.mp4`` below it: see :func:`safe_name` and :func:`video_name`.
    :param conn_id: Airflow connection of the storage, if the URI names none.
    :param veo_task_id: the relay's id.
    :param dag_id: the DAG's id.
    :param run_date: of the DAG run. A date becomes ``2026-11-22``; a string is used as it is.
    """
    # Up to Airflow 3.1, conn_id=None overrides the connection in the URI.
    path = ObjectStoragePath(destination, conn_id=conn_id) if conn_id else ObjectStoragePath(destination)
    if not destination.endswith("/"):
        return path
    date_name = run_date if isinstance(run_date, str) else f"{run_date:%Y-%m-%d}"
    return path.joinpath(safe_name(dag_id), safe_name(date_name), f"{video_name(veo_task_id)}.mp4")


def video_name(veo_task_id: str) -> str:
    """
    Return the name of a video's file, without ``.mp4``.

    A colon becomes ``_``: ``veo3-fast:1795-x`` is ``veo3-fast_1795-x``. If an id contains ``_``, or anything other than
    letters, digits, ``-``, ``.`` and colons, part of its SHA-256 is appended: no two ids share a name.
    """
    return _name(veo_task_id, r"[A-Za-z0-9:-][A-Za-z0-9.:-]*")


def poster_name(file_name: str) -> str:
    """Return the name of a video's poster, which is beside its file: ``boat.jpg`` for ``boat.mp4``."""
    return f"{file_name.rpartition('.')[0] or file_name}.jpg"


def safe_name(text: str) -> str:
    """
    Return a name that is valid in every file system and object storage, and unique to the string.

    Letters, digits, ``-``, ``_`` and ``.`` are kept. If anything is replaced, part of the string's SHA-256 is appended.
    """
    return _name(text, r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def _name(text: str, plain: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    if re.fullmatch(plain, text) and len(text) <= _NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{name[: _NAME_CHARACTERS - 17].lstrip('.')}-{digest}"
