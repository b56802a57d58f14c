"""A download that survives broken connections: tries, safe resumption, and the checks of the received bytes.

Two parts are joined only if a strong validator from the host shows that they belong to the same file. Otherwise the
next try starts at the first byte.
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
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from airflow_provider_veo.files.sinks import Sink
    from airflow_provider_veo.log import Log
    from airflow_provider_veo.storage.order import Order
    from airflow_provider_veo.storage.web import Answer, Web

MAX_TRIES = 5
"""Maximum number of tries in a row without progress."""
FURTHER_BYTES = 8 * 1024 * 1024
"""A try that gets this many bytes further than any before resets the count."""
MAX_FRESH_URLS = 2
_EXPIRED = (401, 403, 404, 410)
_BODY_BYTES = 64 * 1024
_BODY_SECONDS = 10.0
_RANGE = re.compile(r"bytes\s+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')

_backoff = tenacity.wait_exponential_jitter(initial=1, max=20, jitter=1)


class _Again(Exception):
    """A try failed in a way that another try may succeed: immediately, or after a wait."""

    def __init__(self, error: VeoError, *, at_once: bool = False) -> None:
        super().__init__()
        self.error = error
        self.at_once = at_once


class Transfer:
    """
    Downloads a file into a sink.

    :param order: what to fetch.
    :param web: sends the requests.
    :param sink: takes the bytes. The caller finishes or discards it.
    :param storing: a context for every call of the sink; it turns errors of the storage into errors that say so.
    """

    def __init__(
        self,
        order: Order,
        web: Web,
        sink: Sink,
        storing: Callable[[], AbstractContextManager[None]],
        log: Log,
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
        """Reset everything known about the file."""
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
        Download the file.

        :raises VeoDownloadError: it could not be fetched completely within the tries and the timeout.
        :raises VeoDownloadRefusedError: it must not be fetched, is not a video, or is too large.
        :raises VeoError: from ``fresh_url``.
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
            error = self._error(f"did not send the request: {refused}.", refused.hint, kind=VeoDownloadRefusedError)
        raise error from None

    def _try(self) -> Received:
        if self._size and not self._validator:
            self._start_over()
        headers = {"Accept-Encoding": "identity"}
        if self._size and self._validator:
            headers |= {"Range": f"bytes={self._size}-", "If-Range": self._validator}
        with self._request(headers) as answer:
            self._check(answer, wanted_part="Range" in headers)
            with answer.ended_after(self._seconds_left()):
                self._receive(answer)
        return self._whole()

    def _seconds_left(self) -> float:
        return max(0.1, self._deadline - time.monotonic())

    def _request(self, headers: Mapping[str, str]) -> Answer:
        try:
            return self._web.get(self._url, headers, self._seconds_left())
        except TRANSPORT_ERRORS as error:
            failure = self._error(
                f"got no answer: {self._web.describe(error)}.", "The host could not be reached, or did not answer."
            )
        raise _Again(failure) from None

    def _check(self, answer: Answer, *, wanted_part: bool) -> None:
        """Check that the body holds the bytes that are still needed."""
        if answer.status == 206 and wanted_part:
            self._check_part(answer)
        elif answer.status == 200:
            if self._size:
                self._log.info("The host sends the whole file again; starting over")
                self._start_over()
            self._learn(answer)
        elif answer.status == 416 and wanted_part:
            self._start_over()
            self._fail(
                "got HTTP 416 for the rest of the file.", "The file has changed, or the host reports a wrong size."
            )
        else:
            self._reject(answer)

    def _check_part(self, answer: Answer) -> None:
        if self._continues(answer):
            self._refuse_if_too_large(self._total or 0)
            return
        self._start_over()
        self._fail(
            "got the wrong part, or a part of another file.", "The file has changed, or the host mixes up files."
        )

    def _reject(self, answer: Answer) -> NoReturn:
        status = answer.status
        body = answer.beginning(_BODY_BYTES, min(_BODY_SECONDS, self._order.timeout))
        said = envelope.read(
            status, answer.headers, body, secrets=self._web.secrets, now=time.time(), max_bytes=_BODY_BYTES
        )
        came = f"got {said.describe()}."
        if status in _EXPIRED:
            self._get_fresh_url(came, status)
        if answer.fails_for_now or status == 204:
            raise _Again(
                self._error(
                    came, "The host can't send the file at the moment.", status=status, retry_after=said.retry_after
                )
            )
        raise self._error(came, "The host refuses to send the file.", status=status)

    def _get_fresh_url(self, came: str, status: int | None) -> NoReturn:
        """Request a new URL from the relay and try again with it: URLs expire."""
        if self._fresh_urls_left and self._order.fresh_url:
            self._fresh_urls_left -= 1
            fresh = self._order.fresh_url()
            if not fresh:
                raise self._error(came, "The relay returned no new URL for it.", status=status)
            self._url = fresh
            self._log.info("The video's URL is no longer valid; the relay returned a new one: %s", shown(self._url))
            raise _Again(
                self._error(came, "The relay returned a new URL, which was not tried.", status=status), at_once=True
            )
        hint = "Give the video's veo_task_id instead of its URL, so that a new URL can be requested."
        raise self._error(
            came,
            f"The URL has expired, or the file is gone. {'' if self._order.fresh_url else hint}".strip(),
            status=status,
        )

    def _continues(self, answer: Answer) -> bool:
        """Whether this is the rest of the same file whose beginning was received."""
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
        """Note what the headers say about the file, before its body is read."""
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
        """Write the bytes to the sink once the container is known."""
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
                f"the connection broke after {self._progress()}: {self._web.describe(error)}.",
                "The file is incomplete.",
            )
        if time.monotonic() >= self._deadline:  # the deadline may also be what ended the body
            raise self._error(
                f"got only {self._progress()} after {self._order.timeout:g} s.",
                "This is the timeout of the download. Raise it, or find out why the host is slow.",
            )
        if failure:
            raise _Again(failure)
        return chunk

    def _whole(self) -> Received:
        """Check the received file at its end."""
        if self._total is not None and self._size != self._total:
            self._fail(f"the connection ended after {self._progress()}.", "The file is incomplete.")
        if not self._size:
            self._fail("got an empty file.", "The host has no video at this URL, or not yet.")
        try:
            missing = self._inspector.finish()
        except NotVideoError as error:
            self._refuse_content(error)
        wrong = self._digests.difference()
        container = self._inspector.container
        if missing or wrong or container is None:
            came = f"got {self._progress()}, but the file is damaged: {missing or wrong}."
            self._start_over()
            self._fail(came, "The host sends a file that is cut off or damaged.")
        self._pass_on(b"")
        is_sure = self._total is not None or bool(self._digests.expected) or self._inspector.tells_its_end
        return Received(self._size, self._sha256.hexdigest(), container, verified=is_sure or self._confirm())

    def _confirm(self) -> bool:
        """Request the bytes after the last one; return whether the host confirms that there are none."""
        found = Evidence.NONE
        with contextlib.suppress(_Again, UrlRefusedError):
            # Without If-Range: a host that does not know the header would send the whole file.
            headers = {"Accept-Encoding": "identity", "Range": f"bytes={self._size}-"}
            with self._request(headers) as answer, answer.ended_after(self._seconds_left()):
                found = evidence(answer, self._size)
        if found is Evidence.MORE:
            came = f"got {self._size} bytes without a length, and the host then reported that the file is longer."
            self._fail(came, "The transfer was cut off.")
        return found is Evidence.COMPLETE

    def _refuse_content(self, error: NotVideoError) -> NoReturn:
        text = envelope.excerpt(error.head.decode("utf-8", "replace"), self._web.secrets) if error.is_text else ""
        self._start_over()
        if error.is_text:
            came = f"got a page instead of the file: “{text}”."
            if self._fresh_urls_left:
                self._get_fresh_url(came, None)
            self._fail(came, "The host sent an error page as if it were the file. Read what the page says.")
        raise self._error(
            f"got a file that is not a video: it begins with {error.head[:16].hex(' ')}.",
            "It is not an MP4, MOV or WebM file. Check that this is the URL of the video.",
            kind=VeoDownloadRefusedError,
        ) from None

    def _refuse_if_too_large(self, size: int) -> None:
        if size > self._order.max_bytes:
            raise self._error(
                f"found that it has {size} bytes{'' if self._total else ' or more'}; "
                f"max_bytes allows {self._order.max_bytes}.",
                "Raise max_bytes to store files of this size.",
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
            f"Nothing was stored. {meaning}",
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
        retry_after = last.error.retry_after if isinstance(last, _Again) else None
        return max(retry_after or 0.0, _backoff(state))

    def _log_retry(self, state: tenacity.RetryCallState) -> None:
        last = state.outcome.exception() if state.outcome else None
        if isinstance(last, _Again) and not last.at_once:
            self._log.warning(
                "%s Retrying in %.1f s from byte %d",
                first_line(last.error),
                state.upcoming_sleep,
                self._size if self._validator else 0,
            )


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return a validator for If-Range: one that changes whenever a byte does (RFC 9110, 8.8.1 and 13.1.5)."""
    etag = headers.get("ETag", "").strip()
    if etag:
        return etag if _STRONG_ETAG.fullmatch(etag) else None
    modified, date = headers.get("Last-Modified", "").strip(), headers.get("Date", "")
    try:
        age = parsedate_to_datetime(date) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return None
    # RFC 9110, 8.8.2.2: two versions of a file may share a date that is too recent.
    return modified if age.total_seconds() >= 60 else None
