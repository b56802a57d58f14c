"""
Faults in the content of answers.

Those in `INSTEAD` answer before the relay processes the request, so that nothing is accepted. Those in `CORRUPTED`
change the relay's own answer.
"""

from __future__ import annotations

import email.utils
import json
import time
from typing import TYPE_CHECKING

from airflow_provider_veo.sandbox.answers import (
    DEFAULT_CODES,
    Answer,
    envelope,
    flat_envelope,
    json_answer,
    page,
    reason,
)
from airflow_provider_veo.sandbox.hosts import parse_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from airflow_provider_veo.sandbox.faults import Fault

ID_NAMES = ("id", "task_id", "taskId", "request_id")
"""Fields that hold an id (family)."""
BUSY = "当前分组上游负载已饱和，请稍后再试"
"""What relays answer when they are busy, and sometimes when the quota is exhausted (family)."""


def _status(fault: Fault, request: Request) -> Answer:
    status, code = fault.value
    return envelope(status, f"sandbox fault: {reason(status)}", code)


def _envelope(fault: Fault, request: Request) -> Answer:
    code, status = fault.value
    return envelope(status or 200, "sandbox fault: the request was refused", code)


def _flat_envelope(fault: Fault, request: Request) -> Answer:
    code, status = fault.value
    return flat_envelope(status or 400, "sandbox fault: the request was refused", code)


def _nested_envelope(fault: Fault, request: Request) -> Answer:
    code, status = fault.value
    inner = {"error": {"message": "sandbox fault: the request was refused", "type": "upstream_error", "code": code}}
    return envelope(status or 500, json.dumps(inner), "do_request_failed", plain=True)


def _error_status(fault: Fault, request: Request) -> Answer:
    return json_answer({"status": "error", "error": fault.value})


def _quota(fault: Fault, request: Request) -> Answer:
    return envelope(fault.value, BUSY, "insufficient_user_quota")


def _rate_limit(fault: Fault, request: Request) -> Answer:
    headers = {} if fault.value is None else {"retry-after": f"{fault.value:.12g}"}
    return envelope(429, BUSY, DEFAULT_CODES[429], headers)


def _rate_limit_date(fault: Fault, request: Request) -> Answer:
    date = email.utils.formatdate(time.time() + fault.value, usegmt=True)
    return envelope(429, BUSY, DEFAULT_CODES[429], {"retry-after": date})


def _redirect(fault: Fault, request: Request) -> Answer:
    # Unlike `path`, raw_path keeps the id percent-encoded.
    path = request.scope["raw_path"].decode("ascii")
    query = f"?{request.url.query}" if request.url.query else ""
    return Answer(307, headers={"location": fault.value or f"{request.base_url}redirected{path}{query}"})


def _redirect_host(fault: Fault, request: Request) -> Answer:
    host, port = parse_host(request.headers["host"])
    other = "127.0.0.1" if host == "localhost" else "localhost"
    path = request.scope["raw_path"].decode("ascii")
    return Answer(307, headers={"location": f"http://{other}:{port or 80}/redirected{path}"})


def _echo_key(fault: Fault, request: Request) -> Answer:
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    return envelope(fault.value, f"sandbox fault: the key {key} may not do this")


INSTEAD: dict[str, Callable[[Fault, Request], Answer]] = {
    "status": _status,
    "bare": lambda fault, request: page(fault.value),
    "envelope": _envelope,
    "flat-envelope": _flat_envelope,
    "nested-envelope": _nested_envelope,
    "error-status": _error_status,
    "quota": _quota,
    "rate-limit": _rate_limit,
    "rate-limit-date": _rate_limit_date,
    "redirect": _redirect,
    "redirect-host": _redirect_host,
    "echo-key": _echo_key,
}
"""The answers given in the relay's place, by fault kind."""


def _no_id(fault: Fault, answer: Answer) -> Answer:
    document = json.loads(answer.body)
    if not isinstance(document.get("data"), dict):
        document.pop("data", None)
    for part in (document, document.get("data", {})):
        for name in ID_NAMES:
            part.pop(name, None)
    return json_answer(document)


def _early_url(fault: Fault, answer: Answer) -> Answer:
    return json_answer(json.loads(answer.body) | {"video_url": fault.value})


def _huge(fault: Fault, answer: Answer) -> Answer:
    start = answer.body.rstrip()[:-1] + b',"padding":"'
    return Answer(answer.status, start.ljust(fault.value - 2, b"x") + b'"}', answer.headers)


def _html_200(fault: Fault, answer: Answer) -> Answer:
    return Answer(200, page(200).body, {"content-type": fault.value})


def _wrong_length(fault: Fault, answer: Answer) -> Answer:
    length = max(0, int(answer.headers["content-length"]) + fault.value)
    return Answer(answer.status, answer.body[:length], answer.headers | {"content-length": str(length)})


CORRUPTED: dict[str, Callable[[Fault, Answer], Answer]] = {
    "bare-after": lambda fault, answer: page(fault.value),
    "empty": lambda fault, answer: Answer(fault.value, headers=_type_of(answer)),
    "no-json": lambda fault, answer: Answer(200, b"ok, your video is on its way", {"content-type": "text/plain"}),
    "no-id": _no_id,
    "early-url": _early_url,
    "huge": _huge,
    "html-200": _html_200,
    "wrong-length": _wrong_length,
}
"""The changes to the relay's answer, by fault kind."""


def _type_of(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name == "content-type"}
