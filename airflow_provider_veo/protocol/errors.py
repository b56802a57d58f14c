"""What can go wrong, as one tree: a class says what happened, its ``final`` says whether another try can mend it.

The messages never hold an API key: whoever raises one of these has redacted what it quotes.
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

    :param message: what was attempted, what came back, what it means, what to do next.
    :param status_code: HTTP status of the relay's answer, if there was one.
    :param code: the ``code`` (or else ``type``) of the relay's error envelope, if there was one.
    :param request_id: the relay's id of the request, for its support desk.
    :param retry_after: seconds that the relay asks to wait before the next request.
    :param veo_task_id: the video that the error is about, where it is about one.
    """

    final: bool = True
    """No retry can mend it: the Airflow task fails for good, without using up its retries."""

    transient: ClassVar[bool] = False
    """A *query* that ends so is asked again: nothing is paid for a question."""

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
        Return the same error, with more to say.

        :param text: goes below the message.
        :param final: whether no retry can mend it, where that is not what its kind says.
        """
        more = copy.copy(self)
        more.args = (f"{self}\n{text}", *self.args[1:])
        if final is not None:
            more.final = final
        return more

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON knows it, to be carried from a trigger to a task. See :func:`from_dict`."""
        return {"kind": type(self).__name__, "message": str(self), **vars(self)}


class VeoValidationError(VeoError, ValueError):
    """
    Arguments or settings that are wrong. Nothing was sent.

    :param title: what is not valid, and what that means.
    :param mistakes: every mistake found, each ``field: what is wrong, what was given, what is allowed``.
    """

    def __init__(self, title: str, mistakes: Sequence[str] = ()) -> None:
        self.title = title
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join([title, *(f"  - {mistake}" for mistake in self.mistakes)]))

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON knows it."""
        return {"kind": type(self).__name__, "title": self.title, "mistakes": list(self.mistakes)}

    def __reduce__(self) -> tuple[type[VeoValidationError], tuple[str, tuple[str, ...]]]:
        """Pickle by what it was made from: the message is derived."""
        return type(self), (self.title, self.mistakes)


class VeoAuthenticationError(VeoError):
    """The relay doesn't know the key, or the key may not do this (401, 403)."""


class VeoQuotaError(VeoError):
    """The account is out of money or quota: refused until someone tops up."""

    transient = True  # a video that is already paid for can still be asked for


class VeoRequestRejectedError(VeoError):
    """The relay refuses this very request, and would again (400, 422 …)."""


class VeoNotFoundError(VeoError):
    """The relay doesn't know this video, or not yet (404 for a query)."""


class VeoRateLimitError(VeoError):
    """Too many requests: refused for now (429). Safe to send again, later."""

    final = False
    transient = True


class VeoUnavailableError(VeoError):
    """Refused for now, or never reached: a create that ends so was not accepted and is safe to send again."""

    final = False
    transient = True


class VeoNotSentError(VeoError):
    """Nothing was sent: it turned out to be wrong just before the first byte."""

    final = False


class VeoWrongHostError(VeoUnavailableError):
    """Not the relay's application answered: a redirect, a status page, another host (3xx, 404 or 405 without JSON)."""


class VeoAmbiguousSubmitError(VeoError):
    """A create whose answer was lost or makes no sense: it may have been accepted, and be billed."""


class VeoResponseError(VeoError):
    """An answer to a query that can't be understood."""

    final = False
    transient = True


class VeoGenerationFailedError(VeoError):
    """The relay accepted the video and could not generate it. A new submission may fare better."""

    final = False


class VeoJournalError(VeoError):
    """What was submitted before can't be read or written, or another process is submitting. Nothing was sent."""

    final = False


class VeoJournalRecordError(VeoError):
    """The record of what was submitted can't be understood, or could not be written after the submission."""


class VeoTimeoutError(VeoError):
    """The video was not ready within the wait's timeout. It goes on being generated, and is billed."""


class VeoDownloadError(VeoError):
    """The video exists, and its file could not be fetched whole, or not stored."""

    final = False


class VeoDownloadRefusedError(VeoError):
    """A file that is not fetched or not stored: a forbidden address, no video, too large, or another file is there."""


def from_dict(fields: Mapping[str, Any]) -> VeoError:
    """Make the error again that :meth:`VeoError.to_dict` was asked of."""
    arguments = dict(fields)
    kind = {each.__name__: each for each in _kinds(VeoError)}.get(arguments.pop("kind"), VeoError)
    return kind(arguments.pop("title", None) or arguments.pop("message", ""), **arguments)


def _kinds(of: type[VeoError]) -> Iterator[type[VeoError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _kinds(kind)
