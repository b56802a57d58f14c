"""What PostgreSQL keeps in JSON and fails to return as text must not fail the page's queries."""

from __future__ import annotations

import pytest

from tests.airflow_lines import LINE
from tests.distributed.servers import PostgreSQL

pytestmark = [
    pytest.mark.skipif(LINE < (3, 1), reason="Airflow shows pages of providers from 3.1 on"),
]

VALUES = {
    '{"a": "ok"}': "ok",
    '{"a": "a NUL \\u0000"}': None,
    '{"a": "half \\ud800 of one"}': None,
    '{"a": "the other \\udc00 half"}': None,
    '{"a": "\\ud83d\\ude00"}': "\U0001f600",
    '{"a": "\\u725b"}': "牛",
    '{"a": 1e400}': "1e400",
    "[1]": None,
    '"text"': None,
    "7": None,
}


def test_no_value_of_an_xcom_fails_a_query():
    import sqlalchemy as sa

    from airflow_provider_veo.ui import values

    table = sa.Table("values_of_xcoms", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("value", sa.JSON))

    class Rows:
        value = table.c.value

    with PostgreSQL("values") as server:
        engine = sa.create_engine(server.url)
        with engine.begin() as connection:
            table.create(connection)
            for number, content in enumerate(VALUES):
                statement = sa.text("INSERT INTO values_of_xcoms VALUES (:number, CAST(:content AS json))")
                connection.execute(statement, {"number": number, "content": content})
            found = connection.execute(sa.select(values.field("a", Rows)).order_by(table.c.id)).scalars().all()
            texts = connection.execute(sa.select(values.raw(Rows)).order_by(table.c.id)).scalars().all()
        engine.dispose()
    assert found == list(VALUES.values())
    assert texts == list(VALUES)
