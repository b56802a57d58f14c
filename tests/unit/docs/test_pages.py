"""Links, anchors, code and messages in the documentation, and the links to it from the package."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import airflow_provider_veo
from airflow_provider_veo import DOCUMENTATION
from airflow_provider_veo.connection import form
from airflow_provider_veo.get_provider_info import get_provider_info

PROJECT = Path(__file__).parents[3]
DOCS = PROJECT / "docs"
PAGES = sorted([*PROJECT.glob("*.md"), *DOCS.glob("*.md")])
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
MESSAGE = re.compile(r"^### `(.+)`$", re.MULTILINE)
INCLUDED = re.compile(r"\]\((snippets/[^)]+)\)[^\n]*:?\n(?:[^`\n]+\n)*\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub and the site derive them from its headings."""
    found: Counter[str] = Counter()
    names = set()
    for heading in HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_and_anchors_resolve(page):
    broken = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_each_page_is_listed_in_the_readme():
    listed = set(re.findall(r"\]\((docs/[^)#]+\.md)\)", prose(PROJECT / "README.md")))
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} - listed == set()


def test_pages_show_the_code_of_their_snippets():
    shown = {}
    for page in DOCS.glob("*.md"):
        for path, code in INCLUDED.findall(page.read_text("utf-8")):
            shown[path] = code
    files = {
        f"snippets/{path.name}": path.read_text("utf-8") for path in (DOCS / "snippets").iterdir() if path.is_file()
    }
    assert shown == files


@cache
def messages() -> list[str]:
    """Return all strings of the package, with … for each value."""
    found = []
    for path in Path(airflow_provider_veo.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%(\.\d)?[sdrf]", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
    return found


@pytest.mark.parametrize("message", MESSAGE.findall((DOCS / "troubleshooting.md").read_text("utf-8")))
def test_messages_of_the_troubleshooting_page_exist(message):
    pattern = re.compile(".*".join(map(re.escape, message.split("…"))))
    assert any(pattern.search(text) for text in messages())


def test_each_message_says_the_cause_the_cost_and_the_solution():
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        if section.startswith("`"):
            assert re.findall(r"^- \*\*(.*?)\*\*", section, re.MULTILINE) == ["Cause:", "Billed?", "What to do:"], (
                section
            )


def urls(value: object) -> set[str]:
    return set(re.findall(r"https://[^\s'\"]+readthedocs[^\s'\",)]*", repr(value)))


def test_links_of_the_package_lead_to_pages_and_anchors():
    used = urls(get_provider_info()) | urls(form.CONN_FIELDS)
    assert used
    for url in used:
        assert url.startswith(DOCUMENTATION)
        page, _, anchor = url.removeprefix(DOCUMENTATION).rstrip(".").partition("#")
        target = DOCS / f"{page.strip('/')}.md" if page else PROJECT / "README.md"
        assert target.exists(), url
        assert not anchor or anchor in anchors(target), url


def test_the_site_has_the_address_that_the_package_links_to():
    assert f"site_url: {DOCUMENTATION}\n" in (PROJECT / "mkdocs.yml").read_text("utf-8")
