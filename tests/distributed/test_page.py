"""The page *Veo videos* on PostgreSQL, where fifty thousand videos were made, and Airflow has much else."""

from __future__ import annotations

import json
import shutil
import time
from datetime import datetime, timezone
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session

from airflow_provider_veo import sandbox
from tests.airflow_lines import LINE
from tests.distributed.report import tell
from tests.system.conftest import PROJECT, make_airflow
from tests.system.services import Services

pytestmark = pytest.mark.timeout(600)

DAG_ID = "veo_create_video"
DATE = datetime(2026, 1, 1, tzinfo=timezone.utc)
SIZE = {"runs": 500, "each": 100}
HAS_ATTEMPTS = LINE >= (3, 4)
"""Airflow 3.4 keeps XComs per attempt of a task, and calls the map index the one in a region."""
INDEX = "region_index" if HAS_ATTEMPTS else "map_index"
VALUE = """one.value || jsonb_build_object(
    'id', 'veo3-fast:' || run || '-' || map, 'prompt', 'video ' || map || ' of night ' || run,
    'state', (ARRAY['succeeded', 'failed', 'running'])[1 + map % 3]
)"""
TIME = "one.timestamp - (run * :each + map) * interval '1 second'"
MULTIPLIED = (
    """
    INSERT INTO dag_run SELECT (jsonb_populate_record(one, jsonb_build_object(
        'id', one.id + run, 'run_id', 'run_' || run, 'logical_date', one.logical_date + run * interval '1 minute'
    ))).* FROM dag_run one, generate_series(1, :runs) run
    """,
    f"""
    INSERT INTO task_instance SELECT (jsonb_populate_record(one, jsonb_build_object(
        'id', gen_random_uuid(), 'run_id', 'run_' || run, '{INDEX}', map
    ))).* FROM task_instance one, generate_series(1, :runs) run, generate_series(1, :each) map WHERE task_id = 'create'
    """,
    *(
        (
            f"""
            INSERT INTO xcom_v2 SELECT (jsonb_populate_record(one, jsonb_build_object(
                'id', gen_random_uuid(), 'task_instance_id', task_instance.id, 'timestamp', {TIME}, 'value', {VALUE}
            ))).* FROM xcom_v2 one, generate_series(1, :runs) run, generate_series(1, :each) map, task_instance
            WHERE key = 'veo_video' AND task_instance.run_id = 'run_' || run AND task_instance.region_index = map
            """,
            """
            INSERT INTO xcom_v2 SELECT (jsonb_populate_record(one, jsonb_build_object(
                'id', gen_random_uuid(), 'key', 'other_' || number
            ))).* FROM xcom_v2 one, generate_series(1, 5) number, task_instance
            WHERE key = 'veo_video' AND task_instance.id = one.task_instance_id AND task_instance.region_index > 0
            """,
        )
        if HAS_ATTEMPTS
        else (
            f"""
            INSERT INTO xcom SELECT (jsonb_populate_record(one, jsonb_build_object(
                'dag_run_id', one.dag_run_id + run, 'run_id', 'run_' || run, 'map_index', map,
                'timestamp', {TIME}, 'value', {VALUE}
            ))).* FROM xcom one, generate_series(1, :runs) run, generate_series(1, :each) map WHERE key = 'veo_video'
            """,
            """
            INSERT INTO xcom SELECT (jsonb_populate_record(one, jsonb_build_object('key', 'other_' || number))).*
            FROM xcom one, generate_series(1, 5) number WHERE key = 'veo_video' AND map_index > 0
            """,
        )
    ),
    "ANALYZE",
)
AIRFLOWS_OWN = "/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries?xcom_key_pattern=veo_video"
QUESTIONS = {
    "everything": {},
    "a DAG": {"dag_id": DAG_ID},
    "a state": {"state": "failed"},
    "a text": {"text": "night 250"},
    "a model": {"model": "veo3-fast"},
}


@pytest.fixture(scope="module")
def page(postgresql, tmp_path_factory):
    """A night that was, multiplied in the database, with an API server before it."""
    home = tmp_path_factory.mktemp("page") / "airflow"
    with sandbox.running(generation_seconds=0) as relay:
        home.mkdir()
        dags = home.with_name("dags")
        dags.mkdir()
        shutil.copy(PROJECT / "dags_examples" / f"{DAG_ID}.py", dags)
        airflow = make_airflow(
            home,
            dags,
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql.url,
            AIRFLOW_CONN_VEO_DEFAULT=relay.connection,
        )
        airflow.run("db", "migrate")
        with Services(airflow) as services:
            services.wait_for(DAG_ID, services.trigger(DAG_ID, "seed", logical_date=DATE))
            engine = create_engine(postgresql.url)
            with engine.begin() as connection:
                for statement in MULTIPLIED:
                    connection.execute(
                        text(statement), {name: number for name, number in SIZE.items() if f":{name}" in statement}
                    )
            yield SimpleNamespace(engine=engine, services=services)
            engine.dispose()


def plans(engine, filters: dict) -> list[str]:
    """Return how PostgreSQL answers what the page asks it, each plan as JSON."""
    from airflow.api_fastapi.core_api.security import PermittedXComFilter

    from airflow_provider_veo.ui import videos

    asked = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection, cursor, statement, parameters, context, executemany):
        asked.append((statement, parameters))

    with Session(engine) as session:
        found = videos.page(session, PermittedXComFilter({DAG_ID}), videos.Filters(**filters), None, 24)
        assert len(videos.cards_of(session, found.rows)) == 24
    event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        answers = [
            connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar()
            for statement, parameters in asked
            if statement.lstrip().upper().startswith("SELECT")
        ]
    return [json.dumps(answer) for answer in answers]


def nodes(plan: object) -> list[dict]:
    """Return all steps of a plan."""
    if isinstance(plan, list):
        return [node for each in plan for node in nodes(each)]
    if isinstance(plan, dict):
        return [*([plan] if "Node Type" in plan else []), *(node for each in plan.values() for node in nodes(each))]
    return []


@pytest.mark.skipif(HAS_ATTEMPTS, reason="Airflow 3.4.0b2 has no index on the key of an XCom")
@pytest.mark.parametrize("question", QUESTIONS)
def test_videos_are_found_by_an_index(page, question):
    for plan in plans(page.engine, QUESTIONS[question]):
        steps = nodes(json.loads(plan))
        assert steps
        read_through = [each for each in steps if each["Node Type"] == "Seq Scan" and each["Relation Name"] == "xcom"]
        assert read_through == []
    first = plans(page.engine, QUESTIONS[question])[0]
    assert "idx_xcom_key" in first


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_page_of_fifty_thousand(page, question):
    answer, seconds = asked(page, f"/veo/api/videos?{urlencode(QUESTIONS[question])}")
    assert len(answer["videos"]) == 24
    own, seconds_of_airflow = asked(page, f"{AIRFLOWS_OWN}&limit=24")
    assert len(own["xcom_entries"]) == 24
    tell(
        f"a page of 50,000 videos, by {question}: {seconds * 1000:.0f} ms; "
        f"as many XComs in Airflow's own list: {seconds_of_airflow * 1000:.0f} ms"
    )


def asked(page, path: str) -> tuple[dict, float]:
    """Return an answer, and in how many seconds it came at best."""
    took = []
    for _ in range(3):
        began = time.monotonic()
        answer = page.services.ask("GET", path)
        took.append(time.monotonic() - began)
    return answer.json(), min(took)


def test_pages_continue_through_all_of_them(page):
    seen: set[str] = set()
    cursor = ""
    for _ in range(20):
        answer = page.services.ask("GET", f"/veo/api/videos?limit=100&cursor={cursor}").json()
        keys = {each["key"] for each in answer["videos"]}
        assert len(keys) == 100
        assert not keys & seen
        seen |= keys
        cursor = answer["older"]
