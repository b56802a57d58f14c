"""
What the page is told of a video, wherever that comes from.

Whoever may write a DAG may push any XCom: what is no text or no number where one is expected becomes one here, or
nothing, so that no card keeps a page from being shown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_veo.protocol.text import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

OWNER = ("dag_id", "run_id", "task_id", "map_index")
"""What tells a task instance from all others."""
_TEXTS = ("id", "status", "prompt", "enhanced_prompt", "model", "aspect_ratio", "error", "submitted_at")
_FACTS = ("bytes", "width", "height", "duration_seconds")
_CHARACTERS = 20_000


def described(video: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of a video."""
    return {**{name: text(video.get(name)) for name in _TEXTS}, "cost": number(video.get("cost"))}


def played(video: Mapping[str, Any], file_href: str | None) -> dict[str, Any]:
    """Return where a video is to be had, and how large it is."""
    url = link(video.get("video_url"))
    facts = {name: number(video.get(name)) for name in _FACTS}
    return {"src": file_href or url, "file_href": file_href, "video_url": url, **facts}


def text(value: Any) -> str | None:
    """Return a text of bounded length."""
    return None if value is None else shortened(str(value), _CHARACTERS)


def number(value: Any) -> float | None:
    """Return a number; ``None`` for anything else."""
    return value if is_number(value) else None


def is_number(value: Any, *, or_none: bool = False) -> bool:
    """Whether it is a number that JSON knows."""
    if value is None:
        return or_none
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def link(url: Any) -> str | None:
    """Return a URL that may be opened; ``None`` for any other text."""
    try:
        return url if isinstance(url, str) and urlsplit(url).scheme in ("http", "https") else None
    except ValueError:
        return None


def address(*parts: object) -> str:
    """Return the path of an address that is made of texts from strangers."""
    return "/".join(quote(str(part), safe="") for part in parts)
