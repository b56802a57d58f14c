"""The same kills hit what users would pick instead, for the same job: what each bills twice, and what it loses."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from tests.airflow_lines import XCOM_TABLE
from tests.chaos import harness, killer
from tests.chaos.contenders import (
    CONTENDERS,
    DEFERRABLE,
    OURS,
    ROWS,
    TRIGGERER,
    WORKERS,
    Case,
    cases,
    task_instances,
)
from tests.chaos.plans import prompt
from tests.chaos.verdict import SAID_WHEN_UNKNOWN, show

pytestmark = pytest.mark.timeout(1200)

EACH = int(os.environ.get("VEO_CHAOS_EACH", "5"))
IN_FLIGHT = f"slow=240@prompt=<compare-{CONTENDERS.index(DEFERRABLE)}-,1-{EACH}"
"""The first answers take so long that the triggerer is killed while it waits for them."""


@dataclass(frozen=True)
class Ended:
    """What became of a case."""

    case: Case
    state: str | None
    struck: bool
    videos: list[str]
    """The ids that the relay has accepted."""
    unknown: bool
    """It failed, and said that it can't be known whether the request was accepted."""
    lost: int
    """Accepted videos whose id is in no log, no XCom and no record, and which nothing reported."""

    @property
    def paid_twice(self) -> bool:
        return len(self.videos) > 1


@pytest.fixture(scope="module")
def ended(request, migrated_home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    with harness.running(migrated_home, folder, {"VEO_CHAOS_EACH": str(EACH)}) as place:
        place.relay.configure(generation_seconds=3600)  # until the triggerer is killed, which they wait in
        place.relay.set_faults(IN_FLIGHT)
        kill_the_triggerer(place)
        place.relay.set_faults()
        # So long that a task on a busy machine still finds it running, and can die while it waits.
        place.relay.configure(generation_seconds=15)
        harness.run_to_the_end(place, WORKERS, 900)
        place.services.wait_for(TRIGGERER, harness.RUN_ID, timeout=300)
        ended = what_became_of_them(place)
        show(request, table(ended))
        yield ended


def kill_the_triggerer(place):
    """Kill it when it has sent what it sends, and waits for the rest."""
    inside = {key: case for key, case in task_instances(EACH).items() if key[0] == TRIGGERER}
    place.services.trigger(TRIGGERER, harness.RUN_ID)

    def all_wait() -> bool:
        rows = place.services.task_instances(TRIGGERER, harness.RUN_ID)
        deferred = sum(row.state == "deferred" for row in rows)
        return deferred == len(inside) == place.relay.stats()["accepted"]

    place.services.wait_until(all_wait, what="all tasks to wait in the triggerer")
    place.services.kill("triggerer")
    for case in inside.values():
        killer.write_down(str(place.strikes), case.seed, 1, case.row.name, "kill")
    place.services.start("triggerer")


def what_became_of_them(place) -> list[Ended]:
    airflow, videos = place.services.airflow, harness.accepted_by_prompt(place.relay)
    struck = {strike["seed"] for strike in killer.strikes(place.strikes)}
    states = {dag_id: airflow.states(dag_id) for dag_id in (WORKERS, TRIGGERER)}
    logs = {dag_id: harness.logs_of(airflow, dag_id) for dag_id in (WORKERS, TRIGGERER)}
    tables = airflow.tables()
    known = [tables[XCOM_TABLE], tables["task_state_store"], *(text for log in logs.values() for text in log.values())]
    ended = []
    for (dag_id, task_id, map_index), case in task_instances(EACH).items():
        ids = [video["id"] for video in videos[prompt(case.seed)]]
        state, _ = states[dag_id][task_id, map_index]
        unknown = state == "failed" and SAID_WHEN_UNKNOWN in logs[dag_id][task_id, map_index]
        lost = 0 if unknown else sum(not any(veo_task_id in text for text in known) for veo_task_id in ids)
        ended.append(Ended(case, state, case.seed in struck, ids, unknown, lost))
    return ended


def table(ended: list[Ended]) -> str:
    """Return a Markdown table: what became of the cases of each point, for each contender."""
    lines = [f"| the process dies | {' | '.join(f'`{name}`' for name in CONTENDERS)} |", f"|{' --- |' * 5}"]
    for row in (*ROWS, None):
        cells = [
            _cell([end for end in ended if end.case.contender == name and row in (None, end.case.row)])
            for name in CONTENDERS
        ]
        lines.append(f"| {row.name if row else 'all'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(ended: list[Ended]) -> str:
    counts = {
        "billed twice": sum(end.paid_twice for end in ended),
        "lost": sum(end.lost > 0 for end in ended),
        "reported": sum(end.unknown for end in ended),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{said or 'none'} of {len(ended)}" if ended else "n/a"


def test_ours_is_never_billed_twice_or_lost(ended):
    ours = [end for end in ended if end.case.contender == OURS]
    assert not [end for end in ours if end.paid_twice or end.lost]
    assert all(end.unknown for end in ours if end.state != "success")


def test_the_others_are_billed_twice(ended):
    assert {end.case.contender for end in ended if end.paid_twice} == set(CONTENDERS) - {OURS}


def test_every_case_was_struck_and_came_to_an_end(ended):
    assert len(ended) == len(list(cases(EACH)))
    assert all(end.struck for end in ended), [end.case.seed for end in ended if not end.struck]
    assert {end.state for end in ended} <= {"success", "failed"}
