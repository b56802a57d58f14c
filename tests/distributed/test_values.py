"""One XCom whose text PostgreSQL cannot return, and the page of everybody else. In a real PostgreSQL."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from sqlalchemy import Column, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.orm import Session

from tests.airflow_lines import LINE

if LINE >= (3, 1):
    from airflow.api_fastapi.core_api.security import PermittedXComFilter
    from airflow.models.xcom import XComModel

    from airflow_provider_veo.ui import spend, values
    from airflow_provider_veo.ui.videos import Filters

pytestmark = pytest.mark.skipif(LINE < (3, 1), reason="Airflow shows pages of providers from 3.1 on")

NOW = datetime.now(timezone.utc)
ROW = {"day": str(NOW.date()), "model": "veo3", "videos": 1, "unpriced": 0, "unknown": 0, "cost": 7, "possible_cost": 0}
GIGABYTE_OF_DIGITS = f"[{','.join(['1e308'] * 3_600_000)}]"
"""20 MB as JSON. PostgreSQL writes each number with 309 digits, and no text of more than a gigabyte."""
HONEST = {"prompt": "p" * 20_000, "reason": "é" * 100_000, "numbers": list(range(20_000))}


@pytest.fixture(scope="module")
def engine(postgresql):
    made = create_engine(postgresql.url)
    # Without the keys to Airflow's other tables.
    Table("xcom", MetaData(), *(Column(each.name, each.type) for each in XComModel.__table__.columns)).create(made)
    yield made
    made.dispose()


@pytest.fixture(scope="module", params=["json", "jsonb"])
def stored(engine, request):
    """Store the value of an honest task, and a hostile one, in either type that the column can have."""
    contents = {"veo_spend": json.dumps([ROW]), "veo_video": json.dumps(HONEST, ensure_ascii=False), "progress": "5"}
    keys = [(key, dag_id) for key in contents for dag_id in ("good", "evil")]
    rows = [
        {"dag_run_id": number, "task_id": "make", "run_id": f"r{number}", "map_index": -1, "key": key, "value": 0}
        | {"dag_id": dag_id, "timestamp": NOW}
        for number, (key, dag_id) in enumerate(keys)
    ]
    with Session(engine) as session:
        session.execute(text("DELETE FROM xcom"))
        session.execute(text(f"ALTER TABLE xcom ALTER COLUMN value TYPE {request.param} USING value::{request.param}"))
        session.execute(insert(XComModel), rows)
        for number, (key, dag_id) in enumerate(keys):
            hostile = GIGABYTE_OF_DIGITS if key == "veo_spend" else f'{{"prompt": {GIGABYTE_OF_DIGITS}}}'
            session.execute(
                text(f"UPDATE xcom SET value = CAST(:value AS {request.param}) WHERE dag_run_id = :id"),
                {"value": contents[key] if dag_id == "good" else hostile, "id": number},
            )
        session.commit()
        yield session


def test_numbers_of_a_gigabyte_of_digits_hide_no_other_spend(stored):
    found = spend.read(stored, PermittedXComFilter({"good", "evil"}), Filters())
    assert found.unreadable == 1
    assert [(dag_id, str(row.cost)) for (_, dag_id, _), row in found.groups.items()] == [("good", "7")]


def test_a_field_of_a_gigabyte_of_digits_hides_no_other_video(stored):
    statement = select(XComModel.dag_id, values.raw().label("value")).where(
        XComModel.key == "veo_video", values.field("prompt").is_not(None)
    )
    found = {row.dag_id: values.parse(row.value) for row in stored.execute(statement)}
    assert found["good"] == HONEST
    assert not found.get("evil")
    prompts = select(values.field("prompt")).where(XComModel.key == "veo_video", XComModel.dag_id == "good")
    assert stored.execute(prompts).scalar_one() == HONEST["prompt"]


def test_a_value_that_is_no_object_is_read(stored):
    scalars = select(values.raw(), values.field("folder"))
    its = scalars.where(XComModel.key == "progress", XComModel.dag_id == "good")
    assert tuple(stored.execute(its).one()) == ("5", None)
