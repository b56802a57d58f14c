"""Keep values that a mapped task takes from an XCom from being rendered as templates.

``expand(prompt=xcom)`` does not render them. ``expand_kwargs(xcom)`` renders them with the task's whole context: anyone
who can write that XCom could read connections and Variables through a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context


class RendersNoXComs:
    """An operator that renders only the templates of its DAG file, however it is mapped."""

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
        **others: Any,
    ) -> None:
        """Airflow's own method; ``seen_oids`` are the ids of values that it does not render."""
        fields = list(template_fields)
        data = {id(value) for value in _values_from_xcom(self, fields, context)}
        super()._do_render_template_fields(  # type: ignore[misc]
            parent, fields, context, jinja_env, seen_oids | data, **others
        )


def _values_from_xcom(operator: Any, fields: Iterable[str], context: Context) -> Iterator[Any]:
    mapped = _mapped(operator)
    if mapped is None or not _expands_an_xcom(mapped._get_specified_expand_input().value, context):
        return
    partial = {**_default_args(mapped), **mapped.partial_kwargs}
    for name in fields:
        value = getattr(operator, name, None)
        if name == "op_kwargs" and isinstance(value, Mapping):  # of a decorated function: may mix both kinds
            yield from _others(value, partial.get(name) or {})
        else:
            yield from _others({name: value}, partial)


def _mapped(operator: Any) -> Any:
    """Return the mapped operator that an operator was created from, or ``None``."""
    if not getattr(operator, "_BaseOperator__from_mapped", False):
        return None
    return operator.dag.task_dict[operator.task_id]


def _expands_an_xcom(value: Any, context: Context) -> bool:
    """Whether ``expand_kwargs`` got an XCom, for all map indices or for this one."""
    if isinstance(value, Mapping):  # of expand(), which Airflow handles itself
        return False
    if not isinstance(value, (list, tuple)):
        return True
    index = context["ti"].map_index
    return index is None or not isinstance(value[index], Mapping)


def _default_args(mapped: Any) -> dict[str, Any]:
    """Return the default arguments of the DAG and of the task groups around a task; the innermost wins."""
    found = [mapped.dag.default_args]
    group = mapped.task_group
    inner = []
    while group is not None:
        inner.append(getattr(group, "default_args", None))
        group = group.task_group
    return {name: value for args in (*found, *reversed(inner)) for name, value in (args or {}).items()}


def _others(values: Mapping[str, Any], partial: Mapping[str, Any]) -> Iterator[Any]:
    missing = object()
    return (value for name, value in values.items() if not _is(partial.get(name, missing), value))


def _is(one: Any, other: Any) -> bool:
    """Whether it is the same object, or an equal one: a DAG's default arguments are copied."""
    return one is other or (type(one) is type(other) and bool(one == other))
