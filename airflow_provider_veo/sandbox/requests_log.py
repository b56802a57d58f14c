"""
What was received, and what a real relay would have billed, for tests to inspect afterwards.

No key is kept: the value of `Authorization` is dropped, and the relay's own key is masked everywhere else.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request

KEPT_REQUESTS = 1000
"""Maximum number of requests kept for each endpoint."""
KEPT_BODY = 256 * 1024
"""Maximum bytes kept of each body."""
HIDDEN = "(hidden)"


@dataclasses.dataclass(slots=True)
class Record:
    """One request as received. `status` is what the client saw, `none` if it saw no answer."""

    number: int
    time: float
    endpoint: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    authorized: bool
    body: str
    body_bytes: int
    status: str | None = None


class RequestLog:
    """Counts and the most recent requests, since the start or the last reset."""

    def __init__(self) -> None:
        self.requests: collections.Counter[str] = collections.Counter()
        self.answers: collections.defaultdict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )
        self.accepted_by_prompt: collections.Counter[str] = collections.Counter()
        self._records: dict[str, collections.deque[Record]] = {}
        self._numbers = itertools.count(1)

    def receive(self, request: Request, endpoint: str, body: bytes, api_key: str, authorized: bool) -> Record:
        """Record a received request."""

        def hide(text: str) -> str:
            return text.replace(api_key, HIDDEN)

        self.requests[endpoint] += 1
        headers = {name: hide(value) for name, value in request.headers.items()}
        if "authorization" in headers:
            scheme, space, _ = request.headers["authorization"].partition(" ")
            headers["authorization"] = f"{scheme} {HIDDEN}" if space else HIDDEN
        record = Record(
            number=next(self._numbers),
            time=time.time(),
            endpoint=endpoint,
            method=request.method,
            path=hide(request.scope["raw_path"].decode("ascii")),
            query=hide(request.url.query),
            headers=headers,
            authorized=authorized,
            body=hide(body[:KEPT_BODY].decode("utf-8", "backslashreplace")),
            body_bytes=len(body),
        )
        self._records.setdefault(endpoint, collections.deque(maxlen=KEPT_REQUESTS)).append(record)
        return record

    def answer(self, record: Record, status: str) -> None:
        """Record the status that the client saw."""
        record.status = status
        self.answers[record.endpoint][status] += 1

    def records(self, endpoint: str) -> list[dict[str, Any]]:
        """Return the most recent requests to an endpoint, or to `all` of them, oldest first."""
        wanted = self._records.values() if endpoint == "all" else [self._records.get(endpoint, ())]
        records = sorted(itertools.chain(*wanted), key=lambda record: record.number)
        return [dataclasses.asdict(record) for record in records]

    @property
    def paid_twice(self) -> dict[str, int]:
        """The prompts that were accepted more than once, with their counts."""
        return {prompt: count for prompt, count in self.accepted_by_prompt.items() if count > 1}
