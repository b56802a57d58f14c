"""What documents say of the tests, and whether what is to be copied from them can be read."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.airflow_lines import NEXT, SKIPS

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "compatibility.md").read_text("utf-8")


def test_what_is_skipped_is_in_the_table():
    table = re.findall(r"^\| `(\S+)` \| (.*) \|$", DOCUMENT.partition("## What the tests skip where")[2], re.MULTILINE)
    assert table == [(skip.tests, skip.reason) for skip in SKIPS]


def test_each_reason_names_a_version():
    assert [skip.reason for skip in SKIPS if not re.search(r"\b[23]\.\d+\b", skip.reason)] == []


def test_each_line_has_its_constraints():
    lines = {path.stem.removeprefix("airflow-") for path in (PROJECT / "constraints").glob("airflow-*.txt")}
    assert lines == {"2.11", *(f"3.{minor}" for minor in range(NEXT[1] + 1))}


def test_what_is_to_be_copied_is_yaml():
    text = (PROJECT / "docs" / "scaling.md").read_text("utf-8")
    chart, compose = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    assert chart["triggerer"]["replicas"] == compose["services"]["airflow-triggerer"]["deploy"]["replicas"] == 2
