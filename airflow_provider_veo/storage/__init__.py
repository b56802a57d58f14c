"""Download a video and store it as a verified file in local or object storage.

A file appears under its name only when it is complete; a failed download leaves nothing behind.
requests and tenacity are imported with the first download, not with this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_veo.storage.names import destination_for, safe_name, video_name
    from airflow_provider_veo.storage.store import StoredVideo, store_video

__all__ = [
    "DEFAULT_MAX_BYTES",
    "DEFAULT_TIMEOUT",
    "StoredVideo",
    "destination_for",
    "safe_name",
    "store_video",
    "video_name",
]

DEFAULT_MAX_BYTES = 2 * 1024**3
DEFAULT_TIMEOUT = 1800.0
"""Seconds in total."""

_MODULES = {
    "StoredVideo": "store",
    "destination_for": "names",
    "safe_name": "names",
    "store_video": "store",
    "video_name": "names",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
