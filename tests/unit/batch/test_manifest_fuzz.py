"""Whatever the bytes are, and however many: nothing raises, nothing is lost, nothing takes long."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_veo.batch import manifest
from airflow_provider_veo.protocol import coerce
from tests.unit.batch.test_manifest import IMAGE, mistakes, rows

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.text(
    ' ,;\t"\r\n牛a|', max_size=12
)


def stripped(row):
    """Blanks before a cell that is not quoted are none of it."""
    return {name: cell.lstrip(" ") for name, cell in row.items()}


@settings(max_examples=300)
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
            name: cell.replace("\r\n", "\n").replace("\r", "\n")
            for name, cell in row.items()
            if not coerce.is_nothing(cell)
        }
        for row in written
        if any(cell.strip() for cell in row.values())
    ]
    assert [stripped(row.fields) for row in found.rows] == list(map(stripped, expected))
    assert found.mistakes == ([] if expected else [("prompts.csv", "contains no jobs")])


pieces = st.sampled_from(
    [
        *(b"prompt", b"model", b"images", b'"prompt"', b"NaN", b"1e999", b"\\ud800"),
        *(b",", b";", b"\t", b'"', b'""', b"\n", b"\r", b"\r\n", b" ", b"|", b"{", b"}", b"[", b"]", b":"),
        *(b"\xef\xbb\xbf", b"\0", b"\xff\xfe", b"\xe7\x89\x9b", b"\xc5"),
    ]
)

contents = st.binary(max_size=60) | st.lists(pieces, max_size=40).map(b"".join)


@settings(max_examples=500)
@given(contents, st.sampled_from(["p.csv", "p.tsv", "p.jsonl", "p.ndjson", "p.txt"]))
@example(b"prompt\n" + b"[" * 200_000, "p.jsonl")
@example(b'"' * 200_001, "p.csv")
@example(b'"' * 300_001, "p.csv")
@example(b"prompt\n" + b"x" * 140_000, "p.tsv")
@example(b"\xef\xbb\xbf" + b";" * 140_000 + b'\n"', "p.csv")
def test_no_bytes_raise_and_all_bytes_say_something(content, name):
    found = manifest.read(content, name)
    assert found.rows or found.mistakes
    assert all(set(row.fields) <= set(manifest.FIELDS) for row in found.rows)


@settings(max_examples=300)
@given(
    st.lists(st.lists(st.sampled_from(["a", "", '"x"', '"y\nz"', '"q ""r"""', '"open', "b"]), min_size=1, max_size=4))
)
def test_every_line_that_holds_something_is_read_or_named_but_behind_a_quote_that_is_open(table):
    text = "prompt,model\n" + "".join(",".join(cells) + "\n" for cells in table)
    found = manifest.read(text.encode(), "p.csv")
    spoken_of = {row.source for row in found.rows} | {source for source, _ in found.mistakes}
    broken = [source for source, text in found.mistakes if text.endswith("reading stopped here")]
    line = 2
    for row in table:
        if any(cell.strip('"') for cell in row):
            assert f"p.csv, line {line}" in spoken_of
        if f"p.csv, line {line}" in broken:
            break
        line += 1 + sum(cell.count("\n") for cell in row)
    else:
        assert not broken


def test_ten_thousand_rows_are_read():
    header = "key,prompt,model,images,aspect_ratio\n"
    text = header + "".join(f'{n},"a cow, ""{n}""\nflies",veo3.1,{IMAGE},16:9\n' for n in range(10_000))
    found = rows(text)
    assert len(found) == 10_000
    assert found[-1].source == "prompts.csv, line 20000"


@pytest.mark.timeout(60)  # minutes, did the time grow with the square of the length
def test_long_files_are_read_to_their_end():
    assert len(rows("prompt\n" + "a cow that flies\n" * 100_000)) == 100_000
    assert mistakes("prompt,model\n" + '"a ""cow",x,y\n' * 100_000)
    assert mistakes('prompt,model\n"' + '"",\n' * 500_000)
