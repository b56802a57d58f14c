"""Conversions of rendered template values, which are mostly strings, to what they mean.

A value that can't be converted is returned unchanged, for the schema to reject.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
_NOTHING = ("", "none", "null")
PYTHON_LITERAL_CHARACTERS = 512 << 10
"""
The longest string that is parsed as Python, which takes up to 500 times its size in memory.

JSON has no such limit: a template that pulls a long list should end in ``| tojson``.
"""


def is_nothing(value: Any) -> bool:
    """Whether a rendered value means "not given": ``None``, ``""``, ``"None"``, ``"null"``."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def text(value: Any) -> Any:
    """Strip a string. A number becomes a string (Airflow's native rendering turns ``"42"`` into ``42``)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else value


def boolean(value: Any) -> Any:
    """Read ``"true"``, ``"False"``, ``"1"``, ``0`` and the like as a boolean."""
    if isinstance(value, str):
        return _BOOLEANS.get(value.strip().lower(), value)
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


def literal(value: str) -> Any:
    """Read a string that holds JSON or a Python literal, as templates render lists and dicts."""
    value_text = value.strip()
    parsers = (json.loads, ast.literal_eval) if len(value_text) <= PYTHON_LITERAL_CHARACTERS else (json.loads,)
    for parse in parsers:
        try:
            return parse(value_text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return value


def images(value: Any) -> Any:
    """Read a list, a string that holds a JSON or Python list, or a single image. Return ``None`` for no images."""
    if isinstance(value, str):
        value = value.strip()
        if value.startswith(("[", "(")):
            value = literal(value)
        elif not is_nothing(value):
            value = [value]
    if is_nothing(value):
        return None
    if isinstance(value, str) or not isinstance(value, (Sequence, Iterator)):
        return value
    return [item.strip() if isinstance(item, str) else item for item in value] or None


def mapping(value: Any) -> Any:
    """Read a string that holds a JSON or Python mapping."""
    return literal(value) if isinstance(value, str) and value.strip().startswith("{") else value


def extra_body(value: Any) -> tuple[dict[str, Any], list[str]]:
    """Read a mapping, or a string that holds a JSON or Python one. Return it with the mistakes in it."""
    if is_nothing(value):
        return {}, []
    if isinstance(value, str):
        value = literal(value)
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return {}, [f"extra_body: expected an object with string keys, got {value!r:.200}"]
    try:
        json.dumps(dict(value), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return {}, [f"extra_body: can't be sent as JSON: {error}"]
    return dict(value), []
