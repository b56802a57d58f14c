"""The spend of many tasks: bounded, exact, and complete or said to be incomplete. SQL on a table of Airflow's."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from airflow.api_fastapi.core_api.security import PermittedXComFilter
from airflow.models.xcom import XComModel
from sqlalchemy import create_engine, insert, text
from sqlalchemy.orm import Session

from airflow_provider_veo.journal.spend import SPEND
from airflow_provider_veo.ui import spend
from airflow_provider_veo.ui.reads import BusyError
from airflow_provider_veo.ui.videos import Filters

NOW = datetime(2026, 11, 22, 6, tzinfo=timezone.utc)
DAY = NOW.date()
FILTERS = Filters(since=NOW - timedelta(days=29), until=NOW)


def row(day=DAY, model="veo3", cost=0.1, **fields):
    facts = {"videos": 1, "unpriced": 0, "unknown": 0, "cost": cost, "possible_cost": 0, **fields}
    return {"day": str(day), "model": model, **facts}


@pytest.fixture
def read():
    engine = create_engine("sqlite://")
    XComModel.__table__.create(engine)

    def read_from(*records, filters=FILTERS, dag_ids=("nightly",)):
        """Read records, each given as its rows or its text, the newest first."""
        stored = [
            {
                "dag_run_id": index,
                "task_id": "make",
                "run_id": f"r{index}",
                "map_index": -1,
                "key": SPEND,
                "dag_id": dag_ids[index % len(dag_ids)],
                "value": "[]",
                "timestamp": NOW - timedelta(seconds=index),
            }
            for index in range(len(records))
        ]
        contents = [record if isinstance(record, str) else json.dumps(record) for record in records]
        update = text("UPDATE xcom SET value = :value WHERE dag_run_id = :id")
        with Session(engine) as session:
            session.execute(insert(XComModel), stored)
            session.execute(update, [{"value": content, "id": index} for index, content in enumerate(contents)])
            return spend.read(session, PermittedXComFilter(set(dag_ids) - {"secret"}), filters)

    return read_from


def test_amounts_are_added_without_rounding(read):
    view = read(*[[row(cost=0.1)]] * 1000, [row(cost=1e-9)]).view("model")
    assert view["total"]["cost"] == "100.000000001"
    assert [(each["day"], each["cost"]) for each in view["rows"]] == [("2026-11-22", "100.000000001")]


def test_what_may_have_been_billed_is_never_part_of_the_cost(read):
    view = read([row(cost=1, unknown=2, possible_cost=0.5)]).view("model")
    assert (view["total"]["cost"], view["total"]["possible_cost"], view["total"]["unknown"]) == ("1", "0.5", 2)
    assert view["days"][-1] == {"day": "2026-11-22", "parts": ["1"], "cost": "1", "possible_cost": "0.5"}


def test_days_dags_and_models(read):
    days = [DAY, DAY - timedelta(days=1), DAY - timedelta(days=29), DAY - timedelta(days=30), DAY + timedelta(days=1)]
    found = read([row(day) for day in days], [row(model=None)], [row()], dag_ids=("a", "secret", "b"))
    assert {(str(day), dag_id, model) for day, dag_id, model in found.groups} == {
        ("2026-11-22", "a", "veo3"),
        ("2026-11-21", "a", "veo3"),
        ("2026-10-24", "a", "veo3"),
        ("2026-11-22", "b", "veo3"),
    }
    assert [each["day"] for each in found.view("model")["rows"]] == ["2026-11-22"] * 2 + ["2026-11-21", "2026-10-24"]


def test_the_largest_series_have_their_own_bars(read):
    view = read([row(model=f"m{index:02}", cost=index) for index in range(1, 21)]).view("model")
    assert view["series"] == [*(f"m{index:02}" for index in range(20, 12, -1)), "(others)"]
    assert view["days"][-1]["parts"] == ["20", "19", "18", "17", "16", "15", "14", "13", "78"]
    assert len(view["days"]) == 30


@pytest.mark.parametrize(
    "record",
    [
        *("", "{", "[" * 100_000, "7", '"text"', "null", '{"day": 1}', "[[]]", "[null]", "[{}]"),
        json.dumps([row()] * 101),
        json.dumps([row(cost="0.1")]),
        json.dumps([row(cost=True)]),
        json.dumps([row(cost=-0.1)]),
        json.dumps([row(cost=10**13)]),
        json.dumps([row(cost=float("nan"))]),
        json.dumps([row(cost=0)]).replace('"cost": 0', f'"cost": {"9" * 5000}'),
        json.dumps([row(cost=0)]).replace('"cost": 0', '"cost": 1E+999999999'),
        json.dumps([row(videos=1.5)]),
        json.dumps([row(videos=10**10)]),
        json.dumps([row(model=7)]),
        json.dumps([row(day="yesterday")]),
        json.dumps([row(model="x" * 200_000)]),
    ],
)
def test_a_record_that_no_task_pushes_is_counted_and_the_others_are_shown(read, record):
    found = read(record, [row()])
    assert found.unreadable == 1
    assert found.view("model")["total"]["cost"] == "0.1"


def test_an_amount_of_many_digits_is_rounded(read):
    content = json.dumps([row(cost=0)]).replace('"cost": 0', '"cost": 0.1000000000000000055, "x": 1')
    assert read(content).view("model")["total"]["cost"] == "0.1"
    tiny = json.dumps([row(cost=0)]).replace('"cost": 0', '"cost": 1E-999999')
    assert spend._rows(tiny)[0][2].cost == 0


def test_too_many_records_are_cut_and_the_answer_says_so(read, monkeypatch):
    monkeypatch.setattr(spend, "MAX_XCOMS", 1000)
    found = read(*[[row()]] * 1000)
    assert (found.complete_after, found.view("model")["total"]["videos"]) == (None, 1000)


def test_records_of_the_day_before_the_range_may_be_cut(read, monkeypatch):
    monkeypatch.setattr(spend, "MAX_XCOMS", 10)
    tomorrow = Filters(since=NOW + timedelta(days=1), until=NOW + timedelta(days=1))
    assert read(*[[row()]] * 20, filters=tomorrow).complete_after is None


@pytest.mark.parametrize("limit", [("MAX_XCOMS", 10), ("_MAX_CHARACTERS_IN_ALL", 1200)])
def test_each_limit_cuts_the_oldest_records(read, monkeypatch, limit):
    monkeypatch.setattr(spend, *limit)
    found = read(*[[row(model=f"m{index}")] for index in range(20)])
    assert found.complete_after == DAY
    assert "incomplete" in found.file_name
    assert {model for _, _, model in found.groups} == {f"m{index}" for index in range(10)}
    assert found.view("model")["complete_after"] == "2026-11-22"


def test_a_dag_with_endless_models_does_not_hide_what_another_has_cost(read):
    hostile = [[row(model=f"m{index} {number}", cost=1) for number in range(100)] for index in range(101)]
    records = [each for record in hostile for each in (record, [])]
    found = read(*records, [], [row(cost=7)], dag_ids=("evil", "good"))
    assert found.complete_after is None
    assert len(found.groups) == spend.MAX_GROUPS + 2
    assert [str(group.cost) for (_, dag_id, _), group in found.groups.items() if dag_id == "good"] == ["7"]
    assert found.groups[DAY, "evil", "(others)"].cost == 100
    assert found.view("dag_id")["total"]["cost"] == "10107"


def test_endless_days_and_dags_are_bounded_too(read, monkeypatch):
    monkeypatch.setattr(spend, "MAX_GROUPS", 5)
    days = [DAY - timedelta(days=index % 30) for index in range(40)]
    found = read(*[[row(day)] for day in days])
    assert (len(found.groups), found.complete_after) == (11, DAY)


def test_the_table_is_short_and_the_file_has_everything(read):
    days = [DAY - timedelta(days=index % 30) for index in range(100)]
    found = read(*[[row(day, model=f"m{number} {index}") for index, day in enumerate(days)] for number in range(10)])
    view = found.view("model")
    assert (len(view["rows"]), view["more_rows"]) == (500, 500)
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert sum(Decimal(each["cost"]) for each in rows) == Decimal(view["total"]["cost"]) == 100


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "|", "%", " =", "\t=", "\r\n=", "＝", "\u00a0@"])
def test_no_model_is_a_formula(read, begin):
    (_, written) = csv.reader(io.StringIO(read([row(model=f'{begin}cmd|"/C calc",A0')]).csv()))
    assert written[2].startswith("'")
    assert "cmd" in written[2]
    assert len(written) == 8


@pytest.mark.parametrize("separator", [";", ","])
@pytest.mark.parametrize("begin", ["=", ' "=', "'=", "+", "@", "\xa0-"])
def test_no_part_of_a_model_is_a_formula_whatever_the_separator(read, separator, begin):
    (_, line, *_) = read([row(model=f"x{separator}{begin}1+1")]).csv().splitlines()
    (written,) = csv.reader([line])
    cells = [cell.strip(' \xa0"') for cell in line.split(separator)]
    assert "1+1" in written[2]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@"))]


def test_a_range_has_at_most_a_year():
    for since, until in ((date(2000, 1, 1), DAY), (date.min, date.max), (date.min, date.min), (date.max, date.min)):
        midnights = [datetime.combine(each, datetime.min.time(), timezone.utc) for each in (since, until)]
        found = spend.Spent.of(Filters(since=midnights[0], until=midnights[1]))
        assert found.last == until
        assert len(found.view("model")["days"]) <= 366
    assert len(spend.Spent.of(Filters()).view("model")["days"]) == 30


def test_only_a_few_read_at_a_time():
    with contextlib.ExitStack() as reads:
        for _ in range(spend.READS_AT_A_TIME):
            reads.enter_context(spend.at_most_a_few())
        with pytest.raises(BusyError):
            reads.enter_context(spend.at_most_a_few())
    with spend.at_most_a_few():
        pass
