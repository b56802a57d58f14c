"""Each answer in ``corpus`` is read as the file says. CONTRIBUTING.md describes how to add one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_veo.protocol import VeoError, responses
from airflow_provider_veo.protocol.waiting import raise_if_failed

FILES = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted((Path(__file__).parent / "corpus").iterdir())
}
ANSWERS = [
    pytest.param(answer, id=f"{name}: {answer['name']}") for name, file in FILES.items() for answer in file["answers"]
]
ORIGINS = ("recorded", "documented", "derived")


def reading(answer: dict[str, Any]) -> dict[str, Any]:
    """Read an answer, and return what the hook makes of it: a video, or the error that it raises."""
    body = (answer["text"] if "text" in answer else json.dumps(answer["json"], ensure_ascii=False)).encode()
    headers = answer.get("headers")
    try:
        if answer["endpoint"] == "create":
            video = responses.parse_create(answer["status"], headers, body)
        else:
            video = responses.parse_query(answer["status"], headers, body, veo_task_id="asked:1")
    except VeoError as error:
        return {"raises": type(error).__name__, "transient": error.transient, **vars(error)}
    facts = {**video.to_dict(), "may_be_ready": video.may_be_ready, "warned": video.warning is not None}
    try:
        raise_if_failed(video)
    except VeoError as error:
        facts["fails_with"] = type(error).__name__
    return facts


@pytest.mark.parametrize("answer", ANSWERS)
def test_answer_is_read_as_its_file_says(answer):
    expected, found = answer["reading"], reading(answer)
    assert {name: found.get(name, "(no such fact)") for name in expected} == expected


@pytest.mark.parametrize("answer", ANSWERS)
def test_answer_says_what_is_needed_to_check_it(answer):
    assert answer["endpoint"] in ("create", "query")
    assert answer["origin"] in ORIGINS
    assert ("json" in answer) != ("text" in answer)
    needed = {"create": "id", "query": "state"}[answer["endpoint"]]
    assert {needed, "raises"} & answer["reading"].keys()


@pytest.mark.parametrize("name", FILES)
def test_file_names_its_source_and_each_answer_once(name):
    assert FILES[name]["source"]
    assert [each for each, count in Counter(each["name"] for each in FILES[name]["answers"]).items() if count > 1] == []
