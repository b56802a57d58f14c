"""``make ui-demo``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.system.conftest import PROJECT
from tests.system.test_demo import processes_of

FOLDER = PROJECT / ".ui-demo"

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc"),
]


def test_ui_demo_shows_videos_after_login_and_stops_cleanly():
    command = [sys.executable, str(PROJECT / "demo" / "ui.py")]
    said = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as demo:
        try:
            for line in demo.stdout:
                said += line
                if "ready" in line:
                    break
            url, user, password = re.search(
                r"open +(\S+)/plugin/.*user (\S+), password (\S+)", said, re.DOTALL
            ).groups()
            token = requests.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=60)
            with requests.Session() as session:
                session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
                (batch,) = session.get(f"{url}/veo/api/batches", timeout=60).json()["batches"]
                videos = session.get(f"{url}/veo/api/videos", timeout=60).json()["videos"]
                path = f"{url}/veo/api/batches/veo_nightly/demo/{batch['task_id']}/-1/videos"
                played = session.get(path, timeout=60).json()["videos"][0]
                file = session.get(f"{url}/veo/{played['file_href']}", headers={"Range": "bytes=0-99"}, timeout=60)
        finally:
            os.killpg(demo.pid, signal.SIGINT)
        said += demo.stdout.read()
    assert demo.returncode == 0, said
    assert "Traceback" not in said
    assert (batch["total"], batch["done"], batch["failed"]) == (24, 23, 1)
    assert {"veo_reference_images", "veo_wait_with_sensor", "veo_decorator"} <= {each["dag_id"] for each in videos}
    assert played["preview"] == "file"
    assert {each["preview"] for each in videos if each["state"] == "succeeded"} <= {"file", "remote"}
    assert (file.status_code, len(file.content)) == (206, 100)
    assert not processes_of(FOLDER)
    assert not FOLDER.exists()
