"""A batch as people write it down: a CSV or JSONL file, or a list in the DAG, read into rows.

Nothing raises, whatever the bytes are. What can't be read is a mistake that says where it is and how to mend it, and
reading goes on behind it where that is possible, so that one run finds all of them. What the fields may hold is not
decided here.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import json
import math
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_veo.protocol import coerce
from airflow_provider_veo.protocol.payload import REQUEST_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIELDS = (*REQUEST_FIELDS, "key", "existing_veo_task_id")
"""All fields of a row."""

_CELL_CHARACTERS = 32_767
"""What a spreadsheet's cell can hold."""

_WRITTEN_BY_PROGRAMS = ("images", "extra_body")
"""The columns whose cells may be longer than a spreadsheet's."""

MAX_ROWS = 200_000
"""Rows of one batch, those with mistakes included. Reading ends there."""

_HEADER_CHARACTERS = 1 << 16
"""By so many characters of a CSV file its delimiter is found."""

_NAMES_LISTED = 20
_SAVE_AS = "save the file as UTF-8 (in Excel: Save As > CSV UTF-8)"
_ARRAY = (
    "this is one JSON array, and JSONL has one JSON object in each line, without brackets around them or commas "
    "between them (jq -c '.[]' makes that of it)"
)
_BROKEN = {
    "field larger": "a cell has more than LIMIT characters: a quote is probably not closed; images that large "
    "belong into a JSONL manifest",
    "expected after": "a blank or a text follows the closing quote of a cell: a quote inside a quoted cell is written "
    'twice (""), or an earlier quote is not closed',
    "unexpected end": "a quoted cell is not closed: its closing quote is missing, or a quote inside it is not written "
    'twice ("")',
}
"""Of what the csv module says, the part that tells it from the rest; and what to say instead."""


class Row(NamedTuple):
    """One job as it was written down."""

    fields: dict[str, Any]
    """What is given of :data:`FIELDS`, as it came: nothing is checked but the names."""

    source: str
    """For people: ``prompts.csv, line 7``, the line of the file in which the row begins; or ``jobs[6]``."""


class Mistake(NamedTuple):
    """Where something is wrong, and what."""

    source: str
    text: str


class Rows(NamedTuple):
    """What was read, and what could not be."""

    rows: list[Row]
    mistakes: list[Mistake]


def read(content: bytes, name: str) -> Rows:
    """
    Read a manifest: a CSV file with a header, or a JSONL file with an object (or a text, the prompt) in each line.

    It is UTF-8, with or without a byte order mark; lines end in CRLF, LF or CR, and in LF inside a cell. A CSV file's
    delimiter is a comma, a semicolon or a tab, as its header has it; its cells hold at most 131,072 characters, the csv
    module's limit. An empty cell is a field that is not given; images are separated by ``|``, or are a JSON list, and
    ``[]`` says that there are none.

    :param content: the file's bytes.
    :param name: the file's name or URI, without secrets. It ends in .csv, .tsv, .jsonl or .ndjson, in any letter case.
    """
    reader = next((reader for suffix, reader in _READERS.items() if name.lower().endswith(suffix)), None)
    if reader is None:
        return Rows([], [Mistake(name, f"expected a file whose name ends in {', '.join(_READERS)}")])
    if wrong := _encoding_mistake(content):
        return Rows([], [Mistake(name, wrong)])
    text = content.decode().removeprefix("\ufeff")
    return _some(reader(text.replace("\r\n", "\n").replace("\r", "\n"), name), name)


def of_jobs(jobs: Any) -> Rows:
    """
    Read a list that stands in the DAG, or comes from another task.

    :param jobs: a sequence of prompts, or of mappings of :data:`FIELDS`; or a text that holds a JSON or Python list,
        which is what a template makes of one.
    """
    items = coerce.literal(jobs) if isinstance(jobs, str) else jobs
    if isinstance(items, (str, bytes, bytearray)) or not isinstance(items, Sequence):
        expected = "expected a list of prompts or of objects, or a text that holds a JSON or Python list"
        if isinstance(items, str) and len(items) > coerce.PYTHON_LITERAL_CHARACTERS:
            expected = f"{expected} (as long as this one, only JSON: let the template end in | tojson)"
        return Rows([], [Mistake("jobs", f"{expected}, got {short(jobs)}")])
    if len(items) > MAX_ROWS:
        return Rows([], [Mistake("jobs", _TOO_MANY)])
    found = Rows([], [])
    for index, item in enumerate(items):
        _take(item, f"jobs[{index}]", found)
    return _some(found, "jobs")


def short(value: Any) -> str:
    """Show what was given, but no prompt and no image in full."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


_TOO_MANY = f"has more than {MAX_ROWS:,} rows: split it into several batches; nothing beyond them was read"


def _some(found: Rows, source: str) -> Rows:
    return found if found.rows or found.mistakes else Rows([], [Mistake(source, "holds no jobs")])


def _take(value: Any, source: str, into: Rows) -> None:
    """Add an object, or a text that is a prompt, as a row."""
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, Mapping):
        expected = "expected an object with a prompt, or a text that is the prompt"
        into.mistakes.append(Mistake(source, f"{expected}, got {short(value)}"))
        return
    if unknown := tuple(str(name) for name in value if name not in FIELDS):
        into.mistakes.append(Mistake(source, _unknown("field", unknown)))
    fields = {name: value[name] for name in FIELDS if name in value}
    # pandas says so of a cell that is empty; as a text it would be a prompt.
    missing = [name for name, given in fields.items() if isinstance(given, float) and not math.isfinite(given)]
    into.mistakes.extend(Mistake(source, f"{name}: {fields[name]} is no value; leave it out") for name in missing)
    if not missing:
        into.rows.append(Row(fields, source))


@lru_cache(maxsize=256)
def _unknown(kind: str, names: tuple[str, ...]) -> str:
    shown = []
    for name in names[:_NAMES_LISTED]:
        near = difflib.get_close_matches(name[:80].lower(), FIELDS, n=1)
        shown.append(short(name) + (f" (did you mean {near[0]}?)" if near else ""))
    more = f" and {len(names) - _NAMES_LISTED} more" if len(names) > _NAMES_LISTED else ""
    return f"unknown {kind}{'s' * (len(names) > 1)} {', '.join(shown)}{more}; known are {', '.join(FIELDS)}"


def _encoding_mistake(content: bytes) -> str | None:
    nul = content.find(b"\0")
    # A manifest begins with a letter, a quote or a brace: in UTF-16 one half of that is a zero.
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 <= nul < 2:
        return f"is UTF-16, not UTF-8, from offset 0 (line 1) on; {_SAVE_AS}"
    if nul >= 0:
        return f"has a NUL byte at offset {nul} (line {_line(content, nul)}): it is no text, or no UTF-8; {_SAVE_AS}"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        where = f"the byte 0x{content[error.start]:02x} at offset {error.start} (line {_line(content, error.start)})"
        return f"is not UTF-8: {where} can't be read, the file may be in Latin-1 or GBK; {_SAVE_AS}"
    return None


def _line(content: bytes, offset: int) -> int:
    before = content[:offset]
    return before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n") + 1


def _of_lines(text: str, name: str) -> Rows:
    found = Rows([], [])
    for number, line in enumerate(_lines(text), start=1):
        line = line.removeprefix("\ufeff")  # files that were put together, each with its own
        if not line.strip():
            continue
        source = f"{name}, line {number}"
        if len(found.rows) + len(found.mistakes) >= MAX_ROWS:
            found.mistakes.append(Mistake(name, _TOO_MANY))
            break
        try:
            _take(_json(line), source, found)
        except _NotJsonError as error:
            if line.lstrip().startswith("[") and found == ([], []):
                return Rows([], [Mistake(name, _ARRAY)])
            found.mistakes.append(Mistake(source, str(error)))
    return found


def _lines(text: str, *, keep_ends: bool = False) -> Iterator[str]:
    """Split a text without a copy of it: it may have a hundred million lines."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start : end + keep_ends]
        start = end + 1
    yield text[start:]


class _NotJsonError(ValueError):
    """A line that is refused; the text says why."""


def _json(line: str) -> Any:
    try:
        value = json.loads(line, object_pairs_hook=_object, parse_constant=_finite, parse_float=_finite)
    except _NotJsonError:
        raise
    except json.JSONDecodeError as error:
        raise _NotJsonError(f"is not JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError):
        raise _NotJsonError("can't be read: a number has too many digits, or objects are nested too deeply") from None
    if isinstance(value, list):
        raise _NotJsonError(_ARRAY)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise _NotJsonError(f"the field {short(twice)} is there more than once")
    return fields


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise _NotJsonError(f"{short(literal)} is no number that JSON has")
    return number


class _Record(NamedTuple):
    cells: list[str]
    source: str


def _records(text: str, name: str, delimiter: str, mistakes: list[Mistake]) -> Iterator[_Record]:
    """
    Cut a CSV text into records, without those whose cells are all empty.

    Behind a quote that is broken cells can't be told from text: the first one is a mistake, and the end.
    """
    reader = csv.reader(_lines(text, keep_ends=True), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield _Record(cells, f"{name}, line {line}")
            line = reader.line_num + 1
    except csv.Error as error:
        mistakes.append(Mistake(f"{name}, line {line}", _broken(str(error))))


def _broken(error: str) -> str:
    text = next((text for part, text in _BROKEN.items() if part in error), error)
    text = text.replace("LIMIT", f"{csv.field_size_limit():,}")
    return f"{text}. The row begins in this line; from here on nothing was read"


class _Table:
    """The rows of a CSV text that has a header."""

    def __init__(self, text: str, name: str, delimiter: str) -> None:
        self._name, self._delimiter = name, delimiter
        self.mistakes: list[Mistake] = []
        self._records = _records(text, name, delimiter, self.mistakes)
        header = next(self._records, None)
        self.columns = _columns(header.cells) if header else []

    def fit(self) -> tuple[int, int]:
        """Say how well the delimiter cuts the header into columns."""
        return len({*self.columns}.intersection(FIELDS)), len(self.columns)

    def rows(self) -> Rows:
        if self.columns:
            self.mistakes += [Mistake(f"{self._name}, header", text) for text in self._mistakes_of_the_header()]
        records = self._records if "prompt" in self.columns else iter(())
        rows = [row for record in islice(records, MAX_ROWS) if (row := self._row(record))]
        if next(records, None):
            self.mistakes.append(Mistake(self._name, _TOO_MANY))
        return Rows(rows, self.mistakes)

    def _mistakes_of_the_header(self) -> Iterator[str]:
        unknown = dict.fromkeys(column for column in self.columns if column and column not in FIELDS)
        if unknown:
            yield _unknown("column", tuple(unknown))
        for column, count in Counter(self.columns).items():
            if count > 1 and column in FIELDS:
                yield f"the column {column} is there {count} times"
        if "prompt" not in self.columns:
            yield "there is no column prompt; the first line names the columns, as in: key,prompt,model,images"

    def _row(self, record: _Record) -> Row | None:
        """Return a record as a row; ``None`` if it makes none. What is wrong with it is added to the mistakes."""
        if wrong := self._too_long(record.cells) or self._ragged(record.cells):
            self.mistakes.append(Mistake(record.source, wrong))
            return None
        named = zip(self.columns, record.cells, strict=False)
        given = {column: _meant(column, cell) for column, cell in named if not coerce.is_nothing(cell)}
        if "" in given:
            self.mistakes.append(Mistake(record.source, "there is a value in a column that has no name"))
        return Row({column: value for column, value in given.items() if column in FIELDS}, record.source)

    def _too_long(self, cells: list[str]) -> str | None:
        named = zip_longest(self.columns, cells, fillvalue="")
        longest = max(len(cell) for column, cell in named if column not in _WRITTEN_BY_PROGRAMS)
        if longest <= _CELL_CHARACTERS:
            return None
        limit = f"more than a spreadsheet's can have ({_CELL_CHARACTERS:,})"
        return f"a cell has {longest:,} characters, {limit}: a quote is probably not closed"

    def _ragged(self, cells: list[str]) -> str | None:
        expected = len(self.columns)
        count = max(number for number, cell in enumerate(cells, start=1) if cell.strip())
        if _columns(cells) == self.columns:
            return "repeats the header"
        if count > expected:
            hint = f"a cell that holds the delimiter {self._delimiter!r} stands in quotes"
            return f"got {count} cells, and the header has {expected}; {hint}"
        if len(cells) < expected:
            return f"got {len(cells)} cells, and the header has {expected}"
        return None


def _columns(cells: list[str]) -> list[str]:
    names = [cell.strip("\ufeff \t\n").lower() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _meant(column: str, cell: str) -> Any:
    if column == "images" and not cell.lstrip().startswith("["):
        return [image for part in cell.split("|") if (image := part.strip())]
    if column == "aspect_ratio":
        return _TIMES.get(cell.strip(), cell)
    return cell


_TIMES = {
    **dict.fromkeys(("16:09", "16:09:00"), "16:9"),
    **dict.fromkeys(("09:16", "9:16:00", "09:16:00"), "9:16"),
}
"""A spreadsheet takes an aspect ratio for a time of day."""


def _of_table(text: str, name: str, delimiters: str) -> Rows:
    header = text[:_HEADER_CHARACTERS]
    return _Table(text, name, max(delimiters, key=lambda each: _Table(header, name, each).fit())).rows()


_READERS: Mapping[str, Callable[[str, str], Rows]] = {
    ".csv": partial(_of_table, delimiters=",;\t"),
    ".tsv": partial(_of_table, delimiters="\t,;"),
    ".jsonl": _of_lines,
    ".ndjson": _of_lines,
}
