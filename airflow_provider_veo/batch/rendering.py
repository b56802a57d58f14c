"""Renders templates in manifest prompts, without running code from them.

The author of a manifest is not trusted. A template is parsed, checked against an allowlist, and only then compiled. No
allowed expression calls anything, loops, or makes its input longer, so a template can neither hang the worker nor
exhaust its memory.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import Context

MAX_CHARACTERS = 20_000
"""Maximum length of a template and of a rendered prompt."""

_MAX_NODES = 1_000
_MAX_DEPTH = 30
_MAX_USES = 50
"""Maximum uses of names in a template: each may expand to as many characters as all params have."""
_MAX_PARAMS_CHARACTERS = 100_000
_TEMPLATE = re.compile(r"\{[{%#]")

_OF_THE_LOGICAL_DATE = ("ds", "ds_nodash", "ts", "logical_date", "data_interval_start", "data_interval_end")
_OF_THE_TASK = ("dag_id", "task_id", "run_id", "map_index")
DIFFERS_BETWEEN_SHARDS = ("task_id", "map_index")
"""With these, shards would render the same prompt differently, and disagree on which of them takes it."""
_NAMES = (*_OF_THE_LOGICAL_DATE, *_OF_THE_TASK, "params")
_FILTERS = ("capitalize", "d", "default", "int", "lower", "string", "title", "trim", "upper")
_TESTS = ("defined", "none", "undefined")
_STRUCTURE = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Const,
    nodes.Tuple,
    nodes.List,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Concat,
    nodes.Keyword,
)
_ALLOWED = (
    f"Allowed: the names {', '.join(_NAMES)} (params.name for one of them), constants, if/elif/else, comparisons, "
    f"and/or/not, ~, and the filters {', '.join(_FILTERS)}"
)


class PromptTemplateError(ValueError):
    """A prompt that can't be rendered. The message says why and contains no value of the context."""


def looks_like_template(prompt: Any) -> bool:
    """Whether a prompt is a string that contains a Jinja delimiter."""
    return isinstance(prompt, str) and _TEMPLATE.search(prompt) is not None


def template_values(context: Context, *, is_shard: bool = False) -> dict[str, Any]:
    """
    Return the values that a template may use, as plain strings, numbers, dicts and lists.

    Values that the run lacks are omitted: a run without a logical date has no ``ds``.

    :param is_shard: omit :data:`DIFFERS_BETWEEN_SHARDS`.
    """
    ti = context["ti"]
    values: dict[str, Any] = {name: context.get(name) for name in _OF_THE_LOGICAL_DATE}
    values = {name: str(value) for name, value in values.items() if value is not None}
    values |= {"dag_id": str(ti.dag_id), "task_id": str(ti.task_id), "run_id": str(ti.run_id)}
    values["map_index"] = -1 if ti.map_index is None else int(ti.map_index)
    if is_shard:
        values = {name: value for name, value in values.items() if name not in DIFFERS_BETWEEN_SHARDS}
    try:
        params = json.dumps(dict(context.get("params") or {}), default=str)
    except (TypeError, ValueError, RecursionError):
        return values
    if len(params) <= _MAX_PARAMS_CHARACTERS:
        values["params"] = json.loads(params)
    return values


class PromptRenderer:
    """
    Renders the prompts of a manifest. Each distinct template is compiled once.

    :param values: see :func:`template_values`.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._environment = _Environment(undefined=StrictUndefined, autoescape=False)
        self._known: dict[str, str | PromptTemplateError] = {}

    def __call__(self, template: str) -> str:
        """
        Render a template.

        :raises PromptTemplateError: the template is invalid, uses something that is not allowed or not available, or
            renders to more than :data:`MAX_CHARACTERS`.
        """
        if template not in self._known:
            try:
                self._known[template] = self._render(template)
            except PromptTemplateError as error:
                self._known[template] = error
        rendered = self._known[template]
        if isinstance(rendered, PromptTemplateError):
            raise PromptTemplateError(*rendered.args)
        return rendered

    def _render(self, template: str) -> str:
        if len(template) > MAX_CHARACTERS:
            raise PromptTemplateError(
                f"expected a template of at most {MAX_CHARACTERS:,} characters, got {len(template):,}"
            )
        parts: list[str] = []
        length = 0
        names: set[str] = set()
        try:
            tree = self._environment.parse(template)
            _check(tree)
            names = {name.name for name in tree.find_all(nodes.Name)}
            for part in self._environment.from_string(tree).generate(self._values):
                parts.append(part)
                length += len(part)
                if length > MAX_CHARACTERS:
                    raise PromptTemplateError(f"the rendered prompt is longer than {MAX_CHARACTERS:,} characters")
        except PromptTemplateError:
            raise
        except TemplateSyntaxError as error:
            raise PromptTemplateError(f"invalid template: {error.message:.200} ({_line(error)})") from None
        except UndefinedError as error:
            raise PromptTemplateError(f"{error.message:.200}{self._why_missing(names)}") from None
        except TypeError:
            raise PromptTemplateError(
                "a comparison or filter in the template doesn't fit the type of a value"
            ) from None
        except Exception as error:  # such as RecursionError, or a number with too many digits
            raise PromptTemplateError(f"the template can't be rendered ({type(error).__name__})") from None
        return "".join(parts)

    def _why_missing(self, names: set[str]) -> str:
        missing = names.difference(self._values)
        if missing.intersection(_OF_THE_LOGICAL_DATE):
            return ": this run has no logical date"
        if missing.intersection(DIFFERS_BETWEEN_SHARDS):
            return ": it is not available with shards, because it differs between them"
        if "params" in missing:
            return f": the run's params are not JSON, or longer than {_MAX_PARAMS_CHARACTERS:,} characters"
        return ""


class _Environment(ImmutableSandboxedEnvironment):
    """Has only the allowed filters and tests, no globals and no loader. ``a.b`` is a dict item, never a method."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.globals.clear()
        self.filters = {name: self.filters[name] for name in _FILTERS}
        self.tests = {name: self.tests[name] for name in _TESTS}

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            return obj[argument]
        except (LookupError, TypeError):
            return self.undefined(f"params has no {argument!r:.80}")

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)


def _check(tree: nodes.Template) -> None:
    """
    Reject what is not on the allowlist.

    :raises PromptTemplateError: lists up to ten violations.
    """
    wrong: dict[str, None] = {}
    stack: list[tuple[nodes.Node, int]] = [(tree, 0)]
    seen = uses = 0
    while stack:
        node, depth = stack.pop()
        seen += 1
        if seen > _MAX_NODES or depth > _MAX_DEPTH:
            raise PromptTemplateError(
                f"the template is too complex: expected at most {_MAX_NODES:,} expressions, {_MAX_DEPTH} levels deep"
            )
        uses += isinstance(node, nodes.Name)
        if mistake := _mistake_of(node):
            wrong[mistake] = None
        children = [(child, depth + 1) for child in node.iter_child_nodes()]
        stack += reversed(children)
    if wrong:
        raise PromptTemplateError(f"{'; '.join(list(wrong)[:10])}. {_ALLOWED}")
    if uses > _MAX_USES:
        raise PromptTemplateError(f"expected at most {_MAX_USES} uses of names in the template, got {uses:,}")


def _mistake_of(node: nodes.Node) -> str | None:
    check = _CHECKS.get(type(node), _check_structure)
    mistake = check(node)
    return f"the template {mistake} ({_line(node)})" if mistake else None


def _check_name(node: nodes.Name) -> str | None:
    if node.name not in _NAMES or node.ctx != "load":
        return f"uses {node.name!r:.80}, which is not available"
    return None


def _check_item(node: nodes.Expr) -> str | None:
    return None if _is_item_of_params(node) else "uses an attribute or item of something other than params"


def _check_filter(node: nodes.Filter) -> str | None:
    if node.name not in _FILTERS or node.node is None:
        return f"uses the filter {node.name!r:.80}, which is not allowed"
    if node.name not in ("d", "default") and (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs):
        return f"gives arguments to the filter {node.name}, which is not allowed"
    return None


def _check_test(node: nodes.Test) -> str | None:
    return None if node.name in _TESTS else f"uses the test {node.name!r:.80}, which is not allowed"


def _check_structure(node: nodes.Node) -> str | None:
    return None if type(node) in _STRUCTURE else f"uses {type(node).__name__}, which is not allowed"


_CHECKS: Mapping[type[nodes.Node], Callable[[Any], str | None]] = {
    nodes.Name: _check_name,
    nodes.Getattr: _check_item,
    nodes.Getitem: _check_item,
    nodes.Filter: _check_filter,
    nodes.Test: _check_test,
}


def _is_item_of_params(node: nodes.Expr) -> bool:
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        if isinstance(node, nodes.Getitem) and not (
            isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, (str, int))
        ):
            return False
        node = node.node
    # A name that is not available is reported by _check_name.
    return isinstance(node, nodes.Name) and (node.name == "params" or node.name not in _NAMES)


def _line(error: nodes.Node | TemplateSyntaxError) -> str:
    return f"line {error.lineno} of the prompt"
