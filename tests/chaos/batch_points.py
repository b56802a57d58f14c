"""Where a batch's process can die: its own steps, in the thread of its event loop, its journal's and its downloads'."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.chaos.points import WHILE_DEFERRED, Point

if TYPE_CHECKING:
    from random import Random

_BATCH = "airflow_provider_veo.batch"
_OPERATOR = "airflow_provider_veo.operators.batch:VeoVideoBatchOperator"
_BATCH_JOURNAL = "airflow_provider_veo.journal.batch_journal:BatchJournal"
_WRITER = "airflow_provider_veo.journal.writer:JournalWriter"
_ENGINE = f"{_BATCH}.engine:Engine"
_RUN = f"{_BATCH}.run:Run"
_RESULTS = f"{_BATCH}.results:Results"
_CREATE = "airflow_provider_veo.hooks.batch:VeoBatchHook.submit"
_WRITE = "airflow_provider_veo.files.atomic:write_stream"
_STORE = "airflow_provider_veo.storage.store:store_video"
_GIVE_WAY = f"{_BATCH_JOURNAL}.give_way_to_the_newer"
_ANSWER = "aiohttp.client_reqrep:ClientResponse.start"
"""Called when a request is on its way, to wait for its answer."""


class Place(NamedTuple):
    """A step, with the points in it."""

    points: tuple[Point, ...]
    most: int = 1
    """About how many times a process passes this point."""

    def draw(self, chance: Random) -> Point:
        """Return one of its points."""
        point, share = chance.choice(self.points), chance.random()
        # Half of the time among the first ones: later ones are there only where the process has all of the work.
        nth = 1 + int(chance.choice((self.most * share, self.most**share - 1)))
        seconds = chance.choice((0, 0.01, 0.3)) if point.function == _ANSWER else 0.0
        return point._replace(nth=min(nth, self.most), seconds=seconds)


def _around(function: str, **more: str) -> tuple[Point, Point]:
    return Point(function, **more), Point(function, "return", **more)


BEFORE_ANY_INTENT = {
    "at the claim": Place(_around(f"{_BATCH_JOURNAL}.begin")),
    "keeping the jobs": Place(_around(f"{_BATCH}.inputs:settled")),
    "on resuming": Place((Point(f"{_OPERATOR}.execute_complete"),)),
}
AROUND_THE_SUBMIT = {
    "before the intents": Place((Point(f"{_BATCH_JOURNAL}.intend"),), 4),
    "writing the intents": Place(_around(_WRITE, after=f"{_BATCH_JOURNAL}.intend"), 8),
    "giving way": Place(_around(_GIVE_WAY, after=f"{_BATCH_JOURNAL}.intend"), 4),
    "between intents and send": Place((Point(f"{_BATCH_JOURNAL}.intend", "return"),), 4),
    "while sending": Place((Point(_CREATE),), 60),
    "after the send, before the answer": Place((Point(_ANSWER, after=_CREATE),), 40),
    "after the answer, before the record": Place(
        (
            Point("airflow_provider_veo.protocol.responses:parse_create", "result"),
            *_around(f"{_ENGINE}._accepted"),
            Point("airflow_provider_veo.journal.submission:Submission.accepted", "return"),
        ),
        45,
    ),
    "at the record": Place(
        (
            *_around(f"{_BATCH_JOURNAL}.write", after=f"{_ENGINE}._accepted"),
            *_around(_WRITE, after=f"{_ENGINE}._accepted"),
        ),
        6,
    ),
    "in the writer": Place((*_around(f"{_WRITER}._write_group"), *_around(f"{_WRITER}._settle")), 8),
    "anywhere around the submit": Place((Point(after=f"{_BATCH_JOURNAL}.intend"),), 30_000),
}
ANYWHERE = {"anywhere in execute": Place((Point(after=f"{_OPERATOR}._journal"),), 60_000)}
IN_THE_WAIT = {
    "in the wait": Place(
        (Point("airflow_provider_veo.protocol.waiting:Wait.seconds_to_next"), Point(f"{_ENGINE}._ended")), 45
    )
}
AT_THE_END = {
    "at the end of the work": Place((Point(f"{_RUN}._end"), Point(f"{_RUN}.go", "return"))),
}
WHEN_ALL_IS_ON_RECORD = {
    "before the results": Place((Point(f"{_RESULTS}.write"),)),
    "between results and summary": Place((Point(_WRITE, "return", after=f"{_RESULTS}.write"),)),
    "after the results": Place((Point(f"{_RESULTS}.write", "return"),)),
}
BEFORE_DEFERRING = {"before deferring": Place((Point(f"{_OPERATOR}._defer"),))}
IN_THE_DOWNLOAD = "in the download"
DOWNLOADS = {IN_THE_DOWNLOAD: Place((*_around(_STORE), Point(after=_STORE)), 40)}
TIDYING = {
    "tidying the journal": Place(
        (
            *_around(f"{_BATCH_JOURNAL}._tidy"),
            Point(f"{_BATCH_JOURNAL}.write", "return", after=f"{_BATCH_JOURNAL}._tidy"),
            Point("fsspec.implementations.local:LocalFileSystem.rm_file", after=f"{_BATCH_JOURNAL}._tidy"),
        )
    )
}

GROUPS = (
    BEFORE_ANY_INTENT,
    AROUND_THE_SUBMIT,
    ANYWHERE,
    IN_THE_WAIT,
    AT_THE_END,
    WHEN_ALL_IS_ON_RECORD,
    BEFORE_DEFERRING,
    DOWNLOADS,
    TIDYING,
)
PLACES = {name: place for group in GROUPS for name, place in group.items()}
"""All of them, by name."""

HARMLESS = {*BEFORE_ANY_INTENT, *WHEN_ALL_IS_ON_RECORD, *BEFORE_DEFERRING, *TIDYING, WHILE_DEFERRED}
"""Where nothing is on its way: who dies there leaves nothing unknown."""

FREEZES = (
    ("at the claim", Point(f"{_BATCH_JOURNAL}.begin")),
    ("between intents and send", Point(f"{_BATCH_JOURNAL}.intend", "return")),
    ("keeping the jobs", Point(f"{_BATCH}.inputs:settled")),
    ("at the claim", Point(f"{_BATCH_JOURNAL}.begin", "return")),
    ("before the results", Point(f"{_RESULTS}.write")),
    ("keeping the jobs", Point(_WRITE, after=f"{_BATCH}.inputs:settled")),
    (IN_THE_DOWNLOAD, Point(_STORE, nth=3)),
    ("between results and summary", Point(_WRITE, "return", after=f"{_RESULTS}.write")),
    ("before deferring", Point(f"{_OPERATOR}._defer")),
    ("after the answer, before the record", Point(f"{_ENGINE}._accepted", nth=5)),
)
"""Where a worker is frozen that Airflow then thinks dead, so that two processes are at one batch."""


def open_to(*, deferrable: bool, download: bool, tidies: bool) -> list[list[str]]:
    """Return the names of the places to which a batch comes, in their groups."""
    closed = {
        *(IN_THE_WAIT if deferrable else (*BEFORE_DEFERRING, "on resuming")),
        *(() if download else DOWNLOADS),
        *(() if tidies else TIDYING),
    }
    groups = [[name for name in group if name not in closed] for group in GROUPS]
    return [names for names in groups if names]
