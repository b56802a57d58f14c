"""Interprets the relay's answers: bytes in, a :class:`VideoTask` or the matching :class:`VeoError` out.

A create was accepted (a 2xx with an id), refused (an error that says so), or its outcome is unknown. The last is an
error of its own, :class:`VeoAmbiguousSubmitError`, and never treated as refused: money may have been spent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_veo.protocol import envelope, words
from airflow_provider_veo.protocol.errors import (
    VeoAmbiguousSubmitError,
    VeoAuthenticationError,
    VeoError,
    VeoNotFoundError,
    VeoQuotaError,
    VeoRateLimitError,
    VeoRequestRejectedError,
    VeoResponseError,
    VeoUnavailableError,
    VeoWrongHostError,
)
from airflow_provider_veo.protocol.text import cleaned
from airflow_provider_veo.protocol.video import MAX_ID_CHARACTERS, VideoTask, id_mistake, read_video

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_veo.protocol.envelope import Answer

MAX_BODY_BYTES = 1024 * 1024
"""An answer of this protocol is a few hundred bytes. A larger one is refused unread."""

_NEXT: Mapping[type[VeoError], str] = {
    VeoAuthenticationError: (
        "The relay does not accept the API key, or the key lacks permission. Check the password of the connection."
    ),
    VeoQuotaError: "The account is out of money or quota. Top it up at the relay, then clear this task.",
    VeoRequestRejectedError: "The relay rejected this request and would do so again. Change what it complains about.",
    VeoNotFoundError: "The relay does not know this video: check the id, and that the connection's account made it.",
    VeoRateLimitError: "Too many requests: the relay refuses more for now. It is safe to send the request again later.",
    VeoUnavailableError: "The relay was not reached, or is refusing requests. It is safe to send the request again.",
    VeoWrongHostError: (
        "The answer is not from the relay's API but from a status page, a wrong host or a proxy. Nothing was accepted. "
        "It is safe to send the request again. If this persists, check the host of the connection."
    ),
    VeoResponseError: "The answer can't be understood. Check that the connection's host is a Veo relay.",
    VeoAmbiguousSubmitError: (
        "It can't be known whether the request was accepted: the video may be generated and billed. Look for it at "
        "the relay before sending the request again. If you find it, set existing_veo_task_id to its id."
    ),
}

_NEXT_AFTER_A_REDIRECT = (
    "Redirects are never followed: they would send the API key and a billed request to another address. Set the "
    "connection's host to the relay's own address, with the right scheme."
)

_REFUSED_FOR_GOOD = frozenset({400, 404, 405, 413, 415, 422})
_KIND_BY_CODE: tuple[tuple[frozenset[str], type[VeoError]], ...] = (
    (words.OUT_OF_MONEY, VeoQuotaError),
    (words.OVERLOADED, VeoUnavailableError),
    (words.BAD_KEY, VeoAuthenticationError),
)
"""Codes that mean the same under every status."""
_KIND_BY_CODE_OF_CREATE: tuple[tuple[frozenset[str], type[VeoError]], ...] = (
    *_KIND_BY_CODE,
    (words.OUTCOME_LOST, VeoAmbiguousSubmitError),
)
_KIND_BY_CODE_OF_QUERY: tuple[tuple[frozenset[str], type[VeoError]], ...] = (
    *_KIND_BY_CODE,
    (words.NOT_FOUND, VeoNotFoundError),
    (words.NOT_FETCHED, VeoUnavailableError),
)
_KIND_BY_STATUS: Mapping[int, type[VeoError]] = {
    401: VeoAuthenticationError,
    402: VeoQuotaError,
    403: VeoAuthenticationError,
    429: VeoRateLimitError,
    **dict.fromkeys(_REFUSED_FOR_GOOD, VeoRequestRejectedError),
}


def read(
    status: int,
    headers: Mapping[str, str] | None,
    body: bytes,
    *,
    secrets: Collection[str] = (),
    now: float | None = None,
) -> Answer:
    """Parse an answer without interpreting it. See :func:`parse_create` for the parameters."""
    return envelope.read(status, headers, body, secrets=secrets, now=now, max_bytes=MAX_BODY_BYTES)


def parse_create(
    status: int,
    headers: Mapping[str, str] | None,
    body: bytes,
    *,
    secrets: Collection[str] = (),
    now: float | None = None,
) -> VideoTask:
    """
    Interpret the answer to ``POST /v1/video/create``.

    :param status: HTTP status.
    :param headers: HTTP headers, in any letter case.
    :param body: the body, decoded from its transfer encoding; possibly cut off.
    :param secrets: strings that neither the result nor an error may contain: the API key.
    :param now: epoch seconds, for a ``Retry-After`` date in an answer without ``Date``.
    :raises VeoAmbiguousSubmitError: it may have been accepted.
    :raises VeoError: of another kind: it was not accepted.
    """
    answer = read(status, headers, body, secrets=secrets, now=now)
    video = read_video(answer) if answer.succeeded else None
    if video is None or not video.id:
        raise _error("create a video", answer, _create_error(answer))
    if mistake := id_mistake(video.id, secrets):
        raise _error("create a video", answer, VeoAmbiguousSubmitError, unusable_id=mistake)
    return video


def parse_query(
    status: int,
    headers: Mapping[str, str] | None,
    body: bytes,
    *,
    veo_task_id: str = "",
    secrets: Collection[str] = (),
    now: float | None = None,
) -> VideoTask:
    """
    Interpret the answer to ``GET /v1/video/query``.

    :param veo_task_id: the requested id. It becomes the result's id: the one in the answer may differ and can't be
        polled (family).
    :raises VeoError: ``transient`` if polling again may help.

    The other parameters are those of :func:`parse_create`.
    """
    answer = read(status, headers, body, secrets=secrets, now=now)
    if answer.succeeded:
        video = read_video(answer, veo_task_id=veo_task_id)
        if video is not None and not veo_task_id and id_mistake(video.id, secrets):
            video = replace(video, id="")
        # With this word it is the answer that is an error; of the video, it says nothing.
        is_error = answer.word == words.ERROR and video is not None and video.state != "failed"
        if video is not None and video.status is not None and not is_error:
            return video
    raise _error(f"poll video {veo_task_id}", answer, _query_error(answer), veo_task_id)


def query_error(
    status: int,
    headers: Mapping[str, str] | None,
    body: bytes,
    *,
    veo_task_id: str,
    secrets: Collection[str] = (),
) -> VeoError:
    """Return the error of an answer about a video that has none."""
    answer = read(status, headers, body, secrets=secrets)
    return _error(f"look for the file of video {veo_task_id}", answer, _query_error(answer), veo_task_id)


def parse_models(
    status: int, headers: Mapping[str, str] | None, body: bytes, *, secrets: Collection[str] = ()
) -> list[str]:
    """
    Interpret the answer to ``GET /v1/models``: the names of the models that the key may use.

    The parameters are those of :func:`parse_create`.

    :raises VeoError: of the kind that says what is wrong with the key or the host.
    """
    answer = read(status, headers, body, secrets=secrets)
    rows = answer.content.get("data") if answer.succeeded else None
    if isinstance(rows, list):
        return [
            cleaned(str(row["id"]), secrets, MAX_ID_CHARACTERS) for row in rows if isinstance(row, dict) and "id" in row
        ]
    raise _error("list the models", answer, _query_error(answer))


def _create_error(answer: Answer) -> type[VeoError]:
    """
    Classify a failed create. Anything unlisted is unknown, never refused.

    So is an answer that has the id of a video after all: whatever it says, the next try would send the request again.
    """
    kind = _kind_by(answer, _KIND_BY_CODE_OF_CREATE) or _refusal(answer) or VeoAmbiguousSubmitError
    return VeoAmbiguousSubmitError if answer.any_id(unset=not kind.final) is not None else kind


def _refusal(answer: Answer) -> type[VeoError] | None:
    """Return what an answer without a telling code says about a create; ``None`` if the outcome is unknown."""
    status = answer.effective_status
    if _is_of_another_host(answer):
        return VeoWrongHostError
    if status in _KIND_BY_STATUS:
        return _KIND_BY_STATUS[status]
    if status == 408 or not (answer.is_error if status < 500 else _knows_outcome(answer)):
        return None
    return VeoUnavailableError if status >= 500 else VeoRequestRejectedError


def _kind_by(answer: Answer, table: tuple[tuple[frozenset[str], type[VeoError]], ...]) -> type[VeoError] | None:
    return next((kind for codes, kind in table if answer.has_code(codes)), None)


def _is_of_another_host(answer: Answer) -> bool:
    """Whether something other than the relay answered: a status page, a wrong host or a proxy."""
    return 300 <= answer.status < 400 or (answer.status in (404, 405) and not answer.is_from_relay)


def _knows_outcome(answer: Answer) -> bool:
    """Whether the sender of the answer knows the outcome of the request. Under 2xx, a code must be a word."""
    return answer.is_from_relay and (answer.status >= 300 or any(not code.isdecimal() for code in answer.codes))


def _query_error(answer: Answer) -> type[VeoError]:
    if kind := _kind_by(answer, _KIND_BY_CODE_OF_QUERY):
        return kind
    status = answer.effective_status
    if answer.succeeded and answer.word == words.ERROR:
        return VeoNotFoundError if status == 404 or words.is_not_found(answer.message) else VeoUnavailableError
    if status == 404:
        return VeoNotFoundError
    if _is_of_another_host(answer):
        return VeoWrongHostError
    if status in _KIND_BY_STATUS:
        return _KIND_BY_STATUS[status]
    if status == 408 or status >= 500:
        return VeoUnavailableError
    return VeoResponseError if status < 300 and not answer.is_error else VeoRequestRejectedError


def _error(
    attempt: str,
    answer: Answer,
    kind: type[VeoError],
    veo_task_id: str | None = None,
    *,
    unusable_id: str | None = None,
) -> VeoError:
    happened = f"Tried to {attempt}, and the relay answered {answer.describe()}."
    is_redirect = 300 <= answer.status < 400 and kind is VeoWrongHostError
    next_step = _NEXT_AFTER_A_REDIRECT if is_redirect else _NEXT[kind]
    if unusable_id:
        happened = (
            f"Tried to {attempt}, and the relay answered HTTP {answer.status} with an id that can't be used: it "
            f"{unusable_id}. The answer begins with “{answer.excerpt}”."
        )
    elif kind is VeoAmbiguousSubmitError and (found := answer.any_id(unset=True)) is not None:
        happened += f" It has the id {cleaned(found, answer.secrets, MAX_ID_CHARACTERS)!r}."
    return kind(
        f"{happened}\n{next_step}",
        status_code=answer.status,
        code=answer.code,
        request_id=answer.request_id,
        retry_after=answer.retry_after,
        veo_task_id=veo_task_id,
    )


def no_answer(
    kind: type[VeoError], method: str, url: str, error: BaseException, secrets: Collection[str] = ()
) -> VeoError:
    """
    Return the error for a request that got no answer.

    :param kind: :class:`VeoUnavailableError` or :class:`VeoAmbiguousSubmitError`.
    :param method: HTTP method.
    :param url: URL of the request.
    :param error: the exception raised instead.
    :param secrets: strings that the error must not contain.
    """
    reason = envelope.excerpt(f"{type(error).__name__}: {error}", secrets)
    return kind(f"Tried to {method} {url}, and got no answer: {reason}\n{_NEXT[kind]}")
