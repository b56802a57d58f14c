"""Let Griffe read the docstrings' reStructuredText: roles become links or code, code blocks become fences."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
import pages

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`(~?)([\w.]+)`")
_CODE_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:    .*\n?|\n)+)", re.MULTILINE)
_PUBLIC = {f"{pages.PACKAGE}.{module}.{name}" for module in pages.REFERENCE for name in pages.public_names(module)}
_BY_NAME = {path.rpartition(".")[2]: path for path in _PUBLIC}


class Roles(griffe.Extension):
    """Rewrites each docstring once its package is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite all docstrings of a package."""
        if pkg.path == pages.PACKAGE:
            for each in _objects(pkg):
                if each.docstring:
                    each.docstring.value = _markdown(each.docstring.value)


def _objects(of: griffe.Object) -> Iterable[griffe.Object]:
    yield of
    for member in of.members.values():
        if not member.is_alias:
            yield from _objects(member)


def _markdown(text: str) -> str:
    return _CODE_BLOCK.sub(_fence, _ROLE.sub(_link, text))


def _link(role: re.Match[str]) -> str:
    short, path = role.groups()
    owner, _, name = path.rpartition(".")
    text = name if short else path
    public = path if path in _PUBLIC else _BY_NAME.get(path)
    if public is None and owner in _BY_NAME:
        public = f"{_BY_NAME[owner]}.{name}"
    # All else is not in the reference, so there is nothing to link to.
    return f"[`{text}`][{public}]" if public else f"`{text}`"


def _fence(block: re.Match[str]) -> str:
    language, code = block.groups()
    return f"```{language}\n" + re.sub(r"^    ", "", code.strip("\n"), flags=re.MULTILINE) + "\n```\n"
