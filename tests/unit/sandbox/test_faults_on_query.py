"""Each fault of queries and generations reaches a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_veo.sandbox.settings import CHOICES

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox import Sandbox

    from .conftest import Client


def test_unknown_status_hides_the_url(client: Client, sandbox: Sandbox) -> None:
    video = client.accepted()
    sandbox.set_faults("unknown-status@1", "unknown-status=thinking@2")
    answers = [client.query(video).json() for _ in range(3)]
    assert [answer["status"] for answer in answers] == ["video_reticulating", "thinking", "completed"]
    assert [bool(answer["video_url"]) for answer in answers] == [False, False, True]


def test_status_word_can_be_forced(client: Client, sandbox: Sandbox) -> None:
    video = client.accepted()
    sandbox.set_faults("status-word=succeeded@1", "upper-case")
    assert client.query(video).json()["status"] == "SUCCEEDED"
    assert client.query(video).json()["status"] == "COMPLETED"


@pytest.mark.parametrize("form", ["error", "fail_reason", "detail.error", "detail.error_message"])
def test_failure_reason_is_reported_in_the_chosen_form(client: Client, sandbox: Sandbox, form: str) -> None:
    sandbox.set_faults(f"failed=unsafe: a cow:{form}")
    answer: Any = client.query(client.accepted()).json()
    assert (answer["status"], answer["video_url"]) == ("failed", None)
    for field in form.split("."):
        answer = answer[field]
    assert answer == "unsafe: a cow"
    assert sandbox.videos()[0]["state"] == "failed"


def test_failure_reason_can_be_an_object_or_the_default(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("failed=unsafe:error-object@1", "failed@2")
    first, second = (client.query(client.accepted()).json()["error"] for _ in range(2))
    assert first == {"message": "unsafe", "code": "generation_failed"}
    assert "safety filter" in second


def test_failure_is_reported_when_the_generation_ends(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(generation_seconds=1000)
    sandbox.set_faults("failed")
    video = client.accepted()
    assert client.query(video).json()["status"] == "pending"
    sandbox.configure(generation_seconds=0)
    assert client.query(video).json()["status"] == "failed"


def test_per_video_fault_affects_all_queries_of_a_video(client: Client, sandbox: Sandbox) -> None:
    first = client.accepted(prompt="a cow")
    sandbox.set_faults("failed@2", "no-url@prompt=horse")
    second, horse = client.accepted(prompt="a cow"), client.accepted(prompt="a horse")
    for _ in range(2):
        assert client.query(first).json()["status"] == "completed"
        assert client.query(second).json()["status"] == "failed"
        assert client.query(horse).json()["status"] == "completed"
        assert client.query(horse).json()["video_url"] is None


def test_failed_upsampling_leaves_the_plain_video(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("upsampling-failed")
    answer = client.query(client.accepted(enable_upsample=True)).json()
    assert answer["status"] == "video_upsampling_failed"
    assert answer["video_url"] == answer["detail"]["video_url"]
    assert "upsampled" not in answer["video_url"]
    assert client.send("HEAD", answer["video_url"]).status_code == 200


def test_succeeded_video_can_have_leftover_errors(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("leftover-error")
    answer = client.query(client.accepted()).json()
    assert answer["status"] == "completed"
    assert answer["video_url"]
    fields = (answer["error"], answer["fail_reason"])
    details = [answer["detail"][name] for name in ("error", "error_message", "video_generation_error")]
    assert all("leftover" in text for text in (*fields, *details))


def test_url_can_appear_after_the_success(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("late-url=2")
    video = client.accepted()
    answers = [client.query(video).json() for _ in range(4)]
    assert {answer["status"] for answer in answers} == {"completed"}
    assert [bool(answer["video_url"]) for answer in answers] == [False, False, True, True]
    assert sandbox.stats()["faults_fired"] == {"late-url=2": 2}


def test_new_video_can_be_not_found_at_first(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("not-found-first=2")
    for video in (client.accepted(), client.accepted()):
        assert [client.query(video).status_code for _ in range(3)] == [404, 404, 200]


def test_new_video_can_be_not_found_under_another_status(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("not-found-first=1:400")
    video = client.accepted()
    answer = client.query(video)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "task_not_exist")
    assert client.query(video).json()["status"] == "completed"


def test_answer_can_be_an_error_under_200(client: Client, sandbox: Sandbox) -> None:
    video = client.accepted()
    sandbox.set_faults("error-status@1", "error-status=task not found@2", "create:error-status")
    answers = [client.query(video) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.json()["status"] for answer in answers] == ["error", "error", "completed"]
    assert answers[1].json() == {"status": "error", "error": "task not found"}
    assert "id" not in client.create().json()
    assert sandbox.stats()["accepted"] == 1


def test_url_can_be_quoted(client: Client, sandbox: Sandbox) -> None:
    video = client.accepted()
    sandbox.set_faults("quoted-url@1")
    quoted, plain = (client.query(video).json()["video_url"] for _ in range(2))
    assert quoted == f" `{plain}` "


@pytest.mark.parametrize("path", CHOICES["url_field"])
def test_url_is_at_the_configured_path(client: Client, sandbox: Sandbox, path: str) -> None:
    sandbox.configure(url_field=path, status_field="task_status")
    answer: Any = client.query(client.accepted()).json()
    assert answer["task_status"] == "completed"
    assert "status" not in answer
    for part in path.split("."):
        answer = answer[int(part) if part.isdigit() else part]
    assert answer.endswith(".mp4")


def test_selector_matches_queries_by_their_video(client: Client, sandbox: Sandbox) -> None:
    cow, horse = client.accepted(prompt="a cow"), client.accepted(prompt="a horse")
    sandbox.set_faults("query:drop-after@prompt=cow", "query:rate-limit=1@prompt=horse,1")
    with pytest.raises(requests.ConnectionError):
        client.query(cow)
    assert [client.query(horse).status_code for _ in range(2)] == [429, 200]


def test_wrapped_answer_contains_the_failure(client: Client, sandbox: Sandbox) -> None:
    sandbox.configure(wrapped=True)
    sandbox.set_faults("failed=unsafe", "query:no-id@2")
    video = client.accepted()
    answer = client.query(video).json()
    assert answer["status"] == "SUCCESS"
    assert (answer["data"]["status"], answer["data"]["error"]) == ("failed", "unsafe")
    assert "id" not in client.query(video).json()["data"]
