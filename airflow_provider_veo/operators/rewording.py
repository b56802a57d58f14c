"""
``on_blocked``: the user's function that returns another prompt for a video that the safety filter blocked.

It runs on a worker, before anything is submitted. Whatever it does costs nothing and loses nothing: what it returns is
checked like a prompt of the DAG file, and is on record before it is sent.
"""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import determine_kwargs

from airflow_provider_veo.protocol import VeoContentBlockedError, VeoValidationError
from airflow_provider_veo.protocol.text import shortened, storable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_veo.journal import Submission
    from airflow_provider_veo.log import Log
    from airflow_provider_veo.protocol.models import VeoModel

_PROMPT_CHARACTERS_LOGGED, _TRACE_CHARACTERS = 120, 20_000


def blocked_mistakes(attempts_if_blocked: Any, on_blocked: Any) -> list[str]:
    """Return the mistakes in the arguments ``attempts_if_blocked`` and ``on_blocked``."""
    attempts, mistakes = attempts_if_blocked, []
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 0:
        mistakes.append(f"attempts_if_blocked: expected a whole number, 0 or more, got {attempts!r}")
    if on_blocked is not None and not callable(on_blocked):
        mistakes.append(f"on_blocked: expected a function, got {on_blocked!r:.200}")
    return mistakes


def other_prompt(
    on_blocked: Callable[..., Any] | None,
    body: Mapping[str, Any],
    blocked: Submission,
    catalog: Mapping[str, VeoModel],
    log: Log,
) -> str:
    """
    Return another prompt for a blocked video.

    :param on_blocked: called with the prompt, and with those of ``reason`` and ``key`` that it takes.
    :param body: the request that was blocked.
    :param blocked: its record.
    :param catalog: the models to choose from.
    :param log: the task's logger.
    :raises VeoContentBlockedError: there is none: the function raised an error, or returned ``None``.
    :raises VeoValidationError: what it returned is not a valid prompt.
    """
    from airflow_provider_veo.protocol import payload

    veo_task_id, reason = blocked.veo_task_id, str((blocked.video or {}).get("error"))
    try:
        prompt = None if on_blocked is None else _returned(on_blocked, body["prompt"], reason, blocked.key)
    except BaseException as error:
        if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
            raise  # Airflow ends the task
        trace = shortened(traceback.format_exc(), _TRACE_CHARACTERS)
        log.error("on_blocked raised an error for video %s:\n%s", veo_task_id, trace)
        raise VeoContentBlockedError(
            f"Video {veo_task_id} was blocked by the safety filter, and on_blocked raised {type(error).__name__}, see "
            "the log. No other prompt was submitted or billed. A later try calls it again.",
            veo_task_id=veo_task_id,
        ) from error
    if prompt is None:
        raise VeoContentBlockedError(
            f"Video {veo_task_id} was blocked by the safety filter, and on_blocked returned no other prompt. Nothing "
            "more was submitted or billed. A later try calls it again.",
            veo_task_id=veo_task_id,
        )
    try:
        valid: str = payload.reworded(body, prompt, catalog=catalog)["prompt"]
    except VeoValidationError as error:
        raise VeoValidationError(
            f"Video {veo_task_id} was blocked by the safety filter, and on_blocked returned a prompt that is not "
            "valid. It was not submitted or billed. A later try calls it again.",
            error.mistakes,
        ) from error
    log.warning(
        "Video %s was blocked by the safety filter. on_blocked returned another prompt, which is submitted and billed: "
        "%r",
        veo_task_id,
        shortened(storable(valid), _PROMPT_CHARACTERS_LOGGED),
    )
    return valid


def _returned(on_blocked: Callable[..., Any], prompt: str, reason: str, key: str) -> Any:
    named = determine_kwargs(on_blocked, [prompt], {"reason": reason, "key": key})
    returned = on_blocked(prompt, **named)
    repr(returned)  # the error shows it if it is not a prompt, and may be raised here
    return returned
