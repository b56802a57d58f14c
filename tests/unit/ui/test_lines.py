"""Pages of a long file: bounded in lines and time, the same in both directions, whatever is in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_veo.ui import lines
from airflow_provider_veo.ui.lines import InMemory, LineCursor, page_of


def nothing(line):
    return False


def everything(line):
    return True


@pytest.mark.parametrize("line", [b"{}\n", b"x\n", b'{"state": "failed"}\n'])
def test_page_reads_a_limited_number_of_lines_and_says_where_to_continue(line):
    file = InMemory(line * 50_000)
    cursor, pages = LineCursor(), 0
    while cursor is not None:
        page = page_of(file, cursor, 24, nothing)
        assert page.lines == []
        pages += 1
        cursor = LineCursor.parse(page.older) if page.older else None
    assert pages == -(-50_000 // lines.MAX_PAGE_LINES)


def test_empty_lines_are_not_rows():
    assert [line.row for line in page_of(InMemory(b"\n\n{}\n\n \n"), LineCursor(), 9, everything).lines] == [{}]


def test_a_page_that_takes_long_ends_early(monkeypatch):
    monkeypatch.setattr(lines, "MAX_PAGE_SECONDS", 0.0)
    page = page_of(InMemory(b"{}\n" * 1000), LineCursor(), 24, nothing)
    assert page.older


@given(st.lists(st.sampled_from([b"", b" ", b"{}", b'{"a": 1}', b"x", b"\r", b"[1]"]), max_size=30), st.booleans())
def test_both_directions_find_the_same_lines(content, ends):
    text = b"\n".join(content) + (b"\n" if ends and content else b"")
    file = InMemory(text)
    forwards = page_of(file, LineCursor(), 1000, everything).lines
    backwards = page_of(file, LineCursor(before=True, offset=len(text)), 1000, everything).lines
    assert forwards == backwards
    for line in forwards:
        assert lines.line_at(file, line.begin) == line
