"""Settings of the page in section ``[veo]``: what it may read from storage, and which hosts browsers may play from."""

from __future__ import annotations

import json
import logging
import re
from functools import lru_cache
from urllib.parse import urlsplit

from airflow.configuration import conf

from airflow_provider_veo.ui.access import Root

log = logging.getLogger(__name__)

_HOST = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_MEDIA_HOST = re.compile(rf"(?:(https?)://)?({_HOST})(?::([1-9][0-9]{{0,4}}))?/?", re.ASCII)
_URL = re.compile(r"https?://[!-\[\]-~]+", re.ASCII | re.IGNORECASE)
"""Printable ASCII without backslashes: browsers and Python agree on the host of such a URL."""


def page_roots() -> tuple[Root, ...]:
    """Return the roots in ``[veo] page_roots``. Invalid entries are logged and ignored."""
    return _roots(_setting("page_roots"))


def media_origins() -> tuple[str, ...]:
    """Return the origins in ``[veo] page_media_hosts``, in the form of a content security policy."""
    return _origins(_setting("page_media_hosts"))


def may_play(url: str | None) -> bool:
    """Whether browsers may play a video from this URL."""
    if url is None or not _URL.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port not in (None, _DEFAULT_PORTS[parts.scheme]) else ""
    except ValueError:
        return False
    if "@" in parts.netloc:
        return False
    return f"{parts.scheme}://{parts.hostname}{port}" in media_origins()


_DEFAULT_PORTS = {"https": 443, "http": 80}


def _setting(name: str) -> str:
    return (conf.get("veo", name, fallback="") or "").strip()


@lru_cache(maxsize=16)
def _roots(setting: str) -> tuple[Root, ...]:
    found = []
    for entry in _entries("page_roots", setting):
        try:
            found.append(Root.of(entry))
        except ValueError as error:
            log.warning("Ignoring %r in [veo] page_roots: %s", entry, error)
    return tuple(found)


@lru_cache(maxsize=16)
def _origins(setting: str) -> tuple[str, ...]:
    found = []
    for entry in _entries("page_media_hosts", setting):
        match = _MEDIA_HOST.fullmatch(entry.lower())
        if match is None or int(match[3] or 0) > 65535:
            log.warning("Ignoring %r in [veo] page_media_hosts: expected a host name, optionally with a port", entry)
            continue
        scheme, host, port = match[1] or "https", match[2], match[3]
        found.append(f"{scheme}://{host}" + (f":{port}" if port and int(port) != _DEFAULT_PORTS[scheme] else ""))
    return tuple(dict.fromkeys(found))


def _entries(name: str, setting: str) -> list[str]:
    if not setting.startswith("["):
        return [entry for each in setting.split(",") if (entry := each.strip())]
    try:
        entries = json.loads(setting)
    except (ValueError, RecursionError) as error:
        log.warning("Ignoring [veo] %s: it is not a valid JSON list: %s", name, error)
        return []
    valid = [entry for entry in entries if isinstance(entry, str)]
    if len(valid) < len(entries):
        log.warning("Ignoring %d entries of [veo] %s: they are not strings", len(entries) - len(valid), name)
    return valid
