"""Templates in a manifest's prompts: what they may do, and that they can neither run code nor hang the worker."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import jinja2
import pytest

from airflow_provider_veo.batch import rendering
from airflow_provider_veo.batch.rendering import PromptRenderer, PromptTemplateError

SECRET = "canary-5c1d0f77"
VALUES = {
    "ds": "2026-11-22",
    "run_id": "manual__1",
    "map_index": 3,
    "params": {
        "season": "winter",
        "nested": {"title": "x", "list": ["one", 2]},
        "template": "{{ ds }}",
        "secret": SECRET,
        "large": "x" * 15_000,
    },
}


@pytest.fixture
def render():
    return PromptRenderer(VALUES)


def error(render, template):
    with pytest.raises(PromptTemplateError) as caught:
        render(template)
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("A cow on {{ ds }}, {{ run_id }} {{ map_index }}", "A cow on 2026-11-22, manual__1 3"),
        ("{{ params.season }} {{ params['season'] | upper }}", "winter WINTER"),
        ("{{ params.nested.title }} {{ params.nested.list[1] }}", "x 2"),
        ("{% if params.season == 'winter' %}snow{% elif ds %}sun{% else %}rain{% endif %}", "snow"),
        ("{{ 'snow' if params.season in ['winter', 'autumn'] and not none else 'sun' }}", "snow"),
        ("{{ 'on ' ~ ds ~ '!' }}{# a comment #}", "on 2026-11-22!"),
        ("{{ ts | default('today') }} {{ params.name | default('nobody', true) }}", "today nobody"),
        ("{% if ts is defined %}{{ ts }}{% else %}undated{% endif %}", "undated"),
        ("{% raw %}{{ ds }}{% endraw %}", "{{ ds }}"),
    ],
)
def test_what_a_template_may_do(render, template, expected):
    assert render(template) == expected


def test_a_value_that_looks_like_a_template_is_not_rendered(render):
    assert render("{{ params.template }}") == "{{ ds }}"


@pytest.mark.parametrize("name", ["conn", "var", "macros", "task", "ti", "dag", "dag_run", "nothing", "range", "self"])
def test_a_name_outside_the_list_is_an_error_that_says_what_is_available(render, name):
    text = error(render, f"first\n{{{{ {name}.my_db.password }}}}")
    assert f"the template uses {name!r}, which is not available (line 2 of the prompt)" in text
    assert "Allowed: the names ds, ds_nodash, ts" in text


ATTACKS = [
    "{{ 'a' * 10**9 }}",
    "{{ 10**10**10 }}",
    "{{ ds | center(10**9) }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ ('x' | trim) | replace('x', 'y') }}",
    "{{ params.nested.list | join(params.large) }}",
    "{{ ds.__class__.__mro__ }}",
    "{{ ds.format }}",
    "{{ ds | attr('format') }}",
    "{{ params.items() }}",
    "{{ lipsum(10000) }}",
    "{{ range(100000000) | list }}",
    "{% for a in params %}{% for b in params %}{{ a }}{% endfor %}{% endfor %}",
    "{% set x = ds %}",
    "{% macro f() %}{{ f() }}{% endmacro %}",
    "{% call ds() %}{% endcall %}",
    "{% filter upper %}x{% endfilter %}",
    "{% include '/etc/passwd' %}",
    "{% import 'x' as x %}",
    "{% extends 'x' %}",
    "{% block x %}{% endblock %}",
    "{{ params.large | trim(params.large) }}",
    "{{ ds | upper(*params) }}",
    "{{ params[params.season] }}",
    "{{ params['large'][::1] }}",
    "{{ -1 }}",
]


@pytest.mark.parametrize("template", ATTACKS)
def test_what_is_not_on_the_list_is_never_compiled(render, template, monkeypatch):
    monkeypatch.setattr(rendering._Environment, "compile", lambda *_, **__: pytest.fail("compiled"))
    assert "Allowed: " in error(render, template)


@pytest.mark.parametrize("template", ["{{ params.items }}", "{{ params.__class__ }}", "{{ params.season.title }}"])
def test_an_attribute_is_an_item_and_never_a_method(render, template):
    assert "params has no '" in error(render, template)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ ds }}" + " " * 20_000, "expected a template of at most 20,000 characters, got 20,008"),
        ("{{ " + "not " * 100 + "ds }}", "too complex"),
        ("{{ ds }}" * 1_500, "too complex"),
        ("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "can't be rendered (RecursionError)"),
        ("{{ params.large }}{{ params.large }}", "longer than 20,000 characters"),
        ("{{ params.large ~ params.large }}", "longer than 20,000 characters"),
    ],
)
def test_size_and_depth_are_bounded(render, template, reason):
    assert reason in error(render, template)


@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="this Python reads numbers of any length")
def test_a_huge_number_is_an_error(render):
    assert "can't be rendered (ValueError)" in error(render, "{{ " + "9" * 15_000 + " }}")


def test_no_error_holds_a_value(render):
    templates = [
        "{{ params.secret.x }}",
        "{{ params.secret < 1 }}",
        "{{ params.secret }}" * 2_000,
        "{{ params.secret }} {{ conn }}",
        "{{ params.secret }} {{ ts }}",
    ]
    assert SECRET not in "".join(error(render, template) for template in templates)


def test_each_distinct_template_is_compiled_once(render, monkeypatch):
    compiled = []
    compile = jinja2.Environment.compile
    monkeypatch.setattr(
        jinja2.Environment, "compile", lambda self, *args, **names: compiled.append(1) or compile(self, *args, **names)
    )
    assert {render("a {{ ds }}") for _ in range(100)} == {"a 2026-11-22"}
    assert len(compiled) == 1
    for _ in range(2):
        assert error(render, "{{ ts }}") == "'ts' is undefined: this run has no logical date"
    assert len(compiled) == 2


def context(**fields):
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    return {"ti": ti, "params": {}, **fields}


def test_values_are_plain_copies():
    class Params(dict):
        def __str__(self):
            return SECRET

    class Moment:
        def __str__(self):
            return "2026-11-22 00:00:00+00:00"

    nested = {"list": [1, Moment()]}
    values = rendering.template_values(context(logical_date=Moment(), params=Params(a=nested), ds="2026-11-22"))
    assert values == {
        "ds": "2026-11-22",
        "logical_date": "2026-11-22 00:00:00+00:00",
        "dag_id": "d",
        "task_id": "t",
        "run_id": "r",
        "map_index": -1,
        "params": {"a": {"list": [1, "2026-11-22 00:00:00+00:00"]}},
    }
    assert type(values["params"]) is dict
    assert values["params"]["a"] is not nested


@pytest.mark.parametrize("params", [{"a": "x" * 200_000}, {("a",): 1}])
def test_params_that_are_too_large_or_no_json_are_an_error_only_where_they_are_used(params):
    render = PromptRenderer(rendering.template_values(context(params=params)))
    assert render("{{ dag_id }}") == "d"
    assert "'params' is undefined: the run's params are not JSON, or longer than" in error(render, "{{ params.a }}")


def test_params_can_not_be_joined_to_something_huge():
    renderer = PromptRenderer({"params": {"a": "x" * 99_000}})
    with pytest.raises(PromptTemplateError, match="at most 50 uses of names in the template, got 300"):
        renderer("{{ " + "~".join(["params.a"] * 300) + " }}")
