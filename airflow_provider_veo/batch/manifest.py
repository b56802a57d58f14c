"""A batch as people write it down: a CSV or JSONL file, or a list in the DAG, read into rows.

Nothing raises, whatever the bytes are. What can't be read is a mistake that says where it is and how to mend it, and
reading goes on behind it, so that one run finds all of them. What the fields may hold is not decided here.
"""

from __future__ import annotations

import ast
import codecs
import difflib
import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_veo.protocol import coerce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUEST_FIELDS = ("prompt", "model", "images", "aspect_ratio", "enhance_prompt", "enable_upsample", "extra_body")
"""The fields of a row that make the request, called as the arguments of ``VeoCreateVideoOperator``."""

FIELDS = (*REQUEST_FIELDS, "key", "existing_veo_task_id")
"""All fields of a row."""

_CELL_CHARACTERS = 32_767
"""What a spreadsheet's cell can hold. Images and extra_body are what programs write: they may be longer."""

_NAMES_LISTED = 20
_SAVE_AS = "save the file as UTF-8 (in Excel: Save As > CSV UTF-8)"
_ARRAY = (
    "this is one JSON array, and JSONL has one JSON object in each line, without brackets around them or commas "
    "between them (jq -c '.[]' makes that of it)"
)
_NOT_CLOSED = (
    "a quoted cell begins in this line, and is not closed: its closing quote is missing, or a quote inside it is not "
    'written twice (""). What follows was not read'
)
_STRAY_QUOTE = 'a quoted cell goes on after its closing quote: a quote inside a quoted cell is written twice ("")'


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
    delimiter is a comma, a semicolon or a tab, as its header has it. An empty cell is a field that is not given;
    images are separated by ``|``, or are a JSON list, and ``[]`` says that there are none.

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
    items = _listed(jobs) if isinstance(jobs, str) else jobs
    if isinstance(items, (str, bytes, bytearray)) or not isinstance(items, Sequence):
        expected = "expected a list of prompts or of objects, or a text that holds a JSON or Python list"
        return Rows([], [Mistake("jobs", f"{expected}, got {short(jobs)}")])
    found = Rows([], [])
    for index, item in enumerate(items):
        _take(item, f"jobs[{index}]", found)
    return _some(found, "jobs")


def short(value: Any) -> str:
    """Show what was given, but no prompt and no image in full."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def _some(found: Rows, source: str) -> Rows:
    return found if found.rows or found.mistakes else Rows([], [Mistake(source, "holds no jobs")])


def _listed(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


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
    return len(re.findall(rb"\r\n?|\n", content[:offset])) + 1


def _of_lines(text: str, name: str) -> Rows:
    found = Rows([], [])
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removeprefix("\ufeff")  # files that were put together, each with its own
        if not line.strip():
            continue
        source = f"{name}, line {number}"
        try:
            _take(_json(line), source, found)
        except _NotJsonError as error:
            if line.lstrip().startswith("[") and found == ([], []):
                return Rows([], [Mistake(name, _ARRAY)])
            found.mistakes.append(Mistake(source, str(error)))
    return found


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
    line: int
    cells: list[str]


class _BrokenRecordError(ValueError):
    """A record with a quoted cell that doesn't end as one."""


class _Scanner:
    """
    A CSV text, cut into records, without those whose cells are all empty.

    Written out since the csv module's limit of a cell's size is one for the whole process, is below that of an image,
    and since the module can't tell where a cell began.
    """

    def __init__(self, text: str, name: str, delimiter: str) -> None:
        self.mistakes: list[Mistake] = []
        self._text, self._name, self._delimiter = text, name, delimiter
        self._plain = re.compile(f"[^{delimiter}\n]*")
        self._position, self._line = 0, 1

    def records(self) -> Iterator[_Record]:
        while self._position < len(self._text):
            with suppress(_BrokenRecordError):
                record = _Record(self._line, list(self._cells()))
                if any(map(str.strip, record.cells)):
                    yield record

    def _cells(self) -> Iterator[str]:
        separator = self._delimiter
        while separator == self._delimiter:
            yield self._cell()
            separator = self._text[self._position : self._position + 1]
            self._position += 1
        self._line += 1

    def _cell(self) -> str:
        opening = _OPENING.match(self._text, self._position)
        if opening is None:
            start, self._position = self._position, self._end_of(self._plain, self._position)
            return self._text[start : self._position]
        closing = self._closing(opening.end())
        cell = self._text[opening.end() : closing]
        after = self._end_of(_BLANKS, closing + 1)
        if closing < 0 or self._text[after : after + 1] not in ("", "\n", self._delimiter):
            self._skip_cell(closed=closing >= 0 and "\n" not in cell)
            raise _BrokenRecordError
        self._position = after
        self._line += cell.count("\n")
        return cell.replace('""', '"')

    def _closing(self, start: int) -> int:
        """Return where the quote is that ends a cell; -1 if there is none."""
        while (end := self._text.find('"', start)) >= 0 and self._text.startswith('"', end + 1):
            start = end + 2
        return end

    def _end_of(self, pattern: re.Pattern[str], start: int) -> int:
        match = pattern.match(self._text, start)
        return match.end() if match else start

    def _skip_cell(self, *, closed: bool) -> None:
        """Go on with the next line, or not at all: behind a quote that isn't closed, cells can't be told from text."""
        self.mistakes.append(Mistake(f"{self._name}, line {self._line}", _STRAY_QUOTE if closed else _NOT_CLOSED))
        end = self._text.find("\n", self._position) if closed else -1
        self._position = end + 1 if end >= 0 else len(self._text)
        self._line += 1


_OPENING = re.compile(' *"')
_BLANKS = re.compile(" *")


class _Table:
    """The rows of a CSV text that has a header."""

    def __init__(self, text: str, name: str, delimiter: str) -> None:
        self._name, self._delimiter = name, delimiter
        scanner = _Scanner(text, name, delimiter)
        self._records, self.mistakes = scanner.records(), scanner.mistakes
        header = next(self._records, None)
        self.columns = _columns(header.cells) if header and not self.mistakes else []

    def fit(self) -> tuple[int, int]:
        """Say how well the delimiter cuts the header into columns."""
        return len({*self.columns}.intersection(FIELDS)), len(self.columns)

    def rows(self) -> Rows:
        if not self.columns:
            return Rows([], self.mistakes)
        self.mistakes += [Mistake(f"{self._name}, header", text) for text in self._mistakes_of_the_header()]
        if "prompt" not in self.columns:
            return Rows([], self.mistakes)
        return Rows([row for record in self._records if (row := self._row(record))], self.mistakes)

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
        source = f"{self._name}, line {record.line}"
        found = [*self._too_long(record)] or [Mistake(source, text) for text in self._ragged(record.cells)]
        self.mistakes += found
        if found:
            return None
        given = [(column, cell) for column, cell in zip(self.columns, record.cells, strict=False) if cell.strip()]
        if any(not column for column, _ in given):
            self.mistakes.append(Mistake(source, "there is a value in a column that has no name"))
        named = [(column, cell) for column, cell in given if column in FIELDS and not coerce.is_nothing(cell)]
        return Row({column: _meant(column, cell) for column, cell in named}, source)

    def _too_long(self, record: _Record) -> Iterator[Mistake]:
        line = record.line
        for column, cell in zip_longest(self.columns, record.cells, fillvalue=""):
            if len(cell) > _CELL_CHARACTERS and column not in ("images", "extra_body"):
                text = f"a cell has {len(cell):,} characters, more than a spreadsheet's can have ({_CELL_CHARACTERS:,})"
                yield Mistake(f"{self._name}, line {line}", f"{text}: a quote is probably not closed")
            line += cell.count("\n")

    def _ragged(self, cells: list[str]) -> Iterator[str]:
        expected = len(self.columns)
        count = max((number for number, cell in enumerate(cells, start=1) if cell.strip()), default=0)
        if _columns(cells) == self.columns:
            yield "repeats the header"
        elif count > expected:
            hint = f"a cell that holds the delimiter {self._delimiter!r} stands in quotes"
            yield f"got {count} cells, and the header has {expected}; {hint}"
        elif len(cells) < expected:
            yield f"got {len(cells)} cells, and the header has {expected}"


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
    return max((_Table(text, name, delimiter) for delimiter in delimiters), key=_Table.fit).rows()


_READERS: Mapping[str, Callable[[str, str], Rows]] = {
    ".csv": partial(_of_table, delimiters=",;\t"),
    ".tsv": partial(_of_table, delimiters="\t,;"),
    ".jsonl": _of_lines,
    ".ndjson": _of_lines,
}
