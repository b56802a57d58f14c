"""Stores for a task instance's records: named JSON values, which may or may not outlive the process.

A store either does what it is asked to or raises. ``get`` returns ``None`` only if the store confirmed that there is no
value: a missing or unreadable answer is an exception.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_veo.files import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME_CHARACTERS = 200
"""Most file systems allow 255 bytes in a file name."""


class NotOurs(Exception):
    """There is a value, but it belongs to another task instance."""


class Store(Protocol):
    """Named JSON values of one task instance."""

    survives: bool
    """Whether the next try can read what this one wrote."""
    lost_when_cleared: bool
    """Whether Airflow may delete the values when the task is cleared."""

    def get(self, name: str) -> Any:
        """Return a value; ``None`` if there certainly is none."""

    def set(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a value atomically."""

    def delete(self, name: str) -> None:
        """Remove a value if it exists."""

    def where(self, name: str) -> str:
        """Describe for a person where a value is."""


class TaskStateStore:
    """
    Airflow's own store (3.3 and later): in the metadata database, for as long as the DAG run exists.

    From 3.4 on, clearing the task deletes the values by default.

    :param accessor: the context's ``task_state_store``.
    """

    survives = True
    lost_when_cleared = True

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    def get(self, name: str) -> Any:
        """Return a value; ``None`` if there certainly is none."""
        return self._accessor.get(name)

    def set(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a value atomically."""
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        self._accessor.set(name, dict(value), retention=NEVER_EXPIRE)

    def delete(self, name: str) -> None:
        """Remove a value if it exists."""
        self._accessor.delete(name)

    def where(self, name: str) -> str:
        """Describe for a person where a value is."""
        return f"the key {name!r} on this task instance's page in Airflow, under Storage > Task State Store"


class ObjectStorage:
    """
    Files in a local file system or an object storage that all workers share.

    :param root: URI as ``ObjectStoragePath`` takes it, e.g. ``s3://aws_default@bucket/veo-journal``.
    :param task_instance: its ``dag_id``, ``run_id``, ``task_id`` and ``map_index``, and ``loop_index`` in a task loop.
    """

    survives = True
    lost_when_cleared = False

    def __init__(self, root: str, task_instance: Mapping[str, Any]) -> None:
        self._root = root
        self._task_instance = dict(task_instance)

    @cached_property
    def _folder(self) -> ObjectStoragePath:
        names = (self._task_instance[key] for key in ("dag_id", "run_id", "task_id"))
        return ObjectStoragePath(self._root).joinpath(*(_file_name(str(name)) for name in names))

    def get(self, name: str) -> Any:
        """Return a value; ``None`` if there certainly is none. Content that is not a JSON object is returned as is."""
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
        # The file system treats two names as one, or another deployment uses the same path.
        raise NotOurs("it belongs to another task instance, perhaps of another deployment with the same path")

    def set(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a value atomically."""
        content = json.dumps({**value, "task_instance": self._task_instance}, indent=1).encode()
        atomic.write(self._path(name), content)

    def delete(self, name: str) -> None:
        """Remove a value if it exists."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            path.fs.rm_file(path.path)

    def where(self, name: str) -> str:
        """Describe for a person where a value is."""
        return f"the file {self._path(name)}"

    def _path(self, name: str) -> ObjectStoragePath:
        index = str(self._task_instance["map_index"])
        if "loop_index" in self._task_instance:
            index += f".iteration-{self._task_instance['loop_index']}"
        return self._folder / f"{index}.{name}.json"


class ThisTry:
    """Memory, which is lost when the try ends."""

    survives = False
    lost_when_cleared = False

    def __init__(self) -> None:
        self._values: dict[str, Mapping[str, Any]] = {}

    def get(self, name: str) -> Any:
        """Return a value; ``None`` if there is none."""
        return self._values.get(name)

    def set(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a value."""
        self._values[name] = value

    def delete(self, name: str) -> None:
        """Remove a value if it exists."""
        self._values.pop(name, None)

    def where(self, name: str) -> str:
        """Describe for a person where a value is."""
        return "nowhere: it is kept only until this try ends"


def _file_name(name: str) -> str:
    """Return a file name that every file system and object storage accepts, unique for each given name."""
    safe = quote(name, safe=" +@=,~")
    if safe.startswith("."):
        safe = f"%2E{safe[1:]}"
    if len(safe) <= _NAME_CHARACTERS:
        return safe
    return f"{safe[: _NAME_CHARACTERS - 33]}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
