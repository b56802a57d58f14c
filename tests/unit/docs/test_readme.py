"""The README: its numbers are those of the measurements and of the files that it describes."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from tests.airflow_lines import NEWEST

PROJECT = Path(__file__).parents[3]
README = (PROJECT / "README.md").read_text("utf-8")
BENCHMARKS = (PROJECT / "docs" / "benchmarks.md").read_text("utf-8")
RELIABILITY = (PROJECT / "docs" / "reliability.md").read_text("utf-8")


def section(heading: str) -> str:
    return README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def block(heading: str) -> list[str]:
    """Return the lines of a section's code block that are not empty."""
    (code,) = re.findall(r"^```\w*\n(.*?)^```$", section(heading), re.MULTILINE | re.DOTALL)
    return [line for line in code.splitlines() if line.strip()]


def row(table: str, first: str) -> list[str]:
    """Return the cells of the one row of a Markdown table that begins with a cell, without bold type."""
    (cells,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", table, re.MULTILINE)
    return [cell.strip(" *") for cell in cells.split("|")]


def test_first_screen_is_in_order():
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    assert headings[:4] == ["Install", "A DAG in ten lines", "Two commands", "Documentation"]
    intro = README.partition("## Install")[0]
    assert re.findall(r"^(!\[|- \*\*|Why)", intro, re.MULTILINE) == ["![", "Why", *["- **"] * 3]


def test_dag_has_ten_lines():
    assert len(block("A DAG in ten lines")) == 10


def test_output_of_the_demo_has_at_most_fifteen_lines():
    assert len(block("Output of `make demo`")) <= 15


def test_counts_of_the_kills_are_those_of_the_comparison():
    sentences = (
        r"`HttpOperator` was billed twice in (\d+) of (\d+) runs and lost a video in (\d+)\. "
        r"`VeoCreateVideoOperator` did neither in (\d+) runs; in (\d+) of them it reported that the outcome"
    )
    twice, runs, lost, ours, reported = re.search(sentences, " ".join(README.split())).groups()
    compared = RELIABILITY.partition("compared with the alternatives")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert row(compared, "the process dies")[0::3] == ["`HttpOperator`", "`VeoCreateVideoOperator`"]
    theirs, of_ours = row(compared, "all")[0::3]
    assert theirs == f"{twice} billed twice, {lost} lost of {runs}"
    assert of_ours == f"{reported} reported of {ours}"


def test_numbers_of_a_batch_and_of_a_triggerer_were_measured():
    assert "makes a thousand videos a night" in README
    assert re.search(r"VeoVideoBatchOperator, \d+ at a time +│ 1000 │", BENCHMARKS)
    assert "polls thousands of videos" in README
    assert int(re.search(r"^(\d+) videos in one loop", BENCHMARKS, re.MULTILINE)[1]) >= 2000


@pytest.mark.parametrize(
    ("way", "measured"),
    [
        ("`VeoVideoSensor(deferrable=True)` after a create: **the default choice**", "`VeoVideoSensor`, deferrable"),
        (
            "the same with `start_from_trigger=True, end_from_trigger=True` (Airflow 3.3)",
            "… with `start_from_trigger` and `end_from_trigger`",
        ),
        ("`deferrable=False`", "`VeoVideoSensor`, poke"),
    ],
)
def test_worker_processes_of_a_wait_were_measured(way, measured):
    waits = 50
    assert "waits for fifty videos" in BENCHMARKS
    processes = int(row(section("How to wait"), way)[1].partition(",")[0])
    assert processes * waits == int(row(BENCHMARKS, measured)[0])


def test_versions_are_the_supported_ones():
    python, oldest, newest = re.search(r"Python (3\.\d+) or newer, Airflow ([\d.]+) to ([\d.]+)\.", README).groups()
    pyproject = (PROJECT / "pyproject.toml").read_text("utf-8")
    assert f'requires-python = ">={python}"' in pyproject
    assert f'"apache-airflow>={oldest}"' in pyproject
    assert newest == "{}.{}".format(*NEWEST)
    lines = {path.stem.removeprefix("airflow-") for path in (PROJECT / "constraints").glob("airflow-*.txt")}
    assert set(re.findall(r"\b[23]\.\d+\b", section("Supported versions"))) == lines


def test_demo_has_as_many_prompts_as_its_spreadsheet():
    with (PROJECT / "dags_examples" / "veo_nightly.csv").open(encoding="utf-8", newline="") as manifest:
        total = len(list(csv.DictReader(manifest)))
    assert f"with its [{total} prompts](dags_examples/veo_nightly.csv)" in " ".join(README.split())
