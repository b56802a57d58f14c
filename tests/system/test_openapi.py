"""schemathesis sends the sandbox what its OpenAPI description allows and what it does not, for about half a minute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_veo import sandbox

pytestmark = pytest.mark.long  # only make test-system installs schemathesis

CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]  # 503: a model without a channel
"""
NOT_CHECKED = "negative_data_rejection"
"""Whether invalid data is refused: what makes a form invalid is often lost when schemathesis writes it as text."""


def fuzz(relay: sandbox.Sandbox, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", "schemathesis.toml", "run"]
    command += ["--header", f"Authorization: Bearer {relay.api_key}", "--checks", "all"]
    command += ["--exclude-checks", NOT_CHECKED, "--max-examples", "50", "--seed", "1", "--no-color"]
    command += ["--continue-on-failure", f"{relay.url}/openapi.json"]
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=300)


def test_sandbox_answers_as_it_is_described(tmp_path):
    with sandbox.running(generation_seconds=0, video_seconds=0.1) as relay:
        done = fuzz(relay, tmp_path)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr
        answers = relay.stats()["answers"]
        assert "Traceback" not in relay.output()
        videos = relay.videos()
    assert {status for endpoint in answers.values() for status in endpoint if status >= "500"} <= {"503"}
    # What it found out is worth something only if it got this far.
    assert answers["create"]["200"] > 100
    assert answers["create"]["400"] > 50
    assert answers["query"]["200"] > 20
    assert answers["file"]["200"] > 5
    assert {video["api"] for video in videos} == {"unified", "openai"}


@pytest.mark.parametrize("fault", ["query:no-id", "create:status=500"])
def test_deviation_from_the_description_is_found(tmp_path, fault):
    with sandbox.running(generation_seconds=0, video_seconds=0.1, faults=[fault]) as relay:
        assert fuzz(relay, tmp_path).returncode == 1
