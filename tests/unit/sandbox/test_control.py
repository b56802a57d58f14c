"""The control endpoints: reading statistics and requests, and setting faults and options."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_veo.sandbox import SandboxError
from airflow_provider_veo.sandbox.cli import main
from airflow_provider_veo.sandbox.delivery import MANNERS
from airflow_provider_veo.sandbox.fault_kinds import KINDS
from airflow_provider_veo.sandbox.faulty import CORRUPTED, INSTEAD

from .conftest import BODY

if TYPE_CHECKING:
    from airflow_provider_veo.sandbox import Sandbox

    from .conftest import Client

UNSENDABLE_SPECS = [
    "rate-limit-date=1e12",
    "rate-limit=1e10",
    "slow=1e300",
    "huge=1000000000000",
    "wrong-length=-1000000000000",
    "late-url=1" + 5000 * "0",
    "html-200=text/html\r\nX-Injected: yes",
    "html-200=text/html\n",
    "html-200=text/\0",
    "html-200=文字",
    "html-200= ",
    "redirect=http://example.com/\r\nX-Injected: yes",
    "redirect=http://example.com/视频",
    "redirect=http://example.com/a b",
    "redirect=http:///path",
    "redirect=http://[",
    "early-url=file:///etc/passwd",
    "bare=204",
    "status=304:code",
    "envelope=code:205",
    "bare-after=204",
    "status-word=\ud800",
    "drop-after@prompt=\udcff",
]
"""What no HTTP server could send."""
WRONG_SPECS = [
    "",
    "nonsense",
    "status",
    "status=abc",
    "status=99",
    "status=400:",
    "drop-after=1",
    "drop-after@0",
    "drop-after@4-2",
    "drop-after@101%",
    "drop-after@model=",
    "drop-after@1,x",
    "drop-after@last",
    "hang-before",
    "hang-before=-1",
    "hang-before=inf",
    "hang-before=nan",
    "late-url=0",
    "redirect=example.com",
    "envelope=",
    "file:failed",
    "create:no-range",
    "file:no-json",
    "elsewhere:reset",
    "not-found-first=2:",
    "not-found-first=2:99",
    *UNSENDABLE_SPECS,
]


def test_stats_report_prompts_accepted_twice(client: Client, sandbox: Sandbox) -> None:
    for prompt in ("牛", "马", "牛"):
        client.query(client.accepted(prompt=prompt))
    client.create(prompt="")
    stats = sandbox.stats()
    assert stats["accepted"] == 3
    assert stats["accepted_by_prompt"] == {"牛": 2, "马": 1}
    assert stats["paid_twice"] == {"牛": 2}
    assert stats["requests"] == {"create": 4, "query": 3}
    assert stats["answers"] == {"create": {"200": 3, "400": 1}, "query": {"200": 3}}
    assert [video["prompt"] for video in sandbox.videos()] == ["牛", "马", "牛"]
    assert [video["queries"] for video in sandbox.videos()] == [1, 1, 1]


def test_reset_clears_everything(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_faults("status=500@2")
    video = client.accepted()
    sandbox.configure(api_key="another", generation_seconds=9)
    sandbox.reset()
    assert sandbox.stats() == {
        "requests": {},
        "answers": {},
        "accepted": 0,
        "accepted_by_prompt": {},
        "paid_twice": {},
        "faults": [],
        "faults_fired": {},
    }
    assert sandbox.videos() == sandbox.requests("all") == []
    assert client.query(video).status_code == 404
    assert sandbox.api_key == "sandbox-key"


def test_requests_are_recorded_without_the_key(client: Client, sandbox: Sandbox) -> None:
    client.create(prompt="牛飞上天了", headers={"User-Agent": "me/1", "X-Leak": "x sandbox-key y"})
    client.query("a:b")
    create, query = sandbox.requests("all")
    assert (create["method"], create["path"], create["status"]) == ("POST", "/v1/video/create", "200")
    assert json.loads(create["body"]) == {**BODY, "prompt": "牛飞上天了"}
    assert create["body_bytes"] > len(create["body"]) - 20
    assert create["headers"]["user-agent"] == "me/1"
    assert create["headers"]["authorization"] == "Bearer (hidden)"
    assert create["headers"]["x-leak"] == "x (hidden) y"
    assert create["authorized"] is True
    assert query["query"] == "id=a%3Ab"
    assert sandbox.requests() == [create]
    assert sandbox.api_key not in json.dumps(sandbox.requests("all"))


def test_accepted_videos_are_logged_on_one_safe_line(client: Client, sandbox: Sandbox) -> None:
    video = client.accepted(prompt="牛 \x1b[31m\nsandbox-key " + "x" * 100)
    line = sandbox.output().splitlines()[-1]
    assert line.startswith(f"accepted {video} (veo3-fast): 牛 ?[31m (hidden) xxx")
    assert line.endswith("…")


@pytest.mark.parametrize("spec", WRONG_SPECS)
def test_invalid_spec_is_refused_and_changes_nothing(sandbox: Sandbox, spec: str) -> None:
    sandbox.set_faults("reset")
    with pytest.raises(SandboxError, match="fault"):
        sandbox.set_faults("drop-after", spec)
    assert sandbox.stats()["faults"] == ["reset"]


@pytest.mark.parametrize("spec", ["drop-after@0", *UNSENDABLE_SPECS])
def test_invalid_spec_is_a_usage_error(capsys: pytest.CaptureFixture[str], spec: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--port", "0", "--fault", spec])
    assert caught.value.code == 2
    assert re.search(r"error: fault .+: (needs|is not valid|the selector) ", capsys.readouterr().err)


def test_every_value_up_to_the_limits_can_be_sent(client: Client, sandbox: Sandbox) -> None:
    specs = ["rate-limit-date=1e9@1", "rate-limit=1e9@2", "empty=304@3", "html-200=text/plain; \xe9\t=1"]
    sandbox.set_faults(*specs)
    answers = [client.create() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 304]
    assert answers[1].headers["retry-after"] == "1000000000"
    assert client.send("GET", client.video_url()).headers["content-type"] == "text/plain; \xe9\t=1"


@pytest.mark.parametrize(
    "change",
    [
        {"nonsense": 1},
        {"wrapped": "yes"},
        {"response_shape": "xml"},
        {"generation_seconds": -1},
        {"generation_seconds": True},
        {"api_key": ""},
        {"api_key": "a b"},
        {"video_seconds": 0},
        {"extra_models": ["veo9:2"]},
        {"extra_models": "veo9"},
    ],
)
def test_invalid_setting_is_refused(sandbox: Sandbox, change: dict[str, Any]) -> None:
    with pytest.raises(SandboxError, match=next(iter(change)).replace("_", ".")):
        sandbox.configure(**change)


def test_every_kind_of_fault_is_implemented() -> None:
    elsewhere = {
        "unknown-status", "status-word", "upper-case", "quoted-url", "failed", "upsampling-failed", "leftover-error",
        "late-url", "no-url", "not-found-first", "no-range", "etag-changes",
    }  # fmt: skip
    assert {*INSTEAD, *CORRUPTED, *MANNERS, *elsewhere} == set(KINDS)
