"""Where a task instance's records are kept: named JSON values that outlive the process, or don't.

A store does what it is told or raises. ``get`` returns ``None`` only where the store has said that there is nothing:
an answer that didn't come, or can't be read, is an exception.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.files.local import is_local, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME_CHARACTERS = 200
"""A file name may have 255 bytes on most file systems."""


class NotOurs(Exception):
    """There is a value, and it is not of this task instance."""


class Store(Protocol):
    """Named JSON values of one task instance."""

    survives: bool
    """Whether the next try finds what this one has written."""

    def get(self, name: str) -> Any:
        """Return a value; ``None`` where there certainly is none."""

    def set(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a value, whole or not at all."""

    def delete(self, name: str) -> None:
        """Remove a value, if it is there."""

    def where(self, name: str) -> str:
        """Say to a person where a value is."""


class TaskStateStore:
    """
    Airflow's own, from 3.3 on: in the metadata database, as long as the DAG run is there.

    :param accessor: the context's ``task_state_store``.
    """

    survives = True

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    def get(self, name: str) -> Any:
        """Return a value; ``None`` where there certainly is none."""
        return self._accessor.get(name)

    def set(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a value, whole or not at all."""
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        self._accessor.set(name, dict(value), retention=NEVER_EXPIRE)

    def delete(self, name: str) -> None:
        """Remove a value, if it is there."""
        self._accessor.delete(name)

    def where(self, name: str) -> str:
        """Say to a person where a value is."""
        return f"the key {name!r} on this task instance's page in Airflow, under Storage > Task State Store"


class ObjectStorage:
    """
    Files in a local or an object storage that all workers share.

    :param root: URI as ``ObjectStoragePath`` takes it, e.g. ``s3://aws_default@bucket/veo-journal``.
    :param task_instance: its ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """

    survives = True

    def __init__(self, root: str, task_instance: Mapping[str, Any]) -> None:
        self._root = root
        self._task_instance = dict(task_instance)

    @cached_property
    def _folder(self) -> ObjectStoragePath:
        names = (self._task_instance[key] for key in ("dag_id", "run_id", "task_id"))
        return ObjectStoragePath(self._root).joinpath(*(_file_name(str(name)) for name in names))

    def get(self, name: str) -> Any:
        """Return a value; ``None`` where there certainly is none. What is no JSON object is returned as text."""
        path = self._path(name)
        try:
            content = path.fs.cat_file(path.path)
        except FileNotFoundError:
            return None
        text = content.decode("utf-8", "replace")
        try:
            value = json.loads(text)
        except ValueError:
            return text
        if not isinstance(value, dict):
            return text
        if value.pop("task_instance", None) == self._task_instance:
            return value
        # A file system that takes two names for one, or a path that another deployment uses.
        raise NotOurs("it belongs to another task instance, perhaps of another deployment that has the same path")

    def set(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a value, whole or not at all."""
        path = self._path(name)
        content = json.dumps({**value, "task_instance": self._task_instance}, indent=1).encode()
        if is_local(path):
            replace_file(Path(path.path), content)
            return
        try:
            path.fs.pipe_file(path.path, content)
        except FileNotFoundError:  # a file system that has folders
            path.fs.makedirs(path.parent.path, exist_ok=True)
            path.fs.pipe_file(path.path, content)

    def delete(self, name: str) -> None:
        """Remove a value, if it is there."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            path.fs.rm_file(path.path)

    def where(self, name: str) -> str:
        """Say to a person where a value is."""
        return f"the file {self._path(name)}"

    def _path(self, name: str) -> ObjectStoragePath:
        return self._folder / f"{self._task_instance['map_index']}.{name}.json"


class ThisTry:
    """Memory: nothing of it is left when the try ends."""

    survives = False

    def __init__(self) -> None:
        self._values: dict[str, Mapping[str, Any]] = {}

    def get(self, name: str) -> Any:
        """Return a value; ``None`` where there is none."""
        return self._values.get(name)

    def set(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a value."""
        self._values[name] = value

    def delete(self, name: str) -> None:
        """Remove a value, if it is there."""
        self._values.pop(name, None)

    def where(self, name: str) -> str:
        """Say to a person where a value is."""
        return "nowhere: it is kept in this try only"


def _file_name(name: str) -> str:
    """Return a name that every file system and object storage takes, another one for each that is given."""
    safe = quote(name, safe=" +@=,~")
    if safe.startswith("."):
        safe = f"%2E{safe[1:]}"
    if len(safe) <= _NAME_CHARACTERS:
        return safe
    return f"{safe[: _NAME_CHARACTERS - 33]}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
