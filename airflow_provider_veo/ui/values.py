"""
Values of XComs, which are untrusted: anyone who may edit one controls its content.

They are read as text and parsed one by one, so that an unreadable one causes an error card, never a failed query.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.models.xcom import XComModel
from sqlalchemy import Boolean, Text, case, cast, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

_VALUES = ("value", "result")
_MAX_CHARACTERS = 512 * 1024
_NOT_TEXT_IN_POSTGRESQL = (
    # PostgreSQL stores these in columns of type json but can't return them as text: NUL and lone surrogates.
    r"\\u0000|\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f]"
)

_SURELY_SHORT, _LARGEST_JSONB = 4096, 1024 * 1024
"""
Bytes as PostgreSQL stores a value of type jsonb, compressed and not.

It stores numbers in a few bytes and writes them with all their digits: 20 MB of ``1e308`` have more than a gigabyte of
text, at which the query fails. So the size is checked first, which is not that of the compressed value, except that of
a small one.
"""

if TYPE_CHECKING:
    _BooleanFunction = FunctionElement[bool]
else:
    _BooleanFunction = FunctionElement  # before SQLAlchemy 2, it cannot be subscripted


class _IsReadable(_BooleanFunction):
    """Whether the database can extract a field from a JSON value without an error."""

    type = Boolean()
    inherit_cache = True


class _HasShortText(_BooleanFunction):
    """Whether the database can write a JSON value as text without running out of memory."""

    type = Boolean()
    inherit_cache = True


@compiles(_IsReadable)
@compiles(_HasShortText)
def _anywhere(element: Any, compiler: Any, **options: Any) -> str:
    return "1 = 1"


@compiles(_IsReadable, "sqlite")
def _in_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_valid({compiler.process(element.clauses, **options)})"


@compiles(_IsReadable, "postgresql")
def _in_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    value = compiler.process(element.clauses, **options)
    # Airflow's column is of type jsonb, which doesn't store them: no need to search each value, which takes long.
    return (
        f"CASE WHEN {_is_jsonb(value)} THEN {_short_in_postgresql(element, compiler, **options)} "
        f"ELSE CAST({value} AS TEXT) !~* '{_NOT_TEXT_IN_POSTGRESQL}' END"
    )


@compiles(_HasShortText, "postgresql")
def _short_in_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    value = compiler.process(element.clauses, **options)
    return (
        f"CASE WHEN NOT {_is_jsonb(value)} OR pg_column_size({value}) <= {_SURELY_SHORT} THEN true "
        f"WHEN pg_column_size({value}) > {_LARGEST_JSONB} THEN false "
        f"ELSE pg_column_size(jsonb_build_array({value})) <= {_LARGEST_JSONB} END"
    )


def _is_jsonb(value: str) -> str:
    return f"pg_typeof({value}) = 'jsonb'::regtype"


def field(name: str, of: Any = XComModel) -> Any:
    """Return the SQL expression of a field of a value; ``NULL`` if it is missing."""
    # CASE is evaluated in order; AND is not.
    return case((_IsReadable(of.value), of.value[name].as_string()))


def raw(of: Any = XComModel, characters: int = _MAX_CHARACTERS) -> Any:
    """Return the SQL expression of a value as text, ``NULL`` if it is too long; :func:`read` parses it."""
    text = cast(of.value, Text)
    return case((_HasShortText(of.value), case((func.length(text) <= characters, text))))


def read(row: Any) -> Any:
    """Return a row of a query with its values parsed; ``None`` for each that is invalid."""
    columns = dict(row._mapping)
    return SimpleNamespace(**{name: parse(value) if name in _VALUES else value for name, value in columns.items()})


def parse(text: Any) -> Any:
    """Parse a value; ``None`` if it is invalid."""
    if not isinstance(text, str) or len(text) > _MAX_CHARACTERS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
