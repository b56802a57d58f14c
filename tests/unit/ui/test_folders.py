"""A batch's folder: whose it is, and how much of it is read."""

from __future__ import annotations

import json
import os
import tracemalloc
from functools import partial
from itertools import chain

import pytest

from airflow_provider_veo.ui import lines, settings
from airflow_provider_veo.ui.access import admit
from airflow_provider_veo.ui.folders import Folder, ShardedFolder
from airflow_provider_veo.ui.lines import InMemory, LineCursor, page_of
from airflow_provider_veo.ui.opening import UnreadableError, open_file

OWNER = {"dag_id": "mine", "run_id": "a_run", "task_id": "make", "map_index": -1}


@pytest.fixture
def place(tmp_path, roots):
    roots(f"file://{tmp_path}")
    folder = tmp_path / "night"
    (folder / "_journal").mkdir(parents=True)
    return folder


def folder_of(place, owner=OWNER, *, has_ended=True) -> Folder:
    admitted = admit(f"file://{place}", "mine", settings.page_roots())
    assert admitted is not None
    return Folder(admitted, owner, has_ended=has_ended)


ONE = {"key": "one", "state": "succeeded", "file": "file:///x/one.mp4"}


def ended(place, owner=OWNER, rows=(ONE,)) -> None:
    (place / "summary.json").write_text(json.dumps({**owner, "total": len(rows)}))
    (place / "results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def everything(folder) -> list:
    return [line.row for line in folder.page(LineCursor(), 100, lambda line: True).lines]


def test_a_folder_that_names_the_task_instance_is_shown(place):
    ended(place)
    assert [row["key"] for row in everything(folder_of(place))] == ["one"]
    assert folder_of(place).file_of("one", 0).location.parts[-2:] == ("videos", "one.mp4")


@pytest.mark.parametrize("name", ["dag_id", "run_id", "task_id", "map_index"])
def test_a_folder_of_another_task_instance_is_not(place, name):
    ended(place, {**OWNER, name: 7 if name == "map_index" else "theirs"})
    for ask in everything, lambda folder: folder.file_of("one", 0):
        with pytest.raises(UnreadableError):
            ask(folder_of(place))


@pytest.mark.parametrize("summary", [None, "", "[]", "{", "{}", '{"dag_id": "mine"}', "[" * 100_000])
def test_a_folder_that_does_not_say_whose_it_is_is_not(place, summary):
    ended(place)
    (place / "summary.json").unlink()
    if summary is not None:
        (place / "summary.json").write_text(summary)
    with pytest.raises(UnreadableError):
        everything(folder_of(place))


def test_results_that_are_a_link_to_anothers_are_not_shown(place, tmp_path, roots):
    roots(f"file://{tmp_path}/night")
    ended(place)
    (tmp_path / "secret.jsonl").write_text('{"key": "secret"}\n')
    (place / "results.jsonl").unlink()
    (place / "results.jsonl").symlink_to("../secret.jsonl")
    with pytest.raises(UnreadableError):
        everything(folder_of(place))


@pytest.mark.parametrize("strange", ["fifo", "link"])
def test_a_journal_with_something_else_than_files_is_not_read(place, strange):
    path = place / "_journal" / "000001-00000000000000000000000000000000-000000.jsonl"
    os.mkfifo(path) if strange == "fifo" else path.symlink_to("/dev/zero")
    with pytest.raises(UnreadableError):
        everything(folder_of(place, has_ended=False))


@pytest.mark.parametrize(("key", "offset"), [("two", 0), ("one", 1), ("one", 10**12), ("", 0)])
def test_only_the_row_at_an_offset_names_a_file(place, key, offset):
    ended(place)
    with pytest.raises(UnreadableError):
        folder_of(place).file_of(key, offset)


@pytest.mark.parametrize("name", ["", "..", ".", "a\0b", "/"])
def test_the_name_of_a_file_is_one_name(place, name):
    ended(place, rows=[{"key": "one", "file": f"file:///x/{name}"}])
    with pytest.raises(UnreadableError):
        folder_of(place).file_of("one", 0)


ROWS = [{"key": str(number), "state": "failed" if number % 3 else "succeeded"} for number in range(100)]
CONTENT = InMemory("".join(f"{json.dumps(row)}\n" for row in ROWS).encode())


@pytest.mark.parametrize("wanted", [None, "failed", "succeeded", "unknown"])
@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("piece", [64, 1000, 256 * 1024])
def test_pages_follow_each_other_in_both_directions(monkeypatch, wanted, limit, piece):
    monkeypatch.setattr(lines, "_PIECE_BYTES", piece)
    get = partial(page_of, CONTENT, limit=limit, is_wanted=lambda line: wanted in (None, line.row["state"]))
    expected = [row["key"] for row in ROWS if wanted in (None, row["state"])]
    pages = [get(LineCursor())]
    while pages[-1].older:
        pages.append(get(LineCursor.parse(pages[-1].older)))
    keys = [[line.row["key"] for line in page.lines] for page in pages]
    assert list(chain(*keys)) == expected
    assert pages[0].newer is None
    back = [keys[-1]]
    newer = pages[-1].newer
    while newer:
        page = get(LineCursor.parse(newer))
        back.insert(0, [line.row["key"] for line in page.lines])
        newer = page.newer
    assert list(chain(*back)) == expected


def test_bad_lines_are_rows_of_their_own(place):
    ended(place)
    good = b'{"key": "one", "state": "failed"}\n'
    bad = [b"nonsense\n", b"[1]\n", b"[" * 10_000 + b"\n", b"\xff\n", b'"' + b"x" * (2 * 1024 * 1024) + b'"\n']
    (place / "results.jsonl").write_bytes(b"".join(good + each for each in bad) + good)
    folder = folder_of(place)
    found, cursor = [], LineCursor()
    while True:
        page = folder.page(cursor, 100, lambda line: True)
        found += [line.row for line in page.lines]
        if page.older is None:
            break
        cursor = LineCursor.parse(page.older)
    assert [row is None for row in found] == [False, True] * 5 + [False]


def test_a_long_list_is_neither_read_nor_held_as_a_whole(place):
    ended(place)
    line = json.dumps({"key": "x", "state": "failed", "prompt": "p" * 2000}).encode() + b"\n"
    with open(place / "results.jsonl", "wb") as file:
        for _ in range(100):
            file.write(line * 500)  # 100 MB
    folder = folder_of(place)
    tracemalloc.start()
    try:
        first = folder.page(LineCursor(), 24, lambda line: True)
        none = folder.page(LineCursor(), 24, lambda line: False)
        last = folder.page(LineCursor(True, os.path.getsize(place / "results.jsonl")), 24, lambda line: True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(first.lines) == len(last.lines) == 24
    # Where none is found within a page's bound, the next page begins there.
    assert none.lines == [] and 0 < LineCursor.parse(none.older).offset <= lines.MAX_PAGE_BYTES + 1024 * 1024
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize("text", ["", "x", "W10=", "bnVsbA==", "W3RydWUsIC0xXQ==", "W3RydWUsIDFlOTk5XQ==", "9" * 5000])
def test_a_cursor_that_no_page_returned_is_refused(text):
    with pytest.raises(ValueError, match="cursor"):
        LineCursor.parse(text)


def test_a_file_that_is_read_has_a_size(place):
    ended(place)
    file = open_file(admit(f"file://{place}/summary.json", "mine", settings.page_roots()))
    assert file.size == os.path.getsize(place / "summary.json")
    file.close()


# --- shards ----------------------------------------------------------------------------------------------------------


def shard_of(place, index, *, has_ended=True) -> Folder:
    roots = settings.page_roots()
    admitted = admit(f"file://{place}/_shards/{index}-of-3", "mine", roots)
    batch = admit(f"file://{place}", "mine", roots)
    return Folder(admitted, {**OWNER, "map_index": index}, has_ended=has_ended, batch=batch)


@pytest.fixture
def shards(place):
    """Three shards, of which the last has not begun."""
    for index in range(2):
        folder = place / "_shards" / f"{index}-of-3"
        folder.mkdir(parents=True)
        rows = [{"key": f"{index}.{number}", "file": f"file:///x/{index}.{number}.mp4"} for number in range(3)]
        ended(folder, {**OWNER, "map_index": index}, rows)
    return ShardedFolder([shard_of(place, index) for index in range(3)])


def test_shards_are_shown_one_after_the_other_in_pages(shards):
    seen, cursor = [], LineCursor()
    while True:
        page = shards.page(cursor, 2, lambda line: True)
        seen += [(line.row["key"], line.begin) for line in page.lines]
        if page.older is None:
            break
        cursor = LineCursor.parse(page.older)
    assert [key for key, _ in seen] == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]
    back = shards.page(LineCursor.parse(page.newer), 2, lambda line: True)
    assert [line.row["key"] for line in back.lines] == ["0.2", "1.0"]
    for key, offset in seen:
        assert shards.file_of(key, offset).location.parts[-3:] == ("night", "videos", f"{key}.mp4")


def test_shard_of_another_task_instance_is_not_shown_among_the_others(place, shards):
    ended(place / "_shards" / "1-of-3", {**OWNER, "map_index": 7}, [{"key": "theirs"}])
    assert [row["key"] for row in everything(shards)] == ["0.0", "0.1", "0.2"]


def test_batch_of_which_no_shard_can_be_read_is_not_shown(place):
    with pytest.raises(UnreadableError, match="no shard can be read"):
        everything(ShardedFolder([shard_of(place, index) for index in range(3)]))
