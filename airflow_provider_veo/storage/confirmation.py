"""A second request that confirms the end of a file whose length is unknown."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

from airflow_provider_veo.net.session import TRANSPORT_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_veo.storage.web import Answer

_TOTAL = re.compile(r"bytes\s+(?:[0-9]{1,18}-[0-9]{1,18}|\*)/([0-9]{1,18})", re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]{1,18}")


class Evidence(enum.Enum):
    """What an answer shows about the bytes received so far."""

    COMPLETE = enum.auto()
    MORE = enum.auto()
    """The file is longer."""
    NONE = enum.auto()
    """It does not show either."""


def evidence(answer: Answer, size: int) -> Evidence:
    """
    Return what the answer to a request for ``bytes={size}-`` shows.

    The total in ``Content-Range`` or the ``Content-Length`` of the whole file decides. If the host ignores the range
    and gives no length, its body is counted up to the first byte after ``size`` and discarded.
    """
    total = None
    if answer.status in (206, 416):
        match = _TOTAL.fullmatch(answer.headers.get("Content-Range", "").strip())
        total = int(match[1]) if match else None
    elif answer.status == 200:
        total = announced(answer.headers)
        if total is None:
            return Evidence.MORE if _is_longer(answer, size) else Evidence.NONE
    if total is None:
        return Evidence.NONE
    # A smaller total shows nothing: it belongs to an error page or to another file.
    return Evidence.COMPLETE if total == size else Evidence.MORE if total > size else Evidence.NONE


def announced(headers: Mapping[str, str]) -> int | None:
    """Return the length of a body that its headers announce."""
    length = headers.get("Content-Length", "").strip()
    chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
    return int(length) if _LENGTH.fullmatch(length) and not chunked else None


def _is_longer(answer: Answer, size: int) -> bool:
    try:
        while chunk := answer.read():
            size -= len(chunk)
            if size < 0:
                return True
    except TRANSPORT_ERRORS:
        pass
    return False
