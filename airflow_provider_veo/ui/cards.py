"""
Cards: the facts of a video, for the page.

Anyone who may write a DAG or edit its XComs controls what is recorded. Values that are not strings or numbers as
expected are converted or dropped. A record that can't be shown becomes an error card, so that the page still loads.
"""

from __future__ import annotations

import json
import logging
import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from airflow_provider_veo.protocol.text import shortened
from airflow_provider_veo.ui import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

OWNER = ("dag_id", "run_id", "task_id", "map_index")
"""The columns that identify a task instance."""
FILE, REMOTE, OFF = "file", "remote", "off"
"""How a video is previewed: from storage; from the media host, after a click; or not, because of the settings."""
BROKEN = "This record can't be shown."
_TEXTS = (
    *("id", "status", "prompt", "reworded_prompt", "enhanced_prompt", "model", "aspect_ratio", "error"),
    "submitted_at",
)
_FACTS = ("bytes", "width", "height", "duration_seconds")
_CHARACTERS = 20_000
_LARGEST = 1e15
"""The largest plausible number: bytes of a file, a price, epoch seconds."""
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_NOT_IN_A_URL = re.compile("[\x00-\x20\x7f\ud800-\udfff]")


def made(make: Callable[[], dict[str, Any]], owner: Mapping[str, Any], key: str) -> dict[str, Any]:
    """
    Return a card, or an error card if the record can't be shown.

    :param make: makes the card.
    :param owner: the task instance that recorded it.
    :param key: identifies the card on the page.
    """
    try:
        card = make()
        json.dumps(card, allow_nan=False, ensure_ascii=False).encode()
    except Exception as error:  # whatever the record contains
        log.warning("A record of %s can't be shown: %s", dict(owner), type(error).__name__)
        return {**owner, "key": key, "broken": True, "error": BROKEN}
    return card


def described(video: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a video."""
    return {**{name: text(video.get(name)) for name in _TEXTS}, "cost": number(video.get("cost"))}


def played(
    video: Mapping[str, Any], file_href: str | None, poster_href: str | None = None, *, is_off: bool
) -> dict[str, Any]:
    """
    Return how a video is previewed, and its size and duration.

    :param video: its facts.
    :param file_href: the address of its file; ``None`` if it has none that may be read.
    :param poster_href: the address of its poster.
    :param is_off: it has a file, but the settings do not allow the page to read it.
    """
    url = link(video.get("video_url"))
    remote_src = url if not file_href and settings.may_play(url) else None
    preview = FILE if file_href else REMOTE if remote_src else OFF if is_off else None
    facts = {name: number(video.get(name)) for name in _FACTS}
    addresses = {"file_href": file_href, "poster_href": poster_href, "remote_src": remote_src, "video_url": url}
    return {"preview": preview, **addresses, **facts}


def text(value: Any) -> str | None:
    """Return a string of bounded length that can be encoded and stored anywhere."""
    if value is None:
        return None
    return _NOT_TEXT.sub("\ufffd", shortened(value if isinstance(value, str) else f"{value}", _CHARACTERS))


def number(value: Any) -> float | None:
    """Return a plausible number; ``None`` for anything else."""
    return value if is_number(value) else None


def is_number(value: Any) -> bool:
    """Whether it is a plausible number that JSON can represent."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and abs(value) < _LARGEST if isinstance(value, float) else abs(value) < _LARGEST


def link(url: Any) -> str | None:
    """Return a URL that may be opened; ``None`` for anything else."""
    if not isinstance(url, str) or len(url) > _CHARACTERS or _NOT_IN_A_URL.search(url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc else None


def address(*parts: object) -> str:
    """Return an address path made of untrusted strings."""
    return "/".join(quote(str(part), safe="", errors="replace") for part in parts)


def query(parameters: Mapping[str, object]) -> str:
    """Return the query of an address, with its question mark; empty if there are no parameters."""
    return f"?{urlencode(parameters, errors='replace')}" if parameters else ""
