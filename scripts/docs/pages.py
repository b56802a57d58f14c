"""
What MkDocs needs besides ``docs/``: pages made from other files, and links to files outside ``docs/``.

The Markdown files link to each other and to other files by relative paths, as GitHub does. On the site, the README is
the first page, each example has a page, and links to all other files lead to the repository.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = "airflow_provider_veo"
EXAMPLES = "dags_examples"
COPIES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
"""Pages that are other Markdown files of the project."""
REFERENCE: dict[str, tuple[str, ...]] = {
    "operators": (
        "VeoCreateVideoOperator",
        "VeoDownloadVideoOperator",
        "VeoVideoBatchOperator",
        "VeoMergeShardsOperator",
    ),
    "sensors": ("VeoVideoSensor",),
    "decorators": ("veo_video_task", "veo_video_batch_task"),
    "hooks": ("VeoHook", "VeoAsyncHook"),
    "triggers": ("VeoVideoTrigger", "VeoVideoBatchTrigger"),
    "links": ("VideoLink",),
    "retry_policy": ("veo_retry_policy", "VeoRetryPolicy"),
    "protocol": (),
    "sandbox": ("running", "Sandbox", "SandboxError"),
}
"""The public names, by module. For a module without names, those in its ``__all__``."""
FIRST = ("VideoTask", "VeoError")
"""What comes before the other names of ``protocol``."""
TITLES = {"protocol": "Videos and errors", "retry_policy": "Retry policy"}
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
"""The target of a relative link. Links within the page are left alone."""
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files."""
    made = {page: (PROJECT / source).read_text("utf-8") for source, page in COPIES.items()}
    made |= {_page_of_example(path.name): _example(path) for path in sorted((PROJECT / EXAMPLES).glob("*.py"))}
    made |= {f"reference/{module}.md": _reference(module) for module in REFERENCE}
    for page, content in made.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point relative links that lead out of ``docs/`` to the page made from that file, or to the repository."""
    uri = page.file.src_uri
    folder = posixpath.dirname(_source_of(uri))

    def rewritten(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        return f"{_target(path, uri, config)}{match[2] or ''}"

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(rewritten, part) for part in parts)


def _target(path: str, page: str, config: MkDocsConfig) -> str:
    """Return the link from a page of the site to a path of the project."""
    if path in COPIES:
        path = f"docs/{COPIES[path]}"
    elif path.startswith(f"{EXAMPLES}/") and path.endswith(".py"):
        path = f"docs/{_page_of_example(path)}"
    if path.startswith("docs/"):
        return posixpath.relpath(path.removeprefix("docs/"), posixpath.dirname(page) or ".")
    return f"{config.repo_url}/{'tree' if (PROJECT / path).is_dir() else 'blob'}/main/{path}"


def _source_of(page: str) -> str:
    """Return the file that the links of a page are relative to."""
    if page.startswith("examples/"):
        return f"{EXAMPLES}/{Path(page).stem}.py"
    return next((source for source, copy in COPIES.items() if copy == page), f"docs/{page}")


def _page_of_example(name: str) -> str:
    return f"examples/{Path(name).stem}.md"


def _example(path: Path) -> str:
    """Return the page of an example: its docstring, then its code, then its spreadsheet if it has one."""
    source = path.read_text("utf-8")
    docstring = ast.parse(source).body[0]
    if not isinstance(docstring, ast.Expr):
        raise ValueError(f"{path.name} has no docstring")
    text = ast.literal_eval(docstring.value).replace("``", "`").strip()
    code = "\n".join(source.splitlines()[docstring.end_lineno :]).strip("\n")
    parts = [f"# {path.stem}", text, f'```python title="{path.name}"\n{code}\n```']
    sheet = path.with_suffix(".csv")
    if sheet.exists():
        parts.append(f'```text title="{sheet.name}"\n{sheet.read_text("utf-8").strip()}\n```')
    return "\n\n".join(parts)


def _reference(module: str) -> str:
    title = TITLES.get(module, module.capitalize())
    directives = [f"::: {PACKAGE}.{module}.{name}" for name in public_names(module)]
    return "\n\n".join([f"# {title}", f"`{PACKAGE}.{module}`", *directives])


def public_names(module: str) -> tuple[str, ...]:
    """Return the names of a module that its page documents. The module isn't imported."""
    if names := REFERENCE[module]:
        return names
    for statement in ast.parse((PROJECT / PACKAGE / module / "__init__.py").read_text("utf-8")).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(statement.value)
            return (*FIRST, *sorted(set(names) - set(FIRST)))
    raise ValueError(f"{module} has no __all__")
