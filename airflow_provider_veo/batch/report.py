"""
``report.html``: what became of a batch, for a person, in one file without scripts that opens anywhere.

Prompts, names and what a relay said come from outside: everything is escaped, and the document's content security
policy allows nothing but its own style and the pictures in it. Its size is bounded, however many jobs there are.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_veo.batch.failures import REASON_CHARACTERS, name_of, one_line, prompt_of, words
from airflow_provider_veo.batch.results import NOT_STORED, SUCCEEDED, VIDEOS
from airflow_provider_veo.files import atomic, remote
from airflow_provider_veo.protocol import VeoError
from airflow_provider_veo.protocol.prices import exact, written
from airflow_provider_veo.protocol.text import storable
from airflow_provider_veo.storage import poster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from decimal import Decimal

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.batch.failures import Failures
    from airflow_provider_veo.batch.results import Results
    from airflow_provider_veo.log import Log

REPORT = "report.html"
CONTENT_TYPE = "text/html; charset=utf-8"
MAX_CARDS = 500
MAX_PICTURE_BYTES = 5_000_000
"""Of all posters together, as they are in the document. It can then be sent by e-mail."""
_FACT_CHARACTERS, _URL_CHARACTERS = 200, 8192
_CHUNK_CHARACTERS = 64 * 1024
_AT_A_TIME = 8
_ROWS_AT_A_TIME = 32


@dataclass(frozen=True)
class Report:
    """
    The report of a batch.

    :param results: of the batch.
    :param failures: why jobs did not succeed.
    :param folder: of the batch.
    :param about: the task instance, ``try_number`` and ``account``.
    :param link: URL of the task in Airflow.
    """

    results: Results
    failures: Failures
    folder: ObjectStoragePath
    about: Mapping[str, Any]
    link: str | None = None

    @property
    def path(self) -> ObjectStoragePath:
        """Path of the file."""
        return self.folder / REPORT

    def write(self, make_sure: Callable[[], None], log: Log) -> str | None:
        """
        Write the report, and return its URI; ``None`` if that failed, which is only logged.

        :param make_sure: as of :meth:`~airflow_provider_veo.batch.results.Results.write`.
        :param log: the task's.
        """
        path = self.path
        try:
            atomic.write_stream(path, self._chunks(), make_sure, CONTENT_TYPE)
        except VeoError:  # there is a newer process
            raise
        except Exception as error:  # of any storage library: the results are complete without the report
            log.warning("Could not write %s: %s: %s", path, type(error).__name__, error)
            return None
        return remote.uri(path)

    def _chunks(self) -> Iterator[bytes]:
        pieces, size = [], 0
        for piece in _template().generate(**self._values()):
            pieces.append(piece)
            size += len(piece)
            if size > _CHUNK_CHARACTERS:
                yield "".join(pieces).encode(errors="replace")
                pieces, size = [], 0
        yield "".join(pieces).encode(errors="replace")

    def _values(self) -> dict[str, Any]:
        counts, times = self.results.counts, self.results.times
        with_video = sum(counts[state] for state in (SUCCEEDED, NOT_STORED))
        style = (_FOLDER / "report.css").read_text(encoding="utf-8")
        return {
            "about": {name: one_line(value, _FACT_CHARACTERS) for name, value in self.about.items()},
            "link": _link(self.link),
            "style": style,
            "style_hash": base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            "total": sum(counts.values()),
            "counts": [(state, words(state), count) for state, count in counts.items() if count or state == SUCCEEDED],
            "cost": amount(self.results.cost),
            "possible_cost": amount(self.results.possible_cost or None),
            "times": [_moment(times[each]) for each in ("first_submitted_at", "written_at")] if times else None,
            "states": self.failures.by_state(counts),
            "cards": self._cards(),
            "more_cards": max(0, with_video - MAX_CARDS),
            "has_cards": with_video > 0,
        }

    def _cards(self) -> Iterator[dict[str, Any]]:
        """Return what the contact sheet shows of each video that is ready."""
        rows = islice((row for row in self.results.rows() if row["state"] in (SUCCEEDED, NOT_STORED)), MAX_CARDS)
        room = MAX_PICTURE_BYTES
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            while some := list(islice(rows, _ROWS_AT_A_TIME)):
                pictures = pool.map(self._picture, some) if room > 0 else [None] * len(some)
                for row, picture in zip(some, pictures, strict=True):
                    fits = picture is not None and len(picture) <= room
                    room -= len(picture) if picture and fits else 0
                    yield _card(row, picture if fits else None)

    def _picture(self, row: Mapping[str, Any]) -> str | None:
        """Return the poster of a video as Base64; ``None`` if it has none that can be read."""
        if not row["poster"]:
            return None
        with contextlib.suppress(Exception):  # of any storage library
            path = self.folder / VIDEOS / row["poster"].rpartition("/")[2]
            with contextlib.closing(remote.open_for_reading(path)) as file:
                content = file.read(poster.MAX_BYTES + 1)
            if poster.is_poster(content) and len(content) <= poster.MAX_BYTES:
                return base64.b64encode(content).decode()
        return None


def summary_text(results: Results, failures: Failures, about: Mapping[str, Any], report: str | None) -> str:
    """
    Return five lines about a batch for a chat message.

    Whatever a prompt or the relay contains, each value stays on its line, mentions nobody, loads no
    picture, and hides no address behind another text.

    :param results: of the batch.
    :param failures: why jobs did not succeed.
    :param about: the task instance.
    :param report: URI of the report; ``None``: it could not be written.
    """
    counts = {words(state): count for state, count in results.counts.items() if count}
    index = f" [{about['map_index']}]" if about["map_index"] >= 0 else ""
    total = sum(counts.values())
    most = failures.reasons[0] if failures.reasons else None
    lines = (
        f"{about['dag_id']}, {about['task_id']}{index}, run {about['run_id']}",
        f"{counts.get(SUCCEEDED, 0)} of {total} videos succeeded"
        + "".join(f", {count} {state}" for state, count in counts.items() if state != SUCCEEDED),
        f"Cost: {amount(results.cost) or 'unknown, a price is missing'}"
        + (f"; may have been billed in addition: {amount(results.possible_cost)}" if results.possible_cost else ""),
        f"Most frequent reason: {most.count} {words(most.state)}: {most.text}" if most else "Nothing went wrong",
        f"Report: {report or 'could not be written, see the log'}",
    )
    return "\n".join(_harmless(one_line(line, REASON_CHARACTERS)) for line in lines)


def amount(value: Decimal | float | None) -> str | None:
    """Return an amount of money, of which the currency is not known: ``10.8``."""
    return None if value is None else written(exact(value) if isinstance(value, float) else value)


_FOLDER = Path(__file__).parent


def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(_FOLDER)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.jinja")


def _moment(iso: str) -> str:
    return datetime.fromisoformat(iso).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _card(row: Mapping[str, Any], picture: str | None) -> dict[str, Any]:
    file = row["file"] or ""
    return {
        "name": name_of(row),
        "prompt": prompt_of(row),
        "model": row["request"]["model"],
        "is_tall": row["request"].get("aspect_ratio") == "9:16",
        "picture": picture,
        "state": words(row["state"]) if row["state"] != SUCCEEDED else None,
        "seconds": row["duration_seconds"],
        "cost": amount(row["cost"]),
        # Beside the report: the same on a disk, in a bucket and on a web server.
        "file": f"{VIDEOS}/{quote(file.rpartition('/')[2], safe='', errors='replace')}" if file else None,
        "relay": _link(row["video_url"]),
    }


_MENTIONS = str.maketrans({"@": "@\u200b", "<": "‹", ">": "›"})
"""
Chat programs notify everybody for ``@everyone``, ``<!channel>`` and the like, and load pictures for ``![](…)``, which
:func:`_harmless` also prevents. U+200B is a space without width.
"""


def _harmless(text: str) -> str:
    return text.translate(_MENTIONS).replace("](", "]\u200b(")


def _link(url: Any) -> str | None:
    """Return a URL that may be a link; ``None`` for anything else."""
    if not isinstance(url, str) or len(url) > _URL_CHARACTERS or storable(url) != url or url.split() != [url]:
        return None
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        return url if parts.scheme in ("http", "https") and parts.netloc else None
    return None
