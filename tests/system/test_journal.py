"""What a later try, or a task that somebody clears, does about what is on record: through a real scheduler and worker.

The record is in Airflow's task state store. What is on record, and what is asked for, is changed the way a user does
it: in the UI, which uses the same REST API.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.system.conftest import make_airflow
from tests.system.dags_journal.veo_journal import IMAGE
from tests.system.services import Services

DAGS = Path(__file__).parent / "dags_journal"
ANOTHER_IMAGE = "https://example.com/another.png?signature=of-the-image"
CHANGED = {
    "prompt_changed.prompt": "prompt_changed: a paper plane",
    "images_changed.images": ANOTHER_IMAGE,
    "account_changed.veo_conn_id": "veo_second",
}
GARBAGE = {"text_on_record": "yes, it was sent", "object_on_record": {"id": "veo3:1-some-video"}}
FAULTS = (
    "drop-after@prompt=answer_lost:,1",
    "drop-after@prompt=looked_up:,1",
    "drop-after@prompt=resubmitted:,1",
    "status=400@prompt=refused:",
    "rate-limit@prompt=refused_for_now:,1",
    "failed=blocked by policy@prompt=generation_fails:,1",
    "failed=blocked by policy@prompt=generation_fails_deferred:,1",
    "not-found-first=1000@prompt=forgotten:,1",
    "query:status=503@prompt=unreachable:,1-5",
    "rate-limit=1@prompt=asked_for_patience:,1-5",
    "status=400@prompt=own_hook:",
)


@dataclass
class Round:
    """One task instance from the moment it was started or cleared to its end, with all its tries."""

    state: str
    files: list[Path]
    record: object
    xcoms: dict[str, object]
    accepted: list[str]
    """The ids that the relay has given up to then for what this task asked for."""

    @property
    def logs(self) -> list[str]:
        """What each try has logged, and what its exceptions say."""
        return [_read_log(file) for file in self.files]

    @property
    def log(self) -> str:
        return "\n".join(self.logs)


class Story:
    """A DAG run, and what became of its tasks each time that they were cleared."""

    def __init__(self, services, relay, dag_id, run_id="run"):
        self.dag_id = dag_id
        self.run_id = services.trigger(dag_id, run_id)
        self.rounds = {}
        self._services = services
        self._relay = relay
        self._tries = Counter()

    def end(self, timeout=120):
        """Wait for the end of the run, and look at what the tasks that ran have left."""
        self._services.wait_for(self.dag_id, self.run_id, timeout)
        airflow = self._services.airflow
        records = self.records()
        xcoms = airflow.xcoms(self.dag_id, self.run_id)
        for row in airflow.task_instances(self.dag_id, self.run_id):
            name = row.task_id if row.map_index < 0 else f"{row.task_id}[{row.map_index}]"
            tries = range(self._tries[name] + 1, row.try_number + 1)
            self._tries[name] = row.try_number
            if not tries:
                continue
            index = "" if row.map_index < 0 else f"map_index={row.map_index}"
            folder = airflow.home / f"logs/dag_id={self.dag_id}/run_id={self.run_id}/task_id={row.task_id}" / index
            self.rounds.setdefault(name, []).append(
                Round(
                    state=row.state,
                    files=[folder / f"attempt={number}.log" for number in tries],
                    record=records.get(name),
                    xcoms={key: value for (task, key, at), value in xcoms.items() if (task, at) == row[:2]},
                    accepted=self.accepted(name),
                )
            )

    def clear(self, *names):
        """Clear tasks as a user does who wants them to run again, whatever became of them."""
        what = {"dry_run": False, "only_failed": False, "reset_dag_runs": True, "dag_run_id": self.run_id}
        path = f"/api/v2/dags/{self.dag_id}/clearTaskInstances"
        answer = self._services.ask("POST", path, {**what, "task_ids": list(names)})
        assert answer.ok, answer.text

    def records(self):
        rows = self._services.airflow.query(
            "SELECT task_id, map_index, value FROM task_state_store WHERE dag_id = ? AND run_id = ? AND key = ?",
            self.dag_id,
            self.run_id,
            "veo_submission",
        )
        return {task if at < 0 else f"{task}[{at}]": json.loads(value) for task, at, value in rows}

    def accepted(self, name):
        about = {f"{name}:", f"{self.run_id}:"}
        return [video["id"] for video in self._relay.videos() if video["prompt"].split()[0] in about]

    def overwrite(self, name, record):
        self._store("PUT", name, {"value": record})

    def remove(self, name):
        self._store("DELETE", name)

    def _store(self, method, name, document=None):
        path = f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{name}/state-store/veo_submission"
        answer = self._services.ask(method, path, document)
        assert answer.ok, answer.text


def _read_log(file):
    said = []
    for line in map(json.loads, file.read_text().splitlines()):
        said += [str(line["event"]), *(error["exc_value"] for error in line.get("error_detail") or ())]
    return "\n".join(said)


def set_variables(services, values):
    for key, value in values.items():
        answer = services.ask("POST", "/api/v2/variables", {"key": key, "value": value})
        assert answer.ok, answer.text


def clear_what_was_changed(services, main):
    """Run through the rounds of the main DAG: submit, clear after changes, and clear once more on the ways out."""
    main.end()
    ids = {name: main.accepted(name)[0] for name in ("looked_up", "text_on_record")}
    future = {**main.records()["future_on_record"], "format": 2}
    for name, record in {**GARBAGE, "future_on_record": future}.items():
        main.overwrite(name, record)
    set_variables(services, {**CHANGED, "looked_up.existing_veo_task_id": ids["looked_up"]})
    again = ("submits", "waits", "defers", "not_durable", "mapped", "decorated", "answer_lost", "looked_up")
    main.clear(*again, "prompt_changed", "images_changed", "account_changed", *GARBAGE, "future_on_record")
    main.end()

    main.remove("answer_lost")
    main.remove("object_on_record")
    assert services.ask("DELETE", "/api/v2/variables/looked_up.existing_veo_task_id").ok
    set_variables(services, {"text_on_record.existing_veo_task_id": ids["text_on_record"]})
    main.clear("answer_lost", "looked_up", *GARBAGE)
    main.end()


def take_the_store_away(services, relay, before):
    """Clear one task, and start another, while the table of the records is not there. Then put it back."""
    airflow = services.airflow
    airflow.query("ALTER TABLE task_state_store RENAME TO task_state_store_away")
    before.clear("submits")
    fresh = Story(services, relay, "veo_store_away", "store_fresh")

    def failing(story, beyond):
        (row,) = services.task_instances(story.dag_id, story.run_id)
        return row.state == "up_for_retry" or row.try_number > beyond

    services.wait_until(
        lambda: failing(before, 2) and failing(fresh, 1), timeout=90, what="a try of each to fail without the store"
    )
    meanwhile = relay.stats()["accepted_by_prompt"]
    airflow.query("ALTER TABLE task_state_store_away RENAME TO task_state_store")
    before.end()
    fresh.end()
    return SimpleNamespace(before=before.rounds["submits"], fresh=fresh.rounds["submits"], meanwhile=meanwhile)


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("journal") / "airflow"
    shutil.copytree(migrated_home, home)
    with sandbox.running(generation_seconds=1, api_key=CANARY, faults=FAULTS) as relay:
        connections = {f"AIRFLOW_CONN_VEO_{name}": relay.connection for name in ("DEFAULT", "SECOND")}
        airflow = make_airflow(home, DAGS, **connections)
        with Services(airflow, parallelism=6) as services:
            in_vain = Story(services, relay, "veo_asked_for_in_vain")
            in_vain.end()
            in_vain.clear("forgotten", "unreachable")
            main, store, patience, policy = (
                Story(services, relay, *names)
                for names in (
                    ("veo_journal",),
                    ("veo_store_away", "store_before"),
                    ("veo_patience",),
                    ("veo_policy_by_default",),
                )
            )
            store.end()
            clear_what_was_changed(services, main)
            for story in (patience, policy, in_vain):
                story.end()
            away = take_the_store_away(services, relay, store)
        yield SimpleNamespace(
            airflow=airflow,
            away=away,
            rounds={**main.rounds, **in_vain.rounds, **patience.rounds, **policy.rounds},
            sent=Counter(json.loads(request["body"])["prompt"].partition(":")[0] for request in relay.requests()),
            tables=airflow.tables(),
        )


def test_dump(ran):
    import sys
    for name, rounds in ran.rounds.items():
        for r in rounds:
            print("=====", name, r.state, len(r.files), r.record, r.xcoms.keys(), r.accepted, file=sys.stderr)
            for n, l in enumerate(r.logs): print(f"--- try {n}", l, file=sys.stderr)
    for name in ("before", "fresh"):
        for r in getattr(ran.away, name):
            print("=====", name, r.state, len(r.files), r.record, r.xcoms.keys(), r.accepted, file=sys.stderr)
            for n, l in enumerate(r.logs): print(f"--- try {n}", l, file=sys.stderr)
    print(ran.sent, ran.away.meanwhile)
    assert 0
