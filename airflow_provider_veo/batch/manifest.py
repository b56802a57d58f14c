"""Reads a CSV or JSONL manifest, or a list in the DAG, into rows.

Nothing here raises, whatever the bytes are. What can't be read becomes a mistake that says where it is and how to fix
it, and reading continues after it where possible, so that one run finds all of them. Field values are not validated
here.
"""

from __future__ import annotations

import codecs
import csv
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
from airflow_provider_veo.protocol.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIELDS = (*REQUEST_FIELDS, "key", "existing_veo_task_id")
"""All fields of a row."""

_CELL_CHARACTERS = 32_767
"""The most that a spreadsheet cell can hold."""

_WRITTEN_BY_PROGRAMS = ("images", "extra_body")
"""Columns whose cells may exceed a spreadsheet's limit."""

MAX_ROWS = 200_000
"""Maximum rows of a batch, invalid ones included. Reading stops there."""

_HEADER_CHARACTERS = 1 << 16
"""How much of a CSV file is examined to detect its delimiter."""

_NAMES_LISTED = 20
_SAVE_AS = "save the file as UTF-8 (in Excel: Save As > CSV UTF-8)"
_ARRAY = (
    "this is a JSON array, but JSONL has one JSON object per line, without brackets around them or commas between "
    "them (convert it with jq -c '.[]')"
)
_BROKEN = {
    "field larger": "a cell has more than LIMIT characters: a quote is probably not closed; put images "
    "that large in a JSONL manifest",
    "expected after": 'a character follows the closing quote of a cell: double a quote inside a quoted cell (""), or '
    "close the earlier quote",
    "unexpected end": 'a quoted cell is not closed: add its closing quote, or double a quote inside it ("")',
}
"""A part of each error of the csv module, and the message that replaces it."""


class Row(NamedTuple):
    """One job as given."""

    fields: dict[str, Any]
    """The given :data:`FIELDS`, unchanged: only the names are checked."""

    source: str
    """For people: ``prompts.csv, line 7``, the line on which the row begins; or ``jobs[6]``."""


class Mistake(NamedTuple):
    """An invalid part of the input, and where it is."""

    source: str
    text: str


class Rows(NamedTuple):
    """The rows that were read, and the mistakes found."""

    rows: list[Row]
    mistakes: list[Mistake]


def read(content: bytes, name: str) -> Rows:
    """
    Read a manifest: a CSV file with a header, or a JSONL file with an object (or a prompt string) on each line.

    The encoding is UTF-8, with or without a byte order mark. Lines end in CRLF, LF or CR, and in LF inside a cell. A
    CSV file's delimiter is a comma, a semicolon or a tab, detected from its header. A cell holds at most 131,072
    characters, the csv module's limit. An empty cell is a field that is not given. Images are separated by ``|`` or
    given as a JSON list; ``[]`` means no images.

    :param content: the file's bytes.
    :param name: the file's name or URI, without secrets. It ends in .csv, .tsv, .jsonl or .ndjson, in any case.
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
    Read a list from the DAG or from another task.

    :param jobs: a sequence of prompts or of mappings of :data:`FIELDS`; or a string with a JSON or Python list, as a
        rendered template is.
    """
    items = coerce.literal(jobs) if isinstance(jobs, str) else jobs
    if isinstance(items, (str, bytes, bytearray)) or not isinstance(items, Sequence):
        expected = "expected a list of prompts or of objects, or a string with a JSON or Python list"
        if isinstance(items, str) and len(items) > coerce.PYTHON_LITERAL_CHARACTERS:
            expected = f"{expected} (a string this long must be JSON: end the template with | tojson)"
        return Rows([], [Mistake("jobs", f"{expected}, got {short(jobs)}")])
    if len(items) > MAX_ROWS:
        return Rows([], [Mistake("jobs", _TOO_MANY)])
    found = Rows([], [])
    for index, item in enumerate(items):
        _take(item, f"jobs[{index}]", found)
    return _some(found, "jobs")


def short(value: Any) -> str:
    """Return a shortened ``repr``: never a whole prompt or image."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


_TOO_MANY = f"has more than {MAX_ROWS:,} rows: split it into several batches; the rest was not read"


def _some(found: Rows, source: str) -> Rows:
    return found if found.rows or found.mistakes else Rows([], [Mistake(source, "contains no jobs")])


def _take(value: Any, source: str, into: Rows) -> None:
    """Add an object, or a prompt string, as a row."""
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, Mapping):
        expected = "expected an object with a prompt, or a prompt string"
        into.mistakes.append(Mistake(source, f"{expected}, got {short(value)}"))
        return
    if unknown := tuple(str(name) for name in value if name not in FIELDS):
        into.mistakes.append(Mistake(source, _unknown("field", unknown)))
    fields = {name: value[name] for name in FIELDS if name in value}
    if missing := [
        f"{name}: {given} is not a value; omit it" for name, given in fields.items() if _is_not_finite(given)
    ]:
        into.mistakes.extend(Mistake(source, text) for text in missing)
    else:
        into.rows.append(Row(fields, source))


def _is_not_finite(value: Any) -> bool:
    """Whether a value is NaN, which pandas has for an empty cell, or infinite. As text it would be a prompt."""
    return isinstance(value, float) and not math.isfinite(value)


@lru_cache(maxsize=256)
def _unknown(kind: str, names: tuple[str, ...]) -> str:
    shown = []
    for name in names[:_NAMES_LISTED]:
        suggestion = did_you_mean(name[:80], FIELDS)
        shown.append(short(name) + (f" ({suggestion})" if suggestion else ""))
    more = f" and {len(names) - _NAMES_LISTED} more" if len(names) > _NAMES_LISTED else ""
    return f"unknown {kind}{'s' * (len(names) > 1)} {', '.join(shown)}{more}; known are {', '.join(FIELDS)}"


def _encoding_mistake(content: bytes) -> str | None:
    nul = content.find(b"\0")
    # A manifest begins with an ASCII character, one byte of which is zero in UTF-16.
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 <= nul < 2:
        return f"is UTF-16, not UTF-8, from offset 0 (line 1) on; {_SAVE_AS}"
    if nul >= 0:
        return f"has a NUL byte at offset {nul} (line {_line(content, nul)}): it is not text or not UTF-8; {_SAVE_AS}"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        where = f"the byte 0x{content[error.start]:02x} at offset {error.start} (line {_line(content, error.start)})"
        return f"is not UTF-8: {where} is invalid; the file may be Latin-1 or GBK; {_SAVE_AS}"
    return None


def _line(content: bytes, offset: int) -> int:
    before = content[:offset]
    return before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n") + 1


def _of_lines(text: str, name: str) -> Rows:
    found = Rows([], [])
    for number, line in enumerate(_lines(text), start=1):
        line = line.removeprefix("\ufeff")  # from concatenated files
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
    """Split a text lazily: it may have a hundred million lines."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start : end + keep_ends]
        start = end + 1
    yield text[start:]


class _NotJsonError(ValueError):
    """A line that is not acceptable JSON; the message says why."""


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
        raise _NotJsonError(f"the field {short(twice)} is given more than once")
    return fields


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise _NotJsonError(f"{short(literal)} is not a JSON number")
    return number


class _Record(NamedTuple):
    cells: list[str]
    source: str


def _records(text: str, name: str, delimiter: str, mistakes: list[Mistake]) -> Iterator[_Record]:
    """
    Yield the records of a CSV text, except those whose cells are all empty.

    After a broken quote, cells can't be told apart: the first one is a mistake and ends the reading.
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
    return f"{text}. The row begins on this line; reading stopped here"


class _Table:
    """The rows of a CSV text that has a header."""

    def __init__(self, text: str, name: str, delimiter: str) -> None:
        self._name, self._delimiter = name, delimiter
        self.mistakes: list[Mistake] = []
        self._records = _records(text, name, delimiter, self.mistakes)
        header = next(self._records, None)
        self.columns = _columns(header.cells) if header else []

    def fit(self) -> tuple[int, int]:
        """Rate the delimiter: the known columns it yields, then all columns."""
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
                yield f"the column {column} appears {count} times"
        if "prompt" not in self.columns:
            yield "the column prompt is missing; name the columns in the first line, as in: key,prompt,model,images"

    def _row(self, record: _Record) -> Row | None:
        """Return a record as a row, or ``None`` if it is not one. Its mistakes are added to :attr:`mistakes`."""
        if wrong := self._too_long(record.cells) or self._ragged(record.cells):
            self.mistakes.append(Mistake(record.source, wrong))
            return None
        named = zip(self.columns, record.cells, strict=False)
        given = {column: _meant(column, cell) for column, cell in named if not coerce.is_nothing(cell)}
        if "" in given:
            self.mistakes.append(Mistake(record.source, "a column without a name has a value"))
        return Row({column: value for column, value in given.items() if column in FIELDS}, record.source)

    def _too_long(self, cells: list[str]) -> str | None:
        named = zip_longest(self.columns, cells, fillvalue="")
        longest = max(len(cell) for column, cell in named if column not in _WRITTEN_BY_PROGRAMS)
        if longest <= _CELL_CHARACTERS:
            return None
        limit = f"more than a spreadsheet cell can hold ({_CELL_CHARACTERS:,})"
        return f"a cell has {longest:,} characters, {limit}: a quote is probably not closed"

    def _ragged(self, cells: list[str]) -> str | None:
        expected = len(self.columns)
        count = max(number for number, cell in enumerate(cells, start=1) if cell.strip())
        if _columns(cells) == self.columns:
            return "repeats the header"
        if count > expected:
            hint = f"quote a cell that contains the delimiter {self._delimiter!r}"
            return f"got {count} cells, but the header has {expected}; {hint}"
        if len(cells) < expected:
            return f"got {len(cells)} cells, but the header has {expected}"
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
"""What a spreadsheet that takes an aspect ratio for a time of day writes."""


def _of_table(text: str, name: str, delimiters: str) -> Rows:
    header = text[:_HEADER_CHARACTERS]
    return _Table(text, name, max(delimiters, key=lambda each: _Table(header, name, each).fit())).rows()


_READERS: Mapping[str, Callable[[str, str], Rows]] = {
    ".csv": partial(_of_table, delimiters=",;\t"),
    ".tsv": partial(_of_table, delimiters="\t,;"),
    ".jsonl": _of_lines,
    ".ndjson": _of_lines,
}
