"""What people put into a manifest, read; and what is wrong with it, in the words that they read."""

import csv
import io
import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_veo.batch import manifest
from airflow_provider_veo.protocol import coerce

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


def test_a_csv_file_with_every_column():
    header = "key,prompt,model,images,aspect_ratio,enhance_prompt,enable_upsample,extra_body,existing_veo_task_id\n"
    row = f'a,a cow,veo3.1,{IMAGE},9:16,TRUE,no,"{{""seed"": 7}}",veo3.1:1\n'
    assert fields(header + row) == [
        {
            "key": "a",
            "prompt": "a cow",
            "model": "veo3.1",
            "images": [IMAGE],
            "aspect_ratio": "9:16",
            "enhance_prompt": "TRUE",
            "enable_upsample": "no",
            "extra_body": '{"seed": 7}',
            "existing_veo_task_id": "veo3.1:1",
        }
    ]


def test_an_empty_cell_is_a_field_that_is_not_given():
    assert fields("prompt,model,images,aspect_ratio\na cow,, ,None\n") == [{"prompt": "a cow"}]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_ending_with_and_without_a_byte_order_mark(bom, end):
    text = end.join(["prompt,model", "牛飞上天了,veo3", "a cow,veo2", ""])
    found = rows(bom + text.encode())
    assert [row.fields["prompt"] for row in found] == ["牛飞上天了", "a cow"]
    assert [row.source for row in found] == ["prompts.csv, line 2", "prompts.csv, line 3"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_cells_of_many_lines_keep_them_and_the_rows_behind_know_their_line(end):
    text = end.join(["", "prompt,model", '"a cow', 'flies, ""high""', '",veo3', "", '"x', 'y",veo3', "z,veo3"])
    found = rows(text)
    assert [row.fields["prompt"] for row in found] == ['a cow\nflies, "high"\n', "x\ny", "z"]
    assert [row.source for row in found] == ["prompts.csv, line 3", "prompts.csv, line 7", "prompts.csv, line 9"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["prompts.csv", "s3://bucket/nightly/PROMPTS.TSV"])
def test_the_delimiter_is_found_out_from_the_header(delimiter, name):
    other = ";" if delimiter != ";" else ","
    text = f"key{delimiter}prompt\n1{delimiter}a{other} b\n"
    assert fields(text, name) == [{"key": "1", "prompt": f"a{other} b"}]


def test_a_single_column_of_a_tsv_file_may_hold_commas():
    assert fields("prompt\na cow, flying; high\n", "prompts.tsv") == [{"prompt": "a cow, flying; high"}]


def test_column_names_in_any_letter_case_and_with_blanks():
    assert fields(' Prompt ,"MODEL"\na cow,veo3\n') == [{"prompt": "a cow", "model": "veo3"}]


def test_blanks_around_a_quoted_cell_are_none_of_it():
    assert fields('prompt,model\n"a cow, flying" , "veo3"\n') == [{"prompt": "a cow, flying", "model": "veo3"}]


def test_a_quote_within_a_cell_that_is_not_quoted_is_a_quote():
    assert fields('prompt,model\na 5" disk,veo3\n')[0]["prompt"] == 'a 5" disk'


def test_columns_and_rows_that_spreadsheets_leave_empty_are_ignored():
    text = "prompt,,model,,\n,,,,\na cow,,veo3,,,,\n , ,,,\n\nx,,,\n"
    assert fields(text) == [{"prompt": "a cow", "model": "veo3"}, {"prompt": "x"}]


@pytest.mark.parametrize(
    ("cell", "images"),
    [
        ("https://a/1.png", ["https://a/1.png"]),
        (" https://a/1.png | https://a/2.png ", ["https://a/1.png", "https://a/2.png"]),
        ("https://a/1.png|", ["https://a/1.png"]),
        ("|", []),
        ("data:image/png;base64,AA==|https://a/2", ["data:image/png;base64,AA==", "https://a/2"]),
        ("['https://a/1.png']", "['https://a/1.png']"),
        ("[]", "[]"),
    ],
)
def test_images_are_separated_by_bars(cell, images):
    assert fields(f"prompt\timages\na cow\t{cell}\n") == [{"prompt": "a cow", "images": images}]


@pytest.mark.parametrize(
    ("cell", "meant"),
    [("16:09", "16:9"), ("16:09:00", "16:9"), ("09:16", "9:16"), ("9:16:00", "9:16"), ("4:03", "4:03")],
)
def test_an_aspect_ratio_that_a_spreadsheet_took_for_a_time(cell, meant):
    assert fields(f"prompt,aspect_ratio\na cow,{cell}\n")[0]["aspect_ratio"] == meant


def test_an_image_of_megabytes_is_read_and_the_csv_module_keeps_its_limit():
    limit = csv.field_size_limit()
    image = "data:image/png;base64," + "A" * 3_000_000
    assert fields(f'prompt\timages\na cow\t{image}\na cow\t"{image}"\n') == [{"prompt": "a cow", "images": [image]}] * 2
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("cell", ["x" * 1_000_000, '"' + "x, y\n" * 200_000 + '"', '"' + '""' * 100_000 + '"'])
def test_a_cell_of_a_million_characters_is_a_quote_that_is_not_closed(cell):
    found = manifest.read(f"prompt,model\nok,veo3\n{cell},veo3\nok,veo2\n".encode(), "prompts.csv")
    (only,) = found.mistakes
    assert only.source == "prompts.csv, line 3"
    assert "characters, more than a spreadsheet's can have (32,767): a quote is probably not closed" in only.text
    assert len(only.text) < 200
    assert [row.fields["prompt"] for row in found.rows] == ["ok", "ok"]


def test_a_cell_that_is_too_long_is_named_by_the_line_where_it_begins():
    text = f'key,prompt\n"a\nb","{"x" * 40_000}"\n'
    assert mistake(text).startswith("prompts.csv, line 3: a cell has 40,000 characters")


def test_a_quote_that_is_not_closed_names_the_line_where_the_cell_began():
    text = 'key,prompt\n1,"ok\nok"\n2,"a cow\n3,a cow\n4,a cow\n'
    assert mistake(text).startswith("prompts.csv, line 4: a quoted cell begins in this line, and is not closed")
    assert lines_read(text) == ["prompts.csv, line 2"]


def test_a_quote_that_another_cells_quote_closes_names_the_line_where_the_cell_began():
    text = 'key,prompt\n2,"a cow\n3,"a calf"\n4,a cow\n'
    assert mistake(text).startswith("prompts.csv, line 2: a quoted cell begins in this line, and is not closed")


def test_a_quote_in_a_quoted_cell_spoils_its_line_only():
    text = 'key,prompt\n1,"say "moo" loudly"\n2,a cow\n3,"and "moo" again"'
    assert mistakes(text) == [
        f"prompts.csv, line {line}: a quoted cell goes on after its closing quote: "
        'a quote inside a quoted cell is written twice ("")'
        for line in (2, 4)
    ]
    assert lines_read(text) == ["prompts.csv, line 3"]


def test_a_header_with_a_broken_quote_is_all_that_is_said():
    assert mistake('"prompt"x,model\na cow,veo3\n').startswith("prompts.csv, line 1: a quoted cell goes on")
    assert mistake('"prompt,model\na cow,veo3\n').startswith("prompts.csv, line 1: a quoted cell begins")


def test_ragged_rows_name_line_and_counts_and_the_others_are_read():
    text = "key,prompt,model\n1,a cow\n2,a cow,veo3\n3,a cow, flying,veo3\n4,a cow,veo3,,\n5\n"
    assert mistakes(text) == [
        "prompts.csv, line 2: got 2 cells, and the header has 3",
        "prompts.csv, line 4: got 4 cells, and the header has 3; a cell that holds the delimiter ',' stands in quotes",
        "prompts.csv, line 6: got 1 cells, and the header has 3",
    ]
    assert lines_read(text) == ["prompts.csv, line 3", "prompts.csv, line 5"]


def test_unknown_columns_get_a_suggestion_and_the_rows_are_read():
    text = "promt,prompt,Modell,colour\na,a cow,veo3,red\n"
    assert mistake(text) == (
        "prompts.csv, header: unknown columns 'promt' (did you mean prompt?), 'modell' (did you mean model?), "
        "'colour'; known are prompt, model, images, aspect_ratio, enhance_prompt, enable_upsample, extra_body, key, "
        "existing_veo_task_id"
    )
    assert lines_read(text) == ["prompts.csv, line 2"]


def test_a_thousand_unknown_columns_make_one_line():
    text = ",".join(["prompt", *(f"c{n}" for n in range(1000))]) + "\n" + "a cow" + ",x" * 1000 + "\n"
    assert "'c19' and 980 more; known are" in mistake(text)


def test_a_column_that_is_there_twice():
    assert mistake("prompt,model,Prompt \na,veo3,b\n") == "prompts.csv, header: the column prompt is there 2 times"


def test_a_value_in_a_column_without_a_name():
    text = "prompt,,model\na,,veo3\nb,x,veo3\n"
    assert mistake(text) == "prompts.csv, line 3: there is a value in a column that has no name"


@pytest.mark.parametrize("text", ["model,key\nveo3,1\n", "a cow that flies\nanother\n", '""\na\n', "牛飞上天了,veo3\n"])
def test_without_a_column_prompt_only_the_header_is_wrong(text):
    found = manifest.read(text.encode(), "prompts.csv")
    assert found.rows == []
    assert "prompt" in found.mistakes[-1].text
    assert all(mistake.source in ("prompts.csv, header", "prompts.csv") for mistake in found.mistakes)


def test_a_header_that_is_there_again_is_no_prompt():
    text = "prompt,model\na cow,veo3\n\ufeffPrompt,model\na calf,veo3\n"
    assert mistake(text) == "prompts.csv, line 3: repeats the header"


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", " \r\n", "prompt,model\n", "prompt,model\n,\n , \n"])
def test_a_csv_file_without_jobs(content):
    assert mistake(content) == "prompts.csv: holds no jobs"


@pytest.mark.parametrize("content", ["", "\ufeff", "\n \n", "\r\n\r\n"])
def test_a_jsonl_file_without_jobs(content):
    assert mistake(content, "prompts.jsonl") == "prompts.jsonl: holds no jobs"


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
    assert found.startswith(f"{name}: is not UTF-8: the byte 0x{byte} at offset {offset} (line 3) can't be read")
    assert found.endswith(UTF8_ADVICE)


def test_a_nul_byte_is_named_by_offset_and_line():
    found = mistake(b"prompt,model\na\0cow,veo3\n")
    assert found.startswith("prompts.csv: has a NUL byte at offset 14 (line 2)")
    assert found.endswith(UTF8_ADVICE)


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
        ("7", "expected an object with a prompt, or a text that is the prompt, got 7"),
        ("null", "expected an object with a prompt, or a text that is the prompt, got None"),
        ('["a"]', "this is one JSON array"),
        ('{"prompt": "a", "prompt": "b"}', "the field 'prompt' is there more than once"),
        ('{"prompt": "a", "extra_body": {"x": 1, "x": 1}}', "the field 'x' is there more than once"),
        ('{"prompt": "a", "extra_body": {"x": NaN}}', "'NaN' is no number that JSON has"),
        ('{"prompt": "a", "key": -Infinity}', "'-Infinity' is no number that JSON has"),
        ('{"prompt": "a", "key": 1e999}', "'1e999' is no number that JSON has"),
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
def test_a_json_array_that_is_called_jsonl_is_told_what_it_is(indent):
    text = json.dumps([{"prompt": "a"}, {"prompt": "b"}], indent=indent)
    found = mistake(text, "prompts.jsonl")
    assert found.startswith("prompts.jsonl")
    assert "this is one JSON array, and JSONL has one JSON object in each line" in found


def test_a_json_array_with_an_object_in_each_line_is_told_what_it_is():
    assert "one JSON array" in mistake('[{"prompt": "a"},\n{"prompt": "b"}]\n', "prompts.jsonl")


def test_all_mistakes_of_a_file_are_found_at_once():
    text = "\n".join(["{broken", '{"prompt": "a", "x": 1}', "[]", "7", '"ok"', '{"a": 1, "a": 2}'])
    assert [line.partition(":")[0] for line in mistakes(text, "p.jsonl")] == [
        f"p.jsonl, line {number}" for number in (1, 2, 3, 4, 6)
    ]


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
def test_what_is_no_list_of_jobs(jobs):
    ((source, text),) = manifest.of_jobs(jobs).mistakes
    assert source == "jobs"
    assert text.startswith("expected a list of prompts or of objects, or a text that holds a JSON or Python list, got")


@pytest.mark.parametrize("jobs", [[], (), "[]"])
def test_no_jobs_at_all(jobs):
    assert manifest.of_jobs(jobs) == ([], [("jobs", "holds no jobs")])


def test_wrong_jobs_are_named_and_the_others_are_read():
    found = manifest.of_jobs(["ok", None, {"promt": "x"}, ["a"], {"prompt": "ok", "key": float("nan")}, {7: 1}])
    assert [row.source for row in found.rows] == ["jobs[0]", "jobs[2]", "jobs[5]"]
    assert [(source, text.partition(";")[0]) for source, text in found.mistakes] == [
        ("jobs[1]", "expected an object with a prompt, or a text that is the prompt, got None"),
        ("jobs[2]", "unknown field 'promt' (did you mean prompt?)"),
        ("jobs[3]", "expected an object with a prompt, or a text that is the prompt, got ['a']"),
        ("jobs[4]", "key: nan is no value"),
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


def test_ten_thousand_rows_are_read_at_once():
    header = "key,prompt,model,images,aspect_ratio\n"
    text = header + "".join(f'{n},"a cow, ""{n}""\nflies",veo3.1,{IMAGE},16:9\n' for n in range(10_000))
    started = time.perf_counter()
    found = rows(text)
    assert time.perf_counter() - started < 2
    assert len(found) == 10_000
    assert found[-1].source == "prompts.csv, line 20000"


def test_the_time_to_read_grows_with_the_file_and_not_faster():
    started = time.perf_counter()
    rows("prompt\n" + "a cow that flies\n" * 100_000)
    mistakes("prompt,model\n" + '"a "cow",x\n' * 20_000)
    mistakes('prompt,model\n"' + '"",\n' * 500_000)
    assert time.perf_counter() - started < 5


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.text(
    ' ,;\t"\r\n牛a|', max_size=12
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"prompt": cells, "model": cells, "key": cells}), max_size=5),
    st.sampled_from(",;\t"),
    st.sampled_from(["\r\n", "\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_what_pythons_csv_module_writes_is_what_is_read(written, delimiter, end, quoting, encoding):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["prompt", "model", "key"], delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writeheader()
    # With a line end of "\n" the module leaves a "\r" unquoted: a reader of lines can't know it for a part of a cell.
    written = [
        {name: cell if end == "\r\n" else cell.replace("\r", "") for name, cell in row.items()} for row in written
    ]
    writer.writerows(written)
    found = manifest.read(file.getvalue().encode(encoding), "prompts.csv")
    expected = [
        {
            name: "\n".join(cell.replace("\r\n", "\n").split("\r"))
            for name, cell in row.items()
            if not coerce.is_nothing(cell)
        }
        for row in written
        if any(cell.strip() for cell in row.values())
    ]
    assert [row.fields for row in found.rows] == expected
    assert found.mistakes == ([] if expected else [("prompts.csv", "holds no jobs")])


pieces = st.sampled_from(
    [
        *(b"prompt", b"model", b"images", b'"prompt"', b"NaN", b"1e999", b"\\ud800"),
        *(b",", b";", b"\t", b'"', b'""', b"\n", b"\r", b"\r\n", b" ", b"|", b"{", b"}", b"[", b"]", b":"),
        *(b"\xef\xbb\xbf", b"\0", b"\xff\xfe", b"\xe7\x89\x9b", b"\xc5"),
    ]
)
contents = st.binary(max_size=60) | st.lists(pieces, max_size=40).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(contents, st.sampled_from(["p.csv", "p.tsv", "p.jsonl", "p.ndjson", "p.txt"]))
@example(b"prompt\n" + b"[" * 200_000, "p.jsonl")
@example(b'"' * 200_001, "p.csv")
def test_no_bytes_raise_and_all_bytes_say_something(content, name):
    found = manifest.read(content, name)
    assert found.rows or found.mistakes
    assert all(set(row.fields) <= set(manifest.FIELDS) for row in found.rows)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "", '"x"', '"y\nz"', '"q ""r"""', '"open', "b"]), min_size=1, max_size=4))
)
def test_every_line_that_holds_something_is_read_or_named_but_behind_a_quote_that_is_open(table):
    text = "prompt,model\n" + "".join(",".join(cells) + "\n" for cells in table)
    found = manifest.read(text.encode(), "p.csv")
    if any("not closed" in text for _, text in found.mistakes):
        return
    spoken_of = {row.source for row in found.rows} | {source for source, _ in found.mistakes}
    line = 2
    for row in table:
        following = line + 1 + sum(cell.count("\n") for cell in row)
        if any(cell.strip('"') for cell in row):
            assert spoken_of.intersection(f"p.csv, line {number}" for number in range(line, following))
        line = following
