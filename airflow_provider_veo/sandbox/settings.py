"""
What can be set about the sandbox's relay, at its start and while it runs.

Settings never change in place: a change makes new ones, checked as a whole, or leaves the old ones alone.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

CHOICES = {
    "response_shape": ("status", "chat"),
    "id_field": ("id", "task_id"),
    "url_field": ("video_url", "url", "output_url"),
    "time_unit": ("ms", "s"),
}
"""The settings that are one word of a few."""

LONGEST_VIDEO = 60.0
"""Seconds. A longer video would only keep the machine busy."""


class SettingsError(ValueError):
    """A setting has a name or a value that the sandbox doesn't know."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the relay behaves towards every request, faults aside."""

    generation_seconds: float = 5.0
    """How long a video takes; 0 is ready at once. Videos not yet finished follow a change."""
    api_key: str = "sandbox-key"
    """The one key that is accepted."""
    response_shape: str = "status"
    """Which of the seed's two answers to a create: `status`, or `chat` like a chat completion."""
    id_field: str = "id"
    """The name of the id in the answer to a create (family: `task_id` at some relays)."""
    numeric_ids: bool = False
    """Ids are JSON numbers (family)."""
    wrapped: bool = False
    """Answers to queries come as `{"status": "SUCCESS", "data": {...}}` (family)."""
    other_id: bool = False
    """Answers to queries carry another id than the one that was asked for (family)."""
    url_field: str = "video_url"
    """The name of the video's URL in the answer to a query (family)."""
    time_unit: str = "ms"
    """`status_update_time` in milliseconds (seed) or in seconds (family)."""
    video_seconds: float = 3.0
    """How long the rendered videos play."""
    extra_models: tuple[str, ...] = ()
    """Models beyond the known ones, each `NAME[,images=N][,9:16]`."""

    def changed(self, changes: dict[str, Any]) -> Settings:
        """
        Return new settings with some of them changed.

        :param changes: New values by name, as JSON gives them.
        :raises SettingsError: A name is unknown or a value is wrong; names all of them.
        """
        mistakes = [f"{name}: there is no such setting" for name in changes if name not in FIELDS]
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
        """Return all settings but the key."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "api_key"}


FIELDS = {field.name: field.default for field in dataclasses.fields(Settings)}
"""Every setting's name and default."""


def _checked(name: str, value: Any) -> Any:
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise SettingsError(f"is one of {', '.join(CHOICES[name])}, not {value!r}")
        return value
    if name == "api_key":
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
            raise SettingsError("is printable ASCII without spaces")
        return value
    if name == "extra_models":
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise SettingsError("is a list of NAME[,images=N][,9:16]")
        return tuple(value)
    if isinstance(FIELDS[name], bool):
        if not isinstance(value, bool):
            raise SettingsError(f"is true or false, not {value!r}")
        return value
    return _seconds(name, value)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise SettingsError(f"is a number of seconds, not {value!r}")
    if name == "video_seconds" and not 0 < value <= LONGEST_VIDEO:
        raise SettingsError(f"is more than 0 and at most {LONGEST_VIDEO:g} seconds")
    return float(value)
