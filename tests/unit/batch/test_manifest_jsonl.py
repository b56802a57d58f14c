"""JSONL files: an object or a text in each line, and what people take for that."""

import json

import pytest

from airflow_provider_veo.batch import manifest
from tests.unit.batch.test_manifest import IMAGE, fields, mistake, mistakes, rows


@pytest.mark.parametrize("content", ["", "\ufeff", "\n \n", "\r\n\r\n"])
def test_a_jsonl_file_without_jobs(content):
    assert mistake(content, "prompts.jsonl") == "prompts.jsonl: contains no jobs"


def test_a_jsonl_file_of_objects_and_of_texts():
    lines = [
        json.dumps({"prompt": "牛飞上天了", "images": [IMAGE], "enhance_prompt": False, "key": 7}),
        "",
        '  "a cow, as a text"  ',
        json.dumps({"prompt": "a cow", "extra_body": {"seed": 7, "strength": 0.5}}),
    ]
    found = rows("\ufeff" + "\r\n".join(lines), "prompts.JSONL")
    assert [(row.fields, row.source) for row in found] == [
        (
            {"prompt": "牛飞上天了", "images": [IMAGE], "enhance_prompt": False, "key": 7},
            "prompts.JSONL, line 1",
        ),
        ({"prompt": "a cow, as a text"}, "prompts.JSONL, line 3"),
        ({"prompt": "a cow", "extra_body": {"seed": 7, "strength": 0.5}}, "prompts.JSONL, line 4"),
    ]


@pytest.mark.parametrize("separator", ["\u2028", "\x0c", "\x85"])
def test_only_line_ends_end_a_line(separator):
    text = json.dumps(f"a{separator}b", ensure_ascii=separator == "\x0c") + "\n"
    assert fields(text, "prompts.ndjson") == [{"prompt": f"a{separator}b"}]
    assert fields(f"prompt,model\na{separator}b,veo3\n")[0]["prompt"] == f"a{separator}b"


def test_jsonl_files_that_were_put_together():
    assert len(rows('"a"\n\ufeff"b"\n', "prompts.jsonl")) == 2


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"prompt": "a"', "is not JSON: Expecting ',' delimiter (column 15)"),
        ("a cow", "is not JSON: Expecting value (column 1)"),
        ('{"prompt": "a"} {"prompt": "b"}', "is not JSON: Extra data (column 17)"),
        ("7", "expected an object with a prompt, or a prompt string, got 7"),
        ("null", "expected an object with a prompt, or a prompt string, got None"),
        ('["a"]', "this is a JSON array"),
        ('{"prompt": "a", "prompt": "b"}', "the field 'prompt' is given more than once"),
        ('{"prompt": "a", "extra_body": {"x": 1, "x": 1}}', "the field 'x' is given more than once"),
        ('{"prompt": "a", "extra_body": {"x": NaN}}', "'NaN' is not a JSON number"),
        ('{"prompt": "a", "key": -Infinity}', "'-Infinity' is not a JSON number"),
        ('{"prompt": "a", "key": 1e999}', "'1e999' is not a JSON number"),
        ('{"prompt": "a", "key": ' + "1" * 5000 + "}", "can't be read: a number has too many digits"),
        ("[" * 100_000, "can't be read: a number has too many digits, or objects are nested too deeply"),
        ('{"promt": "a", "prompt": "b"}', "unknown field 'promt' (did you mean prompt?); known are prompt, "),
        ('{"prompt": "b", "Model": "b"}', "unknown field 'Model' (did you mean model?); known are prompt, "),
    ],
    ids=lambda value: value[:40],
)
def test_a_wrong_line_is_named_and_the_others_are_read(line, text):
    found = manifest.read(f'"first"\n\n{line}\n"last"\n'.encode(), "prompts.jsonl")
    (only,) = found.mistakes
    assert only.source == "prompts.jsonl, line 3"
    assert only.text.startswith(text)
    assert {"prompts.jsonl, line 1", "prompts.jsonl, line 4"} <= {row.source for row in found.rows}


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_json_array_named_jsonl_is_reported_as_such(indent):
    text = json.dumps([{"prompt": "a"}, {"prompt": "b"}], indent=indent)
    found = mistake(text, "prompts.jsonl")
    assert found.startswith("prompts.jsonl")
    assert "this is a JSON array, but JSONL has one JSON object per line" in found


def test_json_array_with_an_object_in_each_line_is_reported_as_such():
    assert "a JSON array" in mistake('[{"prompt": "a"},\n{"prompt": "b"}]\n', "prompts.jsonl")


def test_all_mistakes_of_a_file_are_found_at_once():
    text = "\n".join(["{broken", '{"prompt": "a", "x": 1}', "[]", "7", '"ok"', '{"a": 1, "a": 2}'])
    assert [line.partition(":")[0] for line in mistakes(text, "p.jsonl")] == [
        f"p.jsonl, line {number}" for number in (1, 2, 3, 4, 6)
    ]
