"""Templates in a manifest's prompts: rendered with a few scalars, and with nothing that runs code or grows.

Whoever writes the manifest is not trusted. A template is parsed, checked against a list of what is allowed, and only
then compiled. No allowed expression calls anything, loops, or makes its input longer, so that a template can neither
hang the worker nor use up its memory.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context

MAX_CHARACTERS = 20_000
"""The longest template, and the longest prompt that one renders to."""

_MAX_NODES = 1_000
_MAX_DEPTH = 30
_MAX_USES = 50
"""Of names in one template: each may stand for as many characters as all params have."""
_MAX_PARAMS_CHARACTERS = 100_000
_TEMPLATE = re.compile(r"\{[{%#]")

_OF_THE_LOGICAL_DATE = ("ds", "ds_nodash", "ts", "logical_date", "data_interval_start", "data_interval_end")
_OF_THE_TASK = ("dag_id", "task_id", "run_id", "map_index")
_NAMES = (*_OF_THE_LOGICAL_DATE, *_OF_THE_TASK, "params")
_FILTERS = ("capitalize", "d", "default", "int", "lower", "string", "title", "trim", "upper")
_TESTS = ("defined", "none", "undefined")
_STRUCTURE = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Tuple,
    nodes.List,
    nodes.Getattr,
    nodes.Getitem,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Concat,
    nodes.Filter,
    nodes.Keyword,
    nodes.Test,
)
_ALLOWED = (
    f"Allowed: the names {', '.join(_NAMES)} (params.name for one of them), constants, if/elif/else, comparisons, "
    f"and/or/not, ~, and the filters {', '.join(_FILTERS)}"
)


class PromptTemplateError(ValueError):
    """A prompt that can't be rendered; the text says why, and holds no value of the context."""


def looks_like_template(prompt: Any) -> bool:
    """Whether a prompt is a string with Jinja's delimiters in it."""
    return isinstance(prompt, str) and _TEMPLATE.search(prompt) is not None


def template_values(context: Context) -> dict[str, Any]:
    """
    Return what a template may use, as plain strings, numbers, dicts and lists.

    What the run does not have is left out: a run without a logical date has no ``ds``.

    :param context: the task's.
    """
    ti = context["ti"]
    values: dict[str, Any] = {name: context.get(name) for name in _OF_THE_LOGICAL_DATE}
    values = {name: str(value) for name, value in values.items() if value is not None}
    values |= {"dag_id": str(ti.dag_id), "task_id": str(ti.task_id), "run_id": str(ti.run_id)}
    values["map_index"] = -1 if ti.map_index is None else int(ti.map_index)
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

    :param values: what the templates may use: see :func:`template_values`.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._environment = _Environment(undefined=StrictUndefined, autoescape=False)
        self._known: dict[str, str | PromptTemplateError] = {}

    def __call__(self, template: str) -> str:
        """
        Render a template.

        :raises PromptTemplateError: it is invalid, uses what is not allowed or not available, or renders to more than
            :data:`MAX_CHARACTERS`.
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
        if "params" in missing:
            return f": the run's params are not JSON, or longer than {_MAX_PARAMS_CHARACTERS:,} characters"
        return ""


class _Environment(ImmutableSandboxedEnvironment):
    """Knows the allowed filters and tests, no globals and no loader. ``a.b`` is an item of a dict, never a method."""

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
    Refuse what is not on the list.

    :raises PromptTemplateError: naming everything that is not.
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
        wrong |= dict.fromkeys(_mistakes_of(node))
        children = [(child, depth + 1) for child in node.iter_child_nodes()]
        stack += reversed(children)
    if wrong:
        raise PromptTemplateError(f"{'; '.join(list(wrong)[:10])}. {_ALLOWED}")
    if uses > _MAX_USES:
        raise PromptTemplateError(f"the template uses names {uses:,} times, and may use them at most {_MAX_USES} times")


def _mistakes_of(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Name):
        if node.name not in _NAMES or node.ctx != "load":
            yield f"the template uses {node.name!r:.80}, which is not available ({_line(node)})"
    elif isinstance(node, (nodes.Getattr, nodes.Getitem)):
        if not _is_item_of_params(node):
            yield f"the template uses an attribute or item of something other than params ({_line(node)})"
    elif isinstance(node, nodes.Filter):
        if node.name not in _FILTERS or node.node is None:
            yield f"the template uses the filter {node.name!r:.80}, which is not allowed ({_line(node)})"
        elif node.name not in ("d", "default") and (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs):
            yield f"the template gives arguments to the filter {node.name}, which is not allowed ({_line(node)})"
    elif isinstance(node, nodes.Test):
        if node.name not in _TESTS:
            yield f"the template uses the test {node.name!r:.80}, which is not allowed ({_line(node)})"
    elif not isinstance(node, _STRUCTURE):
        yield f"the template uses {type(node).__name__}, which is not allowed ({_line(node)})"


def _is_item_of_params(node: nodes.Expr) -> bool:
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        if isinstance(node, nodes.Getitem) and not (
            isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, (str, int))
        ):
            return False
        node = node.node
    # A name that is not available is a mistake of its own.
    return isinstance(node, nodes.Name) and (node.name == "params" or node.name not in _NAMES)


def _line(error: nodes.Node | TemplateSyntaxError) -> str:
    return f"line {error.lineno} of the prompt"
