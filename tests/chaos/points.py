"""
Where a process can die, as data: a point is a call of a function, or its return, and nothing of it is replaced.

A function is named ``module:qualified.name``. It is looked up when it is called, for a module that is imported when a
task runs is not there before.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

_JOURNAL = "airflow_provider_veo.journal:TaskJournal"
_HOOK = "airflow_provider_veo.hooks.sync:VeoHook"
_OPERATOR = "airflow_provider_veo.operators.create:VeoCreateVideoOperator"
ANSWER = "urllib3.connection:HTTPConnection.getresponse"
"""Called when all of a request was sent, to wait for its answer."""


class Point(NamedTuple):
    """A point in a task's process."""

    function: str = ""
    """Its name; empty is any Python function."""
    event: str = "call"
    """``call``; ``return``, also with an exception; or ``result``, a return with a value."""
    after: str = ""
    """Only once this function was called."""
    nth: int = 1
    """1-based number of the event among those of its kind."""
    seconds: float = 0.0
    """To go by between the event and the death, in which the process does nothing."""


BEFORE_THE_INTENT = "before the intent"
IN_THE_STORE = "in the journal's store"
IN_EXECUTE = "anywhere in execute"
AROUND_THE_SUBMIT = "anywhere around the submit"
WHILE_DEFERRED = "while deferred"
"""No point in a task's process: the triggerer is killed."""

POINTS = {
    BEFORE_THE_INTENT: Point(f"{_JOURNAL}.intend"),
    "between intent and send": Point(f"{_JOURNAL}.intend", "return"),
    "after the send, before the answer": Point(ANSWER, after=f"{_HOOK}.submit"),
    "after the answer, before the record": Point(f"{_HOOK}.submit", "result"),
    "after the record, before XCom": Point(f"{_JOURNAL}.accept", "return"),
    "before deferring": Point(f"{_OPERATOR}._defer"),
    "on resuming": Point(f"{_OPERATOR}.execute_complete"),
    "in a synchronous wait": Point("airflow_provider_veo.protocol.waiting:Wait.seconds_to_next"),
    IN_EXECUTE: Point(after=f"{_OPERATOR}.execute"),
    AROUND_THE_SUBMIT: Point(after=f"{_JOURNAL}.intend"),
}
"""The points in a task's process, by name. Those that are drawn from have their details from the plan of a run."""


STORE_CLASSES = {
    store: f"airflow_provider_veo.journal.stores:{name}"
    for store, name in {"state": "TaskStateStore", "file": "ObjectStorage", "memory": "ObjectStorage"}.items()
}
"""What keeps the journal: Airflow's task state store, local files, an object storage in memory."""

STORES = {
    store: (
        *(Point(f"{cls}.{method}", event) for method in ("get", "set", "delete") for event in ("call", "return")),
        *[Point(after=f"{cls}.set")] * 4,
    )
    for store, cls in STORE_CLASSES.items()
}
"""The points in it."""

FREEZES = (
    *(
        (name, POINTS[name])
        for name in (
            BEFORE_THE_INTENT,
            "between intent and send",
            "after the send, before the answer",
            "after the answer, before the record",
            "after the record, before XCom",
        )
    ),
    *(
        (IN_THE_STORE, Point(method, event, nth=nth))
        for (method, event), nth in product((("get", "return"), ("set", "call"), ("set", "return")), (1, 2, 3))
    ),
)
"""Where a worker is frozen that Airflow then thinks dead: at each step of a submission. A method is the store's."""

MODES = {
    "no wait": {},
    "synchronous": {"in a synchronous wait": 2},
    "deferrable": {"before deferring": 2, "on resuming": 2},
}
"""How a task waits, with the points that it alone has and how much more often than others they are drawn."""

AFTER_THE_RECORD = (
    "after the record, before XCom",
    "before deferring",
    "on resuming",
    "in a synchronous wait",
    WHILE_DEFERRED,
)
"""Where the id is on record already: a run that is struck there alone is never unknown."""
