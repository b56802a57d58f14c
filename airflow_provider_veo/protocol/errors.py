"""The errors of this provider: a class says what happened, its ``final`` whether a retry can help.

Messages never contain an API key: whoever raises an error redacts what it quotes.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_Error = TypeVar("_Error", bound="VeoError")


class VeoError(Exception):
    """
    Base of all errors of this provider.

    :param message: what failed, what came back, whether money was spent, what to do next.
    :param status_code: HTTP status of the relay's answer, if there was one.
    :param code: ``code`` (or else ``type``) of the relay's error envelope, if there was one.
    :param request_id: the relay's id of the request, for its support.
    :param retry_after: seconds that the relay asks to wait before the next request.
    :param veo_task_id: the video that the error is about, if any.
    """

    final: bool = True
    """No retry can fix it: the Airflow task fails at once, without using its remaining retries."""

    transient: ClassVar[bool] = False
    """A *query* that fails with it is retried: queries cost nothing."""

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        veo_task_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.veo_task_id = veo_task_id

    def adding(self: _Error, text: str, *, final: bool | None = None) -> _Error:
        """
        Return a copy of the error with more text.

        :param text: appended to the message on a new line.
        :param final: overrides the class's ``final``.
        """
        more = copy.copy(self)
        more.args = (f"{self}\n{text}", *self.args[1:])
        if final is not None:
            more.final = final
        return more

    def to_dict(self) -> dict[str, Any]:
        """Return the error as a JSON object, to carry it from a trigger to a task. See :func:`from_dict`."""
        return {"kind": type(self).__name__, "message": str(self), **vars(self)}


class VeoValidationError(VeoError, ValueError):
    """
    Invalid arguments or settings. Nothing was sent.

    :param title: what is not valid, and whether anything was sent.
    :param mistakes: every mistake found, each ``field: what is wrong, what was given, what is allowed``.
    """

    def __init__(self, title: str, mistakes: Sequence[str] = ()) -> None:
        self.title = title
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join([title, *(f"  - {mistake}" for mistake in self.mistakes)]))

    def to_dict(self) -> dict[str, Any]:
        """Return the error as a JSON object."""
        return {"kind": type(self).__name__, "title": self.title, "mistakes": list(self.mistakes)}

    def __reduce__(self) -> tuple[type[VeoValidationError], tuple[str, tuple[str, ...]]]:
        """Pickle the constructor's arguments: the message is derived from them."""
        return type(self), (self.title, self.mistakes)


class VeoAuthenticationError(VeoError):
    """The relay rejects the key, or the key lacks permission (401, 403)."""


class VeoQuotaError(VeoError):
    """The account is out of money or quota: refused until it is topped up."""

    transient = True  # a video that was already billed can still be polled


class VeoRequestRejectedError(VeoError):
    """The relay rejects this request, and would reject it again (400, 422 …)."""


class VeoNotFoundError(VeoError):
    """The relay doesn't know this video, or not yet (404 for a query)."""


class VeoRateLimitError(VeoError):
    """Too many requests: refused for now (429). Safe to retry later."""

    final = False
    transient = True


class VeoUnavailableError(VeoError):
    """The relay refused for now or was not reached. A create was not accepted and is safe to retry."""

    final = False
    transient = True


class VeoNotSentError(VeoError):
    """The request was stopped just before its first byte. Nothing was sent."""

    final = False


class VeoWrongHostError(VeoUnavailableError):
    """Something other than the relay answered: a redirect, a status page, another host (3xx; 404, 405 without JSON)."""


class VeoImageError(VeoError):
    """An image could not be fetched, to upload it with a request. Nothing was sent."""

    final = False


class VeoAmbiguousSubmitError(VeoError):
    """The answer to a create was lost or is invalid: the create may have been accepted and billed."""


class VeoResponseError(VeoError):
    """The answer to a query is invalid."""

    final = False
    transient = True


class VeoGenerationFailedError(VeoError):
    """The relay accepted the video but could not generate it. A new submission may succeed."""

    final = False


class VeoContentBlockedError(VeoGenerationFailedError):
    """
    The safety filter blocked the video.

    This is often a false positive: the same prompt may pass the next time. Several relays refund such videos.
    """


class VeoJournalError(VeoError):
    """The journal can't be read or written, or another process is submitting. Nothing was sent."""

    final = False


class VeoJournalRecordError(VeoError):
    """The record of a submission is invalid, or could not be written after the submission."""


class VeoTimeoutError(VeoError):
    """The video was not ready within the wait's timeout. It is still being generated and will be billed."""


class VeoDownloadError(VeoError):
    """The video exists, but its file could not be fetched completely or stored."""

    final = False


class VeoDownloadRefusedError(VeoError):
    """A file is refused: a forbidden address, not a video, too large, or another file has its name."""


def from_dict(fields: Mapping[str, Any]) -> VeoError:
    """Restore an error from :meth:`VeoError.to_dict`."""
    arguments = dict(fields)
    kind = {each.__name__: each for each in _kinds(VeoError)}.get(arguments.pop("kind"), VeoError)
    return kind(arguments.pop("title", None) or arguments.pop("message", ""), **arguments)


def _kinds(of: type[VeoError]) -> Iterator[type[VeoError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _kinds(kind)
