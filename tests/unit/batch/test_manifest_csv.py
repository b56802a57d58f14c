"""CSV files as spreadsheets, people and programs write them."""

import csv

import pytest

from airflow_provider_veo.batch import manifest
from tests.unit.batch.test_manifest import IMAGE, fields, lines_read, mistake, mistakes, rows


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


def test_blanks_before_a_cell_are_none_of_it():
    assert fields('prompt, model\n  "a cow, flying",  "veo3"\n') == [{"prompt": "a cow, flying", "model": "veo3"}]


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


@pytest.mark.parametrize("column", ["images", "extra_body"])
def test_what_programs_write_may_be_longer_than_a_spreadsheets_cell(column):
    cell = "x" * 131_072
    (row,) = fields(f"prompt,{column}\na cow,{cell}\n")
    assert row[column] in ([cell], cell)
    assert mistake(f"{column},prompt\n,{'x' * 32_768}\n") == (
        "prompts.csv, line 2: a cell has 32,768 characters, more than a spreadsheet cell can hold (32,767): "
        "a quote is probably not closed"
    )


@pytest.mark.parametrize("cell", ["x" * 131_073, '"' + "x" * 131_073 + '"', '"' + '"",\n' * 200_000, "x" * 3_000_000])
@pytest.mark.parametrize("before", ["ok,\n", 'ok,\n\n"a\nb",\n'])
def test_a_cell_that_the_csv_module_does_not_read_names_the_line_and_what_takes_it(before, cell):
    limit = csv.field_size_limit()
    found = manifest.read(f"prompt,images\n{before}a cow,{cell}\nnot,read\n".encode(), "prompts.csv")
    line = before.count("\n") + 2
    assert found.mistakes == [
        (
            f"prompts.csv, line {line}",
            "a cell has more than 131,072 characters: a quote is probably not closed; put images that large in a "
            "JSONL manifest. The row begins on this line; reading stopped here",
        )
    ]
    assert [row.fields["prompt"] for row in found.rows] == (["ok"] if line == 3 else ["ok", "a\nb"])
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("cell", ["x" * 40_000, '"' + "x, y\n" * 10_000 + '"', '"' + '""' * 40_000 + '"'])
def test_a_cell_that_no_spreadsheet_can_hold_is_a_quote_that_is_not_closed(cell):
    found = manifest.read(f"prompt,model\nok,veo3\n{cell},veo3\nok,veo2\n".encode(), "prompts.csv")
    (only,) = found.mistakes
    assert only.source == "prompts.csv, line 3"
    assert "characters, more than a spreadsheet cell can hold (32,767): a quote is probably not closed" in only.text
    assert [row.fields["prompt"] for row in found.rows] == ["ok", "ok"]


def test_a_cell_that_is_too_long_is_named_by_the_line_where_its_row_begins():
    text = f'key,prompt\n1,ok\n"a\nb","{"x" * 40_000}"\n'
    assert mistake(text).startswith("prompts.csv, line 3: a cell has 40,000 characters")


def test_a_quote_that_is_not_closed_names_the_line_where_the_row_began():
    text = 'key,prompt\n1,"ok\nok"\n2,"a cow\n3,a cow\n4,a cow\n'
    assert mistake(text) == (
        "prompts.csv, line 4: a quoted cell is not closed: add its closing quote, or double a quote inside it "
        '(""). The row begins on this line; reading stopped here'
    )
    assert lines_read(text) == ["prompts.csv, line 2"]


def test_a_quote_that_another_cells_quote_closes_names_the_line_where_the_row_began():
    text = 'key,prompt\n1,ok\n2,"a cow\n3,"a calf"\n4,a cow\n'
    assert mistake(text).startswith("prompts.csv, line 3: a character follows the closing quote of a cell")
    assert lines_read(text) == ["prompts.csv, line 2"]


@pytest.mark.parametrize("cell", ['"say "moo" loudly"', '"a cow" ', '"a" "b"'])
def test_what_follows_a_closing_quote_names_its_line_and_what_was_found_before_is_said(cell):
    text = f"key,prompt\n1\n2,ok\n3,{cell}\n4,a cow\n"
    assert mistakes(text) == [
        "prompts.csv, line 2: got 1 cells, but the header has 2",
        "prompts.csv, line 4: a character follows the closing quote of a cell: double a quote inside a quoted cell "
        '(""), or close the earlier quote. The row begins on this line; reading stopped here',
    ]
    assert lines_read(text) == ["prompts.csv, line 3"]


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ('"prompt"x,model', "a character follows the closing quote"),
        ('"prompt,model', "a quoted cell is not closed"),
        ("prompt," + "x" * 140_000, "a cell has more than 131,072 characters"),
    ],
    ids=["stray", "open", "long"],
)
def test_a_header_that_can_not_be_read_is_all_that_is_said(header, text):
    found = manifest.read(f"{header}\na cow,veo3\n".encode(), "prompts.csv")
    assert found.rows == []
    assert [(source, said.startswith(text)) for source, said in found.mistakes] == [("prompts.csv, line 1", True)]


def test_ragged_rows_name_line_and_counts_and_the_others_are_read():
    text = "key,prompt,model\n1,a cow\n2,a cow,veo3\n3,a cow, flying,veo3\n4,a cow,veo3,,\n5\n"
    assert mistakes(text) == [
        "prompts.csv, line 2: got 2 cells, but the header has 3",
        "prompts.csv, line 4: got 4 cells, but the header has 3; quote a cell that contains the delimiter ','",
        "prompts.csv, line 6: got 1 cells, but the header has 3",
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


def test_duplicate_column():
    assert mistake("prompt,model,Prompt \na,veo3,b\n") == "prompts.csv, header: the column prompt appears 2 times"


def test_a_value_in_a_column_without_a_name():
    text = "prompt,,model\na,,veo3\nb,x,veo3\n"
    assert mistake(text) == "prompts.csv, line 3: a column without a name has a value"


@pytest.mark.parametrize("text", ["model,key\nveo3,1\n", "a cow that flies\nanother\n", '""\na\n', "牛飞上天了,veo3\n"])
def test_without_a_column_prompt_only_the_header_is_wrong(text):
    found = manifest.read(text.encode(), "prompts.csv")
    assert found.rows == []
    assert "prompt" in found.mistakes[-1].text
    assert all(mistake.source in ("prompts.csv, header", "prompts.csv") for mistake in found.mistakes)


def test_repeated_header_is_not_a_prompt():
    text = "prompt,model\na cow,veo3\n\ufeffPrompt,model\na calf,veo3\n"
    assert mistake(text) == "prompts.csv, line 3: repeats the header"


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", " \r\n", "prompt,model\n", "prompt,model\n,\n , \n"])
def test_a_csv_file_without_jobs(content):
    assert mistake(content) == "prompts.csv: contains no jobs"
