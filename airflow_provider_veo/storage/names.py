"""Where a video is stored when nobody says how its file is called.

Whatever an id holds, the name made of it is one name in one folder: the destination can't be left.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import ObjectStoragePath

if TYPE_CHECKING:
    from datetime import date

_NAME_CHARACTERS = 120
"""A file name may have 255 bytes on most file systems; one that is being written has a few more around it."""


def destination_for(
    destination: str, *, conn_id: str | None = None, veo_task_id: str, dag_id: str, run_date: date | str
) -> ObjectStoragePath:
    """
    Return the path of a video's file.

    :param destination: the file's own URI; or one that ends in ``/``, below which the file becomes
        ``{dag_id}/{run_date}/{veo_task_id}.mp4``, each made safe: see :func:`safe_name` and :func:`video_name`.
    :param conn_id: Airflow connection of the storage, where the URI names none.
    :param veo_task_id: the id that the relay gave.
    :param dag_id: the DAG's id.
    :param run_date: of the DAG run; a date becomes ``2026-11-22``, a text is taken as it is.
    """
    # Up to Airflow 3.1 a conn_id of None takes the place of the URI's.
    path = ObjectStoragePath(destination, conn_id=conn_id) if conn_id else ObjectStoragePath(destination)
    if not destination.endswith("/"):
        return path
    date_name = run_date if isinstance(run_date, str) else f"{run_date:%Y-%m-%d}"
    return path.joinpath(safe_name(dag_id), safe_name(date_name), f"{video_name(veo_task_id)}.mp4")


def video_name(veo_task_id: str) -> str:
    """
    Return the name of a video's file, without ``.mp4``.

    A colon becomes ``_``: ``veo3-fast:1795-x`` is ``veo3-fast_1795-x``. An id that has a ``_`` of its own, or anything
    else than letters, digits, ``-``, ``.`` and colons, is followed by a part of its SHA-256: no two ids share a name.
    """
    return _name(veo_task_id, r"[A-Za-z0-9:-][A-Za-z0-9.:-]*")


def safe_name(text: str) -> str:
    """
    Return a name that every file system and object storage takes, another one for each text.

    Letters, digits, ``-``, ``_`` and ``.`` stay. Where anything is replaced, a part of the text's SHA-256 follows.
    """
    return _name(text, r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def _name(text: str, plain: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    if re.fullmatch(plain, text) and len(text) <= _NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{name[: _NAME_CHARACTERS - 17].lstrip('.')}-{digest}"
