"""
Find phrases that this project does not use, and suggest the preferred ones.

``python scripts/check_words.py [FILE …]`` reads the given files, or by default all sources and documents of the
project. It prints each phrase with its place, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROJECT = Path(__file__).resolve().parents[1]
SUFFIXES = {".py", ".md", ".ts", ".tsx"}
NAMES = {"Makefile"}
SKIPPED_FOLDERS = {"node_modules", "dist", "build", "__pycache__"}
"""Hidden folders are also skipped, except ``.github``."""
SKIPPED_FILES = {"scripts/check_words.py", "tests/unit/test_project_files.py"}
"""Files that contain the phrases in order to find them."""
# Between two words of a phrase there may be a line break, followed by the beginning of a comment.
GAP = r"(?:\s+(?:(?:#|\*|//)\s+)?)"


class Rule(NamedTuple):
    """A phrase and what to write instead."""

    phrase: str
    """A regular expression. Each space matches any white space."""
    instead: str
    allowed_in: frozenset[str] = frozenset()
    """Files in which the phrase is a name that can't change."""


RULES = (
    Rule(r"\bmend(s|ed|ing)?\b", "fix"),
    Rule(r"\b(go|goes|going|went|gone) on\b", "continue, resume"),
    Rule(r"\banew\b", "again"),
    Rule(r"\bonce more\b", "again, retry"),
    Rule(r"\bso often\b(?! that)", "at most N times; the number of times"),
    Rule(r"\bso many\b(?! that)", "at most N; this number of"),
    Rule(r"\bfor so long\b(?! that)", "for at most N seconds; for this long"),
    Rule(r"\bhow many-th\b", "1-based number"),
    Rule(r"\bledgers?\b", "journal, record"),
    Rule(r"\bscribes?\b", "JournalWriter, writer"),
    Rule(r"\b(was|were|is|are|be) told\b(?! apart)", "was reported, was returned, was notified"),
    Rule(r"(?<!there\s)\b(is|are|was|were) no\b(?! (longer|more|such|use|need|one)\b)", "is not a …"),
    Rule(r"\btakes? no more\b", "refuses, rejects"),
    Rule(r"\bis asked more slowly\b", "slowing down"),
    Rule(r"\b(lie|lies|lay) on disk\b", "is on disk"),
    Rule(r"\bnothing (is|was) paid\b", "nothing was billed"),
    Rule(r"\b(?-i:[Pp]aid) (for|twice)\b", "billed"),
    Rule(r"\bhas come\b", "was received, is ready"),
    Rule(r"\bstands? nowhere\b", "was not sent"),
    Rule(r"\bpaces?\b", "rate, rate limiter"),
    Rule(
        r"\btroubles?\b",
        "error",
        frozenset({"airflow_provider_veo/journal/formats.py", "tests/unit/journal/test_job_record.py"}),
    ),
    Rule(r"\ba text (that says|which)\b", "a string"),
    Rule(r"\bexpected a text\b", "expected a string"),
    Rule(r"\bwherever it comes from\b", "wherever it is defined"),
    Rule(r"\bif at all\b", "possibly"),
    Rule(r"\btaking together\b", "compacting, combining"),
)


def findings(text: str, name: str = "") -> Iterator[tuple[int, str]]:
    """
    Yield the line and the description of each phrase in a text.

    :param name: path of the file in the project.
    """
    for rule, pattern in _PATTERNS:
        if name in rule.allowed_in:
            continue
        for found in pattern.finditer(text):
            phrase = re.sub(GAP, " ", found[0])
            yield text.count("\n", 0, found.start()) + 1, f"{phrase!r}: write {rule.instead!r}"


def sources(project: Path) -> Iterator[Path]:
    """Yield the files of the project that people read."""
    for folder, folders, files in os.walk(project):
        folders[:] = sorted(each for each in folders if _is_read(each))
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix in SUFFIXES or name in NAMES:
                yield path


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all findings."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    paths = parser.parse_args(arguments).files or sources(PROJECT)
    count = 0
    for path in map(Path.resolve, paths):
        name = path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)
        if name in SKIPPED_FILES or not path.is_file():
            continue
        for line, message in sorted(findings(path.read_text("utf-8"), name)):
            print(f"{name}:{line}: {message}")
            count += 1
    return 1 if count else 0


def _is_read(folder: str) -> bool:
    return folder == ".github" or not (folder.startswith(".") or folder in SKIPPED_FOLDERS)


_PATTERNS = [(rule, re.compile(rule.phrase.replace(" ", GAP), re.IGNORECASE)) for rule in RULES]


if __name__ == "__main__":
    sys.exit(main())
