"""A batch in any of its forms, read; and what is wrong with it, in the words that people read."""

import json

import pytest

from airflow_provider_veo.batch import manifest

IMAGE = "https://example.com/a.png"

UTF8_ADVICE = "save the file as UTF-8 (in Excel: Save As > CSV UTF-8)"


def rows(content, name="prompts.csv"):
    found = manifest.read(content if isinstance(content, bytes) else content.encode(), name)
    assert found.mistakes == []
    return found.rows


def fields(content, name="prompts.csv"):
    return [row.fields for row in rows(content, name)]


def mistakes(content, name="prompts.csv"):
    found = manifest.read(content if isinstance(content, bytes) else content.encode(), name)
    return [f"{mistake.source}: {mistake.text}" for mistake in found.mistakes]


def mistake(content, name="prompts.csv"):
    (only,) = mistakes(content, name)
    return only


def lines_read(content, name="prompts.csv"):
    found = manifest.read(content.encode(), name)
    return [row.source for row in found.rows]


@pytest.mark.parametrize("name", ["prompts.xlsx", "prompts.json", "prompts", "csv", "prompts.csv.gz", ""])
def test_other_files_name_what_is_accepted(name):
    assert mistake("prompt\na\n", name) == f"{name}: expected a file whose name ends in .csv, .tsv, .jsonl, .ndjson"


@pytest.mark.parametrize("name", ["prompts.csv", "prompts.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_with_and_without_a_byte_order_mark(name, encoding):
    content = '{"prompt": "牛飞上天了"}\n'.encode(encoding)
    assert mistake(content, name) == f"{name}: is UTF-16, not UTF-8, from offset 0 (line 1) on; {UTF8_ADVICE}"


@pytest.mark.parametrize("name", ["prompts.csv", "prompts.jsonl"])
@pytest.mark.parametrize(
    ("text", "encoding", "byte"), [("eine Kuh im März", "latin-1", "e4"), ("牛飞上天了", "gbk", "b7")]
)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_other_encodings_name_the_byte_its_offset_and_line(name, text, encoding, byte, bom):
    before = bom + b"prompt,model\r\na cow,veo3\r"
    found = mistake(before + text.encode(encoding) + b",veo3\r\n", name)
    offset = len(before) + text.encode(encoding).index(bytes.fromhex(byte))
    assert found.startswith(f"{name}: is not UTF-8: the byte 0x{byte} at offset {offset} (line 3) is invalid")
    assert found.endswith(UTF8_ADVICE)


def test_a_nul_byte_is_named_by_offset_and_line():
    found = mistake(b"prompt,model\na\0cow,veo3\n")
    assert found.startswith("prompts.csv: has a NUL byte at offset 14 (line 2)")
    assert found.endswith(UTF8_ADVICE)


@pytest.mark.parametrize(
    "jobs",
    [
        ["a cow", {"prompt": "a calf", "model": "veo3"}],
        ("a cow", {"prompt": "a calf", "model": "veo3"}),
        '["a cow", {"prompt": "a calf", "model": "veo3"}]',
        " ['a cow', {'prompt': 'a calf', 'model': 'veo3'}]\n",
    ],
    ids=str,
)
def test_jobs_in_every_form(jobs):
    found = manifest.of_jobs(jobs)
    assert found == (
        [
            manifest.Row({"prompt": "a cow"}, "jobs[0]"),
            manifest.Row({"prompt": "a calf", "model": "veo3"}, "jobs[1]"),
        ],
        [],
    )


@pytest.mark.parametrize("jobs", [None, "", "None", "a cow", b"[]", 7, {"prompt": "a"}, '{"prompt": "a"}', {"a"}, "[x"])
def test_what_is_not_a_list_of_jobs(jobs):
    ((source, text),) = manifest.of_jobs(jobs).mistakes
    assert source == "jobs"
    assert text.startswith("expected a list of prompts or of objects, or a string with a JSON or Python list, got")


@pytest.mark.parametrize("jobs", [[], (), "[]"])
def test_no_jobs_at_all(jobs):
    assert manifest.of_jobs(jobs) == ([], [("jobs", "contains no jobs")])


def test_wrong_jobs_are_named_and_the_others_are_read():
    found = manifest.of_jobs(["ok", None, {"promt": "x"}, ["a"], {"prompt": "ok", "key": float("nan")}, {7: 1}])
    assert [row.source for row in found.rows] == ["jobs[0]", "jobs[2]", "jobs[5]"]
    assert [(source, text.partition(";")[0]) for source, text in found.mistakes] == [
        ("jobs[1]", "expected an object with a prompt, or a prompt string, got None"),
        ("jobs[2]", "unknown field 'promt' (did you mean prompt?)"),
        ("jobs[3]", "expected an object with a prompt, or a prompt string, got ['a']"),
        ("jobs[4]", "key: nan is not a value"),
        ("jobs[5]", "unknown field '7'"),
    ]


def test_no_prompt_is_repeated_in_full():
    prompt = "a cow that flies " * 20
    contents = {
        "p.csv": f"{prompt},x\n{prompt},\n",
        "p.tsv": f"prompt\n{prompt}\t{prompt}\n",
        "p.jsonl": "\n".join(
            [prompt, json.dumps({prompt: 1}), json.dumps([prompt]), f'{{"{prompt}": 1, "{prompt}": 2}}']
        ),
    }
    for name, content in contents.items():
        assert mistakes(content, name)
        assert all(prompt not in line and len(line) < 500 for line in mistakes(content, name))
    for jobs in (prompt, [[prompt]], {prompt: 1}, [{prompt: 1}]):
        assert all(prompt not in text for _, text in manifest.of_jobs(jobs).mistakes)
