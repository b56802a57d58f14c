"""
The settings of the sandbox's relay, at its start and while it runs.

Settings are immutable. A change is validated as a whole and then returns new settings.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

CHOICES = {
    "response_shape": ("status", "chat"),
    "id_field": ("id", "task_id", "taskId", "request_id", "data", "data.id", "data.task_id"),
    "status_field": ("status", "state", "task_status"),
    "url_field": (
        *("video_url", "url", "result_url", "output_url", "output", "output.video_url", "output.url"),
        *("result.video_url", "result.url", "metadata.url", "videos.0", "videos.0.url", "video_urls.0"),
        *("task_result.videos.0.url", "fail_reason"),
    ),
    "time_unit": ("ms", "s"),
    "openai_url_field": ("none", "video_url", "url", "metadata.url"),
}
"""The settings with a fixed set of values. Those of a field are paths: `videos.0.url` is in the first of a list."""

LONGEST_VIDEO = 60.0
"""Maximum seconds. A longer video would only keep the machine busy."""


class SettingsError(ValueError):
    """A setting's name or value is invalid."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the relay behaves, apart from faults."""

    generation_seconds: float = 5.0
    """How long a generation takes. 0 makes videos ready at once. A change also affects unfinished videos."""
    api_key: str = "sandbox-key"
    """The API key to accept."""
    strict: bool = False
    """Insist on the fields, types and headers that the relays' own documents require. Most relays don't."""
    response_shape: str = "status"
    """Answers to create: `status` (short) or `chat` (like a chat completion)."""
    id_field: str = "id"
    """Path of the id in answers to create (family)."""
    numeric_ids: bool = False
    """Return ids as JSON numbers (family)."""
    wrapped: bool = False
    """Wrap answers to queries in `{"status": "SUCCESS", "data": {...}}` (family)."""
    other_id: bool = False
    """Return a different id in answers to queries (family)."""
    status_field: str = "status"
    """Name of the status in answers to queries (family)."""
    url_field: str = "video_url"
    """Path of the URL in answers to queries (family)."""
    time_unit: str = "ms"
    """Unit of `status_update_time`: milliseconds (seed) or seconds (family)."""
    openai_url_field: str = "none"
    """Path of the URL in answers of the form `openai` to queries, if there is one (family)."""
    long_ids: bool = False
    """Return ids of several hundred characters in the form `openai` (family: LiteLLM)."""
    video_seconds: float = 3.0
    """Duration of the generated videos."""
    extra_models: tuple[str, ...] = ()
    """Additional models, each `NAME[,images=N][,9:16]`."""

    def changed(self, changes: dict[str, Any]) -> Settings:
        """
        Return new settings with some of them changed.

        :param changes: New values by name, as parsed from JSON.
        :raises SettingsError: Names or values are invalid. The message lists all of them.
        """
        mistakes = [f"{name}: unknown setting" for name in changes if name not in FIELDS]
        checked: dict[str, Any] = {}
        for name in FIELDS.keys() & changes.keys():
            try:
                checked[name] = _checked(name, changes[name])
            except SettingsError as error:
                mistakes.append(f"{name}: {error}")
        if mistakes:
            raise SettingsError("; ".join(sorted(mistakes)))
        return dataclasses.replace(self, **checked)

    def public(self) -> dict[str, Any]:
        """Return all settings except the key."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "api_key"}


FIELDS = {field.name: field.default for field in dataclasses.fields(Settings)}
"""Every setting's name and default."""


def _checked(name: str, value: Any) -> Any:
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise SettingsError(f"expected one of {', '.join(CHOICES[name])}, got {value!r}")
        return value
    if name == "api_key":
        return _key(value)
    if name == "extra_models":
        return _models(value)
    if isinstance(FIELDS[name], bool):
        if not isinstance(value, bool):
            raise SettingsError(f"expected true or false, got {value!r}")
        return value
    return _seconds(name, value)


def _key(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[!-~]+", value):
        raise SettingsError("expected printable ASCII without spaces")
    return value


def _models(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise SettingsError("expected a list of NAME[,images=N][,9:16]")
    return tuple(value)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise SettingsError(f"expected a number of seconds, got {value!r}")
    if name == "video_seconds" and not 0 < value <= LONGEST_VIDEO:
        raise SettingsError(f"expected more than 0 and at most {LONGEST_VIDEO:g} seconds")
    return float(value)
