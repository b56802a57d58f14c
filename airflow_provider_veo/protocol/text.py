"""Untrusted text: shortened, made storable, and redacted."""

from __future__ import annotations

import difflib
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

REDACTED = "***"
_SHORTEST_SECRET = 4
"""Shorter secrets occur in ordinary words. Redacting them would make texts unreadable."""
_SHORTEST_SECRET_IN_IDENTIFIER = 16
"""An id or a URL with a secret in it is unusable, but may contain a short password by chance."""
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def shortened(text: str, characters: int) -> str:
    """Truncate a text to a maximum length, and append its original length."""
    return text if len(text) <= characters else f"{text[: characters - 1]}… ({len(text)} characters)"


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """
    Ask whether a name is a misspelling of known ones: ``did you mean a or b?``. Empty if it is like none of them.

    :param name: the unknown name.
    :param known: in lower case.
    :param most: maximum number of names to suggest.
    """
    near = difflib.get_close_matches(name.lower(), list(known), n=most)
    return f"did you mean {' or '.join(near)}?" if near else ""


def first_line(error: object) -> str:
    """Return the first line of an error: what failed, and what came back."""
    return str(error).partition("\n")[0]


def storable(text: str) -> str:
    """
    Replace lone surrogates and control characters except tab and line breaks by U+FFFD.

    UTF-8 can't encode the former, and PostgreSQL's JSON rejects NUL.
    """
    if text.isprintable():  # nearly all texts are, and this is faster
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def redacted(text: str, secrets: Collection[str]) -> str:
    """
    Replace secrets of four characters or more with ``***``: plain or with any characters JSON- or percent-escaped.

    :param text: any text.
    :param secrets: strings to redact.
    """
    known = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
    is_plain = _has_no_escapes(text)
    for secret in sorted(known, key=len, reverse=True) if len(known) > 1 else known:
        text = text.replace(secret, REDACTED) if is_plain else _any_form_of(secret).sub(REDACTED, text)
    return text


def cleaned(text: str, secrets: Collection[str], characters: int) -> str:
    """Return a text made storable, redacted, and truncated to about ``characters``."""
    return shortened(redacted(storable(text), secrets), characters)


def reveals(identifier: str, secrets: Collection[str]) -> bool:
    """Whether an id or a URL contains a secret of sixteen characters or more, in any form of :func:`redacted`."""
    known = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET_IN_IDENTIFIER]
    if _has_no_escapes(identifier):
        return any(secret in identifier for secret in known)
    return any(_any_form_of(secret).search(identifier) for secret in known)


def _has_no_escapes(text: str) -> bool:
    """Whether a text can contain a secret only in its plain form, which is found faster."""
    return "\\" not in text and "%" not in text


@lru_cache(maxsize=64)
def _any_form_of(secret: str) -> re.Pattern[str]:
    return re.compile("".join(map(_any_form_of_character, secret)))


def _any_form_of_character(character: str) -> str:
    percent = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    code = character.encode("utf-16-be", "surrogatepass").hex()
    units = "".join(rf"\u{code[start : start + 4]}" for start in range(0, len(code), 4))
    escapes = [json.dumps(character)[1:-1], rf"\{character}" if character in "/'" else character]
    forms = [re.escape(form) for form in dict.fromkeys([*escapes, character])]
    forms += [_ignoring_case(percent), _ignoring_case(units)]
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"


def _ignoring_case(form: str) -> str:
    """Match hexadecimal digits in both cases; the ``u`` of an escape is always lower case."""
    return "".join(f"[{digit}{digit.upper()}]" if digit in "abcdef" else re.escape(digit) for digit in form)
