"""What the project's own files say: targets exist, versions agree, and unwanted phrases are found."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from airflow_provider_veo import __version__

PROJECT = Path(__file__).parents[2]
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text("utf-8")
MAKEFILE = (PROJECT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
WORKFLOWS = PROJECT / ".github" / "workflows"


@pytest.fixture(scope="module")
def check_words():
    spec = importlib.util.spec_from_file_location("check_words", PROJECT / "scripts" / "check_words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def targets_in(text):
    return set(re.findall(r"\bmake ([a-z][a-z-]*)\b", text))


def steps_of_ci():
    script = (PROJECT / ".ci" / "run").read_text("utf-8")
    return [shlex.split(line)[1:] for line in script.splitlines() if line.startswith("step ")]


# --- CONTRIBUTING.md -------------------------------------------------------------------------------------------------


def test_contributing_names_existing_targets():
    code = re.findall(r"`(make [^`]*)`|^(make .*)$", CONTRIBUTING, re.MULTILINE)
    named = targets_in("\n".join(map("".join, code)))
    assert named
    assert named <= TARGETS


def test_contributing_names_every_suite():
    suites = {target for target in TARGETS if target.startswith("test")} | {"lint", "coverage", "release-check"}
    assert suites <= targets_in(CONTRIBUTING)


def test_contributing_names_existing_packages():
    packages = re.findall(r"`([a-z]+)`", CONTRIBUTING.partition("## How the layers work")[2].partition("\n## ")[0])
    package = PROJECT / "airflow_provider_veo"
    assert [name for name in packages if not (package / name).is_dir() and not (package / f"{name}.py").exists()] == []


def test_contributing_names_existing_tests():
    paths = re.findall(r"\btests/[\w/.]+", CONTRIBUTING)
    assert paths
    assert [path for path in paths if not (PROJECT / path).exists()] == []


# --- workflows and metadata ------------------------------------------------------------------------------------------


def test_workflow_runs_the_targets_of_the_ci_script():
    workflow = yaml.safe_load((WORKFLOWS / "ci.yml").read_text("utf-8"))
    jobs = workflow["jobs"]
    in_workflow = {"test", "test-matrix"}
    for name in ("checks", "suites"):
        in_workflow |= {target.split()[0] for target in jobs[name]["strategy"]["matrix"]["target"]}
    in_script = {words[words.index("make") + 1] for words in steps_of_ci()}
    assert in_workflow == in_script
    assert in_script <= TARGETS


def test_workflow_runs_the_airflow_lines_of_the_ci_script():
    workflow = yaml.safe_load((WORKFLOWS / "ci.yml").read_text("utf-8"))
    (lines,) = [word.partition("=")[2] for words in steps_of_ci() for word in words if word.startswith("MATRIX=")]
    assert workflow["jobs"]["lines"]["strategy"]["matrix"]["line"] == lines.split()


def test_workflow_runs_every_python_of_the_classifiers():
    workflow = yaml.safe_load((WORKFLOWS / "ci.yml").read_text("utf-8"))
    pyproject = (PROJECT / "pyproject.toml").read_text("utf-8")
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', pyproject)
    assert workflow["jobs"]["unit"]["strategy"]["matrix"]["python"] == supported


def test_workflows_have_minimal_permissions():
    workflows = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in WORKFLOWS.glob("*.yml")}
    assert workflows["ci.yml"]["permissions"] == {"contents": "read"}
    assert workflows["release.yml"]["permissions"] == {}
    assert workflows["release.yml"]["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert [job for job, content in workflows["ci.yml"]["jobs"].items() if "permissions" in content] == []


def test_citation_names_the_version():
    assert yaml.safe_load((PROJECT / "CITATION.cff").read_text("utf-8"))["version"] == __version__


# --- check_words.py --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("Mend it in Admin > Connections.", "fix"),
        ("The task goes on with the same video.", "continue"),
        ("# It goes\n# on with the video.", "continue"),
        ("It is read anew.", "again"),
        ("It is sent once more.", "again"),
        ("Return so many seeds.", "at most N"),
        ("The worker was told.", "was reported"),
        ("The answer is no video.", "is not a"),
        ("The relay takes no more for now.", "refuses"),
        ("MP4 files that play lie on disk.", "on disk"),
        ("Nothing was sent, nothing is paid.", "billed"),
        ("What was paid for.", "billed"),
        ("the how many-th submission", "1-based"),
        ("expected a text that says what the video shows", "a string"),
    ],
)
def test_unwanted_phrase_is_found(check_words, text, instead):
    messages = [message for _, message in check_words.findings(text)]
    assert any(instead in message for message in messages), messages


@pytest.mark.parametrize(
    "text",
    [
        "Fix it in Admin > Connections.",
        "The task continues with the same video.",
        "There is no record of it.",
        "The URL is no longer valid.",
        "The cells can't be told apart.",
        "It takes so long that the triggerer is killed.",
        "def recommend(): ...",
        "if state in PAID for each",
    ],
)
def test_plain_sentence_passes(check_words, text):
    assert list(check_words.findings(text)) == []


def test_finding_has_its_line(check_words):
    assert [line for line, _ in check_words.findings("one\ntwo\nread anew\n")] == [3]


def test_words_are_checked_in_documents_and_sources(check_words):
    names = {path.relative_to(PROJECT).as_posix() for path in check_words.sources(PROJECT)}
    assert {"README.md", "Makefile", "airflow_provider_veo/triggers.py", "docs/errors.md"} <= names
    assert not [name for name in names if "node_modules" in name or "/dist/" in name or name.startswith(".venv")]


def test_phrase_in_a_file_fails(check_words, tmp_path, capsys):
    (tmp_path / "page.md").write_text("The task goes on.\n")
    assert check_words.main([str(tmp_path / "page.md")]) == 1
    assert "page.md:1: 'goes on'" in capsys.readouterr().out
    (tmp_path / "page.md").write_text("The task continues.\n")
    assert check_words.main([str(tmp_path / "page.md")]) == 0
