"""A download that survives broken connections: tries, resumed where that is safe, and what is checked of the bytes.

Two parts are put together only if the server says by a strong validator that they are of one and the same file.
Whatever else happens, the next try begins at the first byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NoReturn

import tenacity

from airflow_provider_veo.files.digests import Digests
from airflow_provider_veo.net.session import TRANSPORT_ERRORS
from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError, VeoError, envelope
from airflow_provider_veo.protocol.text import first_line
from airflow_provider_veo.storage.confirmation import Evidence, announced, evidence
from airflow_provider_veo.storage.media import Inspector, NotVideoError
from airflow_provider_veo.storage.order import Received
from airflow_provider_veo.storage.web import UrlRefusedError, shown

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from airflow_provider_veo.files.sinks import Sink
    from airflow_provider_veo.storage.order import Order
    from airflow_provider_veo.storage.web import Answer, Web

MAX_TRIES = 5
"""Tries in a row that bring the file no further."""
FURTHER_BYTES = 8 * 1024 * 1024
"""A try that brings it this much further than any before costs none of them."""
MAX_FRESH_URLS = 2
_EXPIRED = (401, 403, 404, 410)
_FOR_NOW = (408, 425, 429)
_BODY_BYTES = 64 * 1024
_BODY_SECONDS = 10.0
_RANGE = re.compile(r"bytes\s+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')

_backoff = tenacity.wait_exponential_jitter(initial=1, max=20, jitter=1)


class _Again(Exception):
    """A try ended so that another one may fare better: at once, or later."""

    def __init__(self, error: VeoError, *, at_once: bool = False) -> None:
        super().__init__()
        self.error = error
        self.at_once = at_once


class Transfer:
    """
    Brings a file from the web into a sink.

    :param order: what is to be fetched.
    :param web: sends the requests.
    :param sink: takes the bytes. What it makes of them, and what of a failure, is up to who made it.
    :param storing: surrounds what the sink does, to make its failures known as such.
    """

    def __init__(
        self,
        order: Order,
        web: Web,
        sink: Sink,
        storing: Callable[[], AbstractContextManager[None]],
        log: logging.Logger,
    ) -> None:
        self._order = order
        self._web = web
        self._sink = sink
        self._storing = storing
        self._log = log
        self._url = order.url
        self._fresh_urls_left = MAX_FRESH_URLS if order.fresh_url else 0
        self._deadline = order.deadline
        self._furthest = self._counted_from = 0
        self._failures = 0
        self._begin()

    def _begin(self) -> None:
        """Know nothing of the file."""
        self._size = 0
        self._total: int | None = None
        self._validator: str | None = None
        self._source: str | None = None
        self._digests = Digests()
        self._inspector = Inspector()
        self._sha256 = hashlib.sha256()
        self._held = b""

    def run(self) -> Received:
        """
        Fetch it.

        :raises VeoDownloadError: it could not be had whole, in the tries and the time that there are.
        :raises VeoDownloadRefusedError: it must not be fetched, or is no video, or is too large.
        :raises VeoError: of ``fresh_url``.
        """
        try:
            return tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(_Again),
                stop=self._is_enough,
                wait=self._seconds_to_wait,
                before_sleep=self._log_retry,
                reraise=True,
            )(self._try)
        except _Again as last:
            error: VeoError = last.error
        except UrlRefusedError as refused:
            error = self._error(
                f"did not ask: {refused}.",
                f"Nothing was sent there. {refused.hint}",
                kind=VeoDownloadRefusedError,
            )
        raise error from None

    def _try(self) -> Received:
        if self._size and not self._validator:
            self._start_over()
        headers = {"Accept-Encoding": "identity"}
        if self._size and self._validator:
            headers |= {"Range": f"bytes={self._size}-", "If-Range": self._validator}
        with self._ask(headers) as answer:
            self._judge(answer, wanted_part="Range" in headers)
            with answer.ended_after(self._seconds_left()):
                self._receive(answer)
        return self._whole()

    def _seconds_left(self) -> float:
        return max(0.1, self._deadline - time.monotonic())

    def _ask(self, headers: Mapping[str, str]) -> Answer:
        try:
            return self._web.get(self._url, headers, self._seconds_left())
        except TRANSPORT_ERRORS as error:
            failure = self._error(
                f"got no answer: {self._web.describe(error)}.", "The host was not reached, or said nothing."
            )
        raise _Again(failure) from None

    def _judge(self, answer: Answer, *, wanted_part: bool) -> None:
        """Make sure that what follows are the bytes that are missing."""
        status = answer.status
        if status == 206 and wanted_part:
            if self._continues(answer):
                self._refuse_if_too_large(self._total or 0)
                return
            self._start_over()
            self._fail("got a part of another file, or another part.", "The file has changed, or the server mixes.")
        if status == 200:
            if self._size:
                self._log.info("The server sends the whole file again; starting over")
                self._start_over()
            self._learn(answer)
            return
        if status == 416 and wanted_part:
            self._start_over()
            self._fail("got HTTP 416 for the rest of the file.", "The file has changed, or the server can't count.")
        body = answer.beginning(_BODY_BYTES, min(_BODY_SECONDS, self._order.timeout))
        said = envelope.read(
            status, answer.headers, body, secrets=self._web.secrets, now=time.time(), max_bytes=_BODY_BYTES
        )
        came = f"got {said.describe()}."
        if status in _EXPIRED:
            self._get_fresh_url(came, status)
        if status in _FOR_NOW or status >= 500 or status == 204:
            raise _Again(
                self._error(came, "The host can't send it for now.", status=status, retry_after=said.retry_after)
            )
        raise self._error(came, "The host does not send the file.", status=status)

    def _get_fresh_url(self, came: str, status: int | None) -> NoReturn:
        """Poll the relay where the file is now: URLs expire."""
        if self._fresh_urls_left and self._order.fresh_url:
            self._fresh_urls_left -= 1
            fresh = self._order.fresh_url()
            if not fresh:
                raise self._error(came, "The relay names no other URL for it.", status=status)
            self._url = fresh
            self._log.info("The video's URL no longer holds; the relay gave another one: %s", shown(self._url))
            raise _Again(self._error(came, "So does the URL that the relay gave anew.", status=status), at_once=True)
        hint = "Give the video's veo_task_id in place of its URL: then the relay is asked for a new one."
        raise self._error(
            came,
            f"The URL has expired, or the file is gone. {'' if self._order.fresh_url else hint}".strip(),
            status=status,
        )

    def _continues(self, answer: Answer) -> bool:
        """Whether this is the rest of the very file whose beginning is here."""
        part = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if (
            part is None
            or int(part[1]) != self._size
            or int(part[2]) >= int(part[3])
            or self._total not in (None, int(part[3]))
            or self._validator != _validator(answer.headers)
            or self._source != shown(answer.url)
        ):
            return False
        self._total = int(part[3])
        return True

    def _learn(self, answer: Answer) -> None:
        """Note what the server says of the file, before any of it is read."""
        self._total = announced(answer.headers)
        self._validator = _validator(answer.headers)
        self._source = shown(answer.url)
        self._digests = Digests.of(answer.headers)
        self._refuse_if_too_large(self._total or 0)
        with self._storing():
            self._sink.expect(self._total, self._digests)

    def _receive(self, answer: Answer) -> None:
        while chunk := self._read(answer):
            self._refuse_if_too_large(self._size + len(chunk))
            try:
                self._inspector.feed(chunk)
            except NotVideoError as error:
                self._refuse_content(error)
            self._sha256.update(chunk)
            self._digests.update(chunk)
            self._size += len(chunk)
            self._pass_on(chunk)
            self._furthest = max(self._furthest, self._size)

    def _pass_on(self, chunk: bytes) -> None:
        """Hand the bytes to the sink, from when it is known what they are."""
        self._held += chunk
        if self._inspector.container:
            with self._storing():
                self._sink.content_type = self._inspector.container.content_type
                self._sink.write(self._held)
            self._held = b""

    def _read(self, answer: Answer) -> bytes:
        chunk, failure = b"", None
        try:
            chunk = answer.read()
        except TRANSPORT_ERRORS as error:
            failure = self._error(
                f"the connection broke after {self._progress()}: {self._web.describe(error)}.", "The file is not whole."
            )
        if time.monotonic() >= self._deadline:  # the end of a body may be that of our patience
            raise self._error(
                f"had {self._progress()} after {self._order.timeout:g} s.",
                "That is the timeout of the download. Raise it, or look at what slows the host down.",
            )
        if failure:
            raise _Again(failure)
        return chunk

    def _whole(self) -> Received:
        """Check what came, now that nothing more does."""
        if self._total is not None and self._size != self._total:
            self._fail(f"the connection ended after {self._progress()}.", "The file is not whole.")
        if not self._size:
            self._fail("got an empty file.", "The host has no video there, or not yet.")
        try:
            missing = self._inspector.finish()
        except NotVideoError as error:
            self._refuse_content(error)
        wrong = self._digests.difference()
        container = self._inspector.container
        if missing or wrong or container is None:
            came = f"got {self._size} bytes, as announced, and {missing or wrong}."
            self._start_over()
            self._fail(came, "The file that the host sends is cut off or damaged.")
        self._pass_on(b"")
        is_sure = self._total is not None or bool(self._digests.expected) or self._inspector.tells_its_end
        return Received(self._size, self._sha256.hexdigest(), container, verified=is_sure or self._confirm())

    def _confirm(self) -> bool:
        """Poll the host whether there is more of a file whose end nothing tells; return whether it answers that."""
        found = Evidence.NONE
        with contextlib.suppress(_Again, UrlRefusedError):
            # Without If-Range: a host that does not know it would send everything.
            headers = {"Accept-Encoding": "identity", "Range": f"bytes={self._size}-"}
            with self._ask(headers) as answer, answer.ended_after(self._seconds_left()):
                found = evidence(answer, self._size)
        came = f"got {self._size} bytes without a length, and the host then said that the file has"
        if found is Evidence.MORE:
            self._fail(f"{came} more.", "The transfer was cut off.")
        return found is Evidence.COMPLETE

    def _refuse_content(self, error: NotVideoError) -> NoReturn:
        text = envelope.excerpt(error.head.decode("utf-8", "replace"), self._web.secrets) if error.is_text else ""
        self._start_over()
        if error.is_text:
            came = f"got a page in place of the file: “{text}”."
            if self._fresh_urls_left:
                self._get_fresh_url(came, None)
            self._fail(came, "The host reports an error as if it were the file. Read what the page says.")
        raise self._error(
            f"got no video: the file begins with {error.head[:16].hex(' ')}.",
            "It is no MP4, MOV or WebM. Check that the URL is that of the video.",
            kind=VeoDownloadRefusedError,
        ) from None

    def _refuse_if_too_large(self, size: int) -> None:
        if size > self._order.max_bytes:
            raise self._error(
                f"found that it has {size} bytes{'' if self._total else ' or more'}, and "
                f"{self._order.max_bytes} are allowed.",
                "Raise max_bytes if it may be that large.",
                kind=VeoDownloadRefusedError,
            )

    def _start_over(self) -> None:
        with self._storing():
            self._sink.restart()
        self._begin()

    def _progress(self) -> str:
        return f"{self._size} of {self._total} bytes" if self._total is not None else f"{self._size} bytes"

    def _fail(self, came: str, meaning: str) -> NoReturn:
        raise _Again(self._error(came, meaning)) from None

    def _error(
        self,
        came: str,
        meaning: str,
        *,
        kind: type[VeoError] = VeoDownloadError,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> VeoError:
        return kind(
            f"Tried to fetch {self._order.what} from {shown(self._url)} into {self._order.destination}, and {came}\n"
            f"{meaning} Nothing was stored under that name.",
            status_code=status,
            retry_after=retry_after,
            veo_task_id=self._order.veo_task_id,
        )

    def _is_enough(self, state: tenacity.RetryCallState) -> bool:
        if self._furthest >= self._counted_from + FURTHER_BYTES:
            self._counted_from = self._furthest
            self._failures = 0
        else:
            self._failures += 1
        return self._failures >= MAX_TRIES or time.monotonic() + state.upcoming_sleep > self._deadline

    def _seconds_to_wait(self, state: tenacity.RetryCallState) -> float:
        last = state.outcome.exception() if state.outcome else None
        if isinstance(last, _Again) and last.at_once:
            return 0.0
        asked_for = last.error.retry_after if isinstance(last, _Again) else None
        return max(asked_for or 0.0, _backoff(state))

    def _log_retry(self, state: tenacity.RetryCallState) -> None:
        last = state.outcome.exception() if state.outcome else None
        if isinstance(last, _Again) and not last.at_once:
            self._log.warning(
                "%s Trying again in %.1f s, from byte %d on",
                first_line(last.error),
                state.upcoming_sleep,
                self._size if self._validator else 0,
            )


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return what may stand in If-Range: only what changes whenever a byte does (RFC 9110, 8.8.1 and 13.1.5)."""
    etag = headers.get("ETag", "").strip()
    if etag:
        return etag if _STRONG_ETAG.fullmatch(etag) else None
    modified, date = headers.get("Last-Modified", "").strip(), headers.get("Date", "")
    try:
        age = parsedate_to_datetime(date) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return None
    # RFC 9110, 8.8.2.2: a date that is too young may belong to two versions of a file.
    return modified if age.total_seconds() >= 60 else None
