"""What the relay answered, understood: bytes in, :class:`VideoTask` out, or the right :class:`VeoError`.

For a create the question that costs money is whether the request was accepted. Three answers are possible: yes (a
2xx with an id), no (an error of one of the refusing kinds), and "it can't be known", which is an error of its own,
:class:`VeoAmbiguousSubmitError`, and never confused with "no". For a query nothing is at stake.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_veo.protocol import envelope
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

CREATE_PATH = "/v1/video/create"  # seed
QUERY_PATH = "/v1/video/query"  # family
MODELS_PATH = "/v1/models"  # family

MAX_BODY_BYTES = 1024 * 1024
"""An answer of this protocol is a few hundred bytes. One that is larger than this is refused unread."""

_NEXT: Mapping[type[VeoError], str] = {
    VeoAuthenticationError: (
        "The relay does not accept the API key, or the key may not do this. Check the password of the connection."
    ),
    VeoQuotaError: "The account is out of money or quota. Top it up at the relay, then clear this task.",
    VeoRequestRejectedError: "The relay refuses this request, and would refuse it again. Change what it complains of.",
    VeoNotFoundError: "The relay does not know this video: check the id, and that the connection's account made it.",
    VeoRateLimitError: "Too many requests: the relay refuses for now. It is safe to send the request again later.",
    VeoUnavailableError: "The relay was not reached, or refuses for now. It is safe to send the request again.",
    VeoWrongHostError: (
        "This is not an answer of the relay's API, but of a status page, a wrong host or a proxy. Nothing was "
        "accepted, and it is safe to send the request again. If this lasts, check the host of the connection."
    ),
    VeoResponseError: "The answer can't be understood. Check that the connection's host is a Veo relay.",
    VeoAmbiguousSubmitError: (
        "It can't be known whether the request was accepted: the video may be generated and billed. Look for it at "
        "the relay before sending the request again; if it is there, give its id as existing_veo_task_id."
    ),
}
"""What each kind means, and what to do next."""

_NEXT_AFTER_A_REDIRECT = (
    "The connection's host is not where the relay answers. It is never followed: the API key and a paid request would "
    "go there. Set the host to the relay's own address, with the right scheme."
)

_REFUSED_FOR_GOOD = frozenset({400, 404, 405, 413, 415, 422})
_KIND_BY_STATUS: Mapping[int, type[VeoError]] = {
    401: VeoAuthenticationError,
    402: VeoQuotaError,
    403: VeoAuthenticationError,
    429: VeoRateLimitError,
    **dict.fromkeys(_REFUSED_FOR_GOOD, VeoRequestRejectedError),
}


def parse_create(
    status: int,
    headers: Mapping[str, str] | None,
    body: bytes,
    *,
    secrets: Collection[str] = (),
    now: float | None = None,
) -> VideoTask:
    """
    Understand the answer to ``POST /v1/video/create``.

    :param status: HTTP status.
    :param headers: HTTP headers, in any letter case.
    :param body: the body, decoded from its transfer encoding; possibly cut off.
    :param secrets: texts that neither the result nor an error may repeat: the API key.
    :param now: epoch seconds, to read a ``Retry-After`` that is a date where the answer has no ``Date``.
    :raises VeoAmbiguousSubmitError: it may have been accepted.
    :raises VeoError: of another kind: it was not accepted.
    """
    answer = envelope.read(status, headers, body, secrets=secrets, now=now, max_bytes=MAX_BODY_BYTES)
    if answer.succeeded:
        video = read_video(answer.content, secrets=secrets)
        if video is not None and video.id:
            if mistake := id_mistake(video.id, secrets):
                raise _error("create a video", answer, VeoAmbiguousSubmitError, unusable_id=mistake)
            return video
    raise _error("create a video", answer, _create_error(answer))


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
    Understand the answer to ``GET /v1/video/query``.

    :param veo_task_id: the id that was asked for. It is the result's id: the one in the answer may differ, and can't
        be used to ask again (family).
    :raises VeoError: ``transient`` where asking again may help.

    The other parameters are those of :func:`parse_create`.
    """
    answer = envelope.read(status, headers, body, secrets=secrets, now=now, max_bytes=MAX_BODY_BYTES)
    if answer.succeeded:
        video = read_video(answer.content, veo_task_id=veo_task_id, secrets=secrets)
        if video is not None and not veo_task_id and id_mistake(video.id, secrets):
            video = replace(video, id="")
        if video is not None and video.status is not None:
            return video
    raise _error(f"ask for video {veo_task_id}", answer, _query_error(answer), veo_task_id)


def parse_models(
    status: int, headers: Mapping[str, str] | None, body: bytes, *, secrets: Collection[str] = ()
) -> list[str]:
    """
    Understand the answer to ``GET /v1/models``: the names of the models that the key may use.

    The parameters are those of :func:`parse_create`.

    :raises VeoError: of the kind that says what is wrong with the key or the host.
    """
    answer = envelope.read(status, headers, body, secrets=secrets, now=None, max_bytes=MAX_BODY_BYTES)
    rows = answer.content.get("data") if answer.succeeded else None
    if isinstance(rows, list):
        return [
            cleaned(str(row["id"]), secrets, MAX_ID_CHARACTERS) for row in rows if isinstance(row, dict) and "id" in row
        ]
    raise _error("list the models", answer, _query_error(answer))


def _create_error(answer: Answer) -> type[VeoError]:
    """The error table of a create, top to bottom; what no row names is unknown, never refused."""
    if answer.is_out_of_money:
        return VeoQuotaError
    status = answer.effective_status
    if answer.is_overloaded:
        return VeoUnavailableError
    if _is_of_another_host(answer):
        return VeoWrongHostError
    if status in _KIND_BY_STATUS:
        return _KIND_BY_STATUS[status]
    if status == 408 or not (answer.is_error if status < 500 else _knows(answer)):
        return VeoAmbiguousSubmitError
    return VeoUnavailableError if status >= 500 else VeoRequestRejectedError


def _is_of_another_host(answer: Answer) -> bool:
    """Whether it is not the relay's application that answered, but a status page, a wrong host or a proxy's page."""
    return 300 <= answer.status < 400 or (answer.status in (404, 405) and not answer.is_error)


def _knows(answer: Answer) -> bool:
    """Whether who answered knows what became of the request; under 2xx it is the relay."""
    return answer.is_from_relay or (answer.is_error and answer.status < 300)


def _query_error(answer: Answer) -> type[VeoError]:
    if answer.is_out_of_money:
        return VeoQuotaError
    status = answer.effective_status
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
    decide = _NEXT_AFTER_A_REDIRECT if 300 <= answer.status < 400 else _NEXT[kind]
    if unusable_id:
        happened = (
            f"Tried to {attempt}, and the relay answered HTTP {answer.status} with an id that can't be used: it "
            f"{unusable_id}. The answer begins with “{answer.excerpt}”."
        )
    return kind(
        f"{happened}\n{decide}",
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
    Make the error for a request that got no answer.

    :param kind: :class:`VeoUnavailableError` or :class:`VeoAmbiguousSubmitError`.
    :param method: HTTP method.
    :param url: where it went.
    :param error: what came instead of an answer.
    :param secrets: texts that the error must not repeat.
    """
    reason = envelope.excerpt(f"{type(error).__name__}: {error}", secrets)
    return kind(f"Tried to {method} {url}, and got no answer: {reason}\n{_NEXT[kind]}")
