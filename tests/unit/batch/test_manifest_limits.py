"""Manifests that are made to fill a worker's memory: what is read of them is bounded, and said."""

from __future__ import annotations

import tracemalloc

import pytest

from airflow_provider_veo.batch import jobs, manifest
from airflow_provider_veo.connection import VeoConnection
from airflow_provider_veo.protocol import VeoValidationError, coerce, payload

SETTINGS = VeoConnection("veo_default", "https://relay.example.com", "sk-key", default_model="veo3-fast")


@pytest.fixture
def max_rows(monkeypatch):
    monkeypatch.setattr(manifest, "MAX_ROWS", 100)
    return 100


ROWS = 105


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"prompt\n" + b"a\n" * ROWS, "many.csv"),
        (b'"a"\n' * ROWS, "many.jsonl"),
        (b"x\n" * ROWS, "wrong.jsonl"),
        (b"prompt,model\n" + b"a\n" * ROWS, "wrong.csv"),
    ],
)
def test_manifest_has_a_maximum_number_of_rows(max_rows, content, name):
    found = manifest.read(content, name)
    assert len(found.rows) + len(found.mistakes) == max_rows + 1
    assert found.mistakes[-1] == (name, manifest._TOO_MANY)


def test_as_many_rows_as_allowed_are_read(max_rows):
    assert len(manifest.read(b"prompt\n" + b"a\n" * max_rows, "all.csv").rows) == max_rows
    assert len(manifest.read(b'"a"\n' * max_rows, "all.jsonl").rows) == max_rows
    assert manifest.of_jobs(["a"] * max_rows).mistakes == []
    assert manifest.of_jobs(["a"] * (max_rows + 1)) == ([], [("jobs", manifest._TOO_MANY)])


def test_a_table_is_held_once_while_its_delimiter_is_found():
    content = b"prompt,model\n" + "\n".join(["\U0001f3ac" + "a" * 2000] * 500).encode()
    tracemalloc.start()
    manifest.read(content, "wide.csv")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Decoded, four bytes a character; a copy of that for the csv module; and the cells.
    assert peak < 10 * len(content)


def test_a_long_text_is_read_as_json_only():
    text = "[" + ",".join(['"a"'] * (coerce.PYTHON_LITERAL_CHARACTERS // 4 + 2)) + "]"
    assert len(coerce.literal(text)) > 100_000
    python = text.replace('"', "'")
    assert coerce.literal(python) == python
    assert set(coerce.literal(python[:4000].rpartition(",")[0] + "]")) == {"a"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "images",
    [[f"http://{'a' * 130_000} b"], [{"a": number} for number in range(20_000)], ["http://a.example/x"] * 20_000],
    ids=["a URL with a blank at its end", "objects", "many"],
)
def test_images_that_are_made_to_take_long_are_refused_at_once(images):
    """Each took minutes to hours: by a pattern that tries all ways to cut a text, and by comparing each with each."""
    with pytest.raises(VeoValidationError, match="images"):
        payload.build("a cow", "veo3.1-components", images=images)


@pytest.mark.timeout(60)
def test_nothing_is_rendered_of_a_manifest_with_too_many_rows():
    rows = manifest.read(b"prompt\n" + b"a {{ ds }}\n" * 50, "many.csv")
    rendered = []
    with pytest.raises(VeoValidationError, match="max_videos: expected at most 10 jobs, got 50"):
        jobs.make(rows, defaults={}, settings=SETTINGS, max_videos=10, render=rendered.append)
    assert rendered == []


def test_long_python_list_gets_a_hint_to_use_json():
    text = "[" + "'a'," * (coerce.PYTHON_LITERAL_CHARACTERS // 4 + 2) + "]"
    (mistake,) = manifest.of_jobs(text).mistakes
    assert "| tojson" in mistake.text
