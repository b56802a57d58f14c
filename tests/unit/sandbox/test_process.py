"""The process prints its connection, ends on signals, and never outlives its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import requests

from airflow_provider_veo import sandbox
from airflow_provider_veo.sandbox.cli import main

COMMAND = [sys.executable, "-m", "airflow_provider_veo.sandbox"]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_prints_the_connection_and_ends_without_errors(number: signal.Signals) -> None:
    command = [*COMMAND, "--port", "0", "--api-key", "it's-a-key", "--generation-seconds", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("export "):
                break
        shown = subprocess.run(
            ["bash", "-c", f"{line}\nprintenv AIRFLOW_CONN_VEO_DEFAULT"], capture_output=True, text=True, check=True
        )
        connection = json.loads(shown.stdout)
        assert connection == {"conn_type": "veo", "host": connection["host"], "password": "it's-a-key"}
        answer = requests.get(connection["host"] + "/v1/models", headers={"Authorization": "Bearer it's-a-key"})
        assert answer.status_code == 200
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")


def test_with_block_ends_the_process_despite_a_hanging_request() -> None:
    with pytest.raises(ZeroDivisionError), sandbox.running(faults=["models:hang-before=60"]) as relay:
        pid = relay.pid
        with pytest.raises(requests.ReadTimeout):
            requests.get(relay.url + "/v1/models", timeout=0.1)
        begin = time.monotonic()
        raise ZeroDivisionError
    assert not is_alive(pid)
    assert time.monotonic() - begin < 30


def test_options_reach_the_process() -> None:
    with sandbox.running(
        api_key="-key", seed=3, response_shape="chat", numeric_ids=True, extra_models=["veo9"], faults=["status=500@9"]
    ) as relay:
        assert relay.api_key == "-key"
        assert json.loads(relay.connection)["host"] == relay.url
        assert relay.stats()["faults"] == ["status=500@9"]
        body = {
            "model": "veo9",
            "prompt": "x",
            "enhance_prompt": True,
            "enable_upsample": False,
            "aspect_ratio": "16:9",
        }
        headers = {"Authorization": "Bearer -key", "Accept": "application/json"}
        answer = requests.post(relay.url + "/v1/video/create", json=body, headers=headers, timeout=60).json()
        assert isinstance(answer["id"], int)
        assert answer["object"] == "chat.completion"


def test_failed_start_reports_why() -> None:
    with pytest.raises(sandbox.SandboxError, match="fault 'nonsense'"), sandbox.running(faults=["nonsense"]):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("with_a_fork", [False, True])
def test_sandbox_ends_with_its_parent(tmp_path: Path, with_a_fork: bool) -> None:
    # A fork of the parent keeps the other end of the pipe open. Then only the parent's id changes.
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, time
            from airflow_provider_veo import sandbox
            with sandbox.running() as relay:
                fork = os.fork() if {with_a_fork} else -1
                if fork == 0:
                    time.sleep(30)
                    os._exit(0)
                print(relay.pid, fork, flush=True)
                time.sleep(60)
            """
        )
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, fork = map(int, parent.stdout.readline().split())
        assert is_alive(pid)
        parent.kill()
        parent.wait()
        try:
            assert wait_until_gone(pid)
        finally:
            if with_a_fork:
                os.kill(fork, signal.SIGKILL)


def test_non_loopback_host_requires_allow_remote(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--host", "0.0.0.0"])
    assert "--allow-remote" in capsys.readouterr().err


@pytest.mark.slow
def test_port_in_use_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with sandbox.running() as relay, pytest.raises(SystemExit):
        main(["--port", relay.url.rpartition(":")[2]])
    assert "cannot listen" in capsys.readouterr().err


def test_help_lists_all_faults(capsys: pytest.CaptureFixture[str]) -> None:
    from airflow_provider_veo.sandbox.fault_kinds import KINDS

    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(f" {kind.name}{kind.metavar} " in text for kind in KINDS.values())


def test_import_does_not_load_the_server() -> None:
    code = (
        "import sys, airflow_provider_veo.sandbox\n"
        "heavy = {'fastapi', 'starlette', 'uvicorn', 'av', 'PIL', 'airflow', 'requests', 'asyncio'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
