"""
What went over the wire and what would have been charged, for tests to look at afterwards.

No key is kept: the value of `Authorization` never, and the relay's own key is blotted out wherever else it turns up.
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
"""How many of the last requests are kept, for each endpoint."""
KEPT_BODY = 256 * 1024
"""How many bytes of each body are kept."""
HIDDEN = "(hidden)"


@dataclasses.dataclass(slots=True)
class Record:
    """One request as it was received. `status` is what the client saw, `none` if it saw no answer."""

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


class Ledger:
    """Counts and the last requests, since the start or the last reset."""

    def __init__(self) -> None:
        self.requests: collections.Counter[str] = collections.Counter()
        self.answers: collections.defaultdict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )
        self.accepted_by_prompt: collections.Counter[str] = collections.Counter()
        self._records: dict[str, collections.deque[Record]] = {}
        self._numbers = itertools.count(1)

    def receive(self, request: Request, endpoint: str, body: bytes, api_key: str, authorized: bool) -> Record:
        """Enter a request that came in."""

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
        """Enter what the client saw."""
        record.status = status
        self.answers[record.endpoint][status] += 1

    def records(self, endpoint: str) -> list[dict[str, Any]]:
        """Return the last requests to an endpoint, or to `all` of them, in the order in which they came."""
        wanted = self._records.values() if endpoint == "all" else [self._records.get(endpoint, ())]
        records = sorted(itertools.chain(*wanted), key=lambda record: record.number)
        return [dataclasses.asdict(record) for record in records]

    @property
    def paid_twice(self) -> dict[str, int]:
        """How often each prompt was accepted that was accepted more than once."""
        return {prompt: times for prompt, times in self.accepted_by_prompt.items() if times > 1}
