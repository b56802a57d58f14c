"""``make demo``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from tests.system.conftest import PROJECT

DEMO = [sys.executable, str(PROJECT / "demo" / "run.py")]


def processes_of(folder: Path) -> list[str]:
    """Return the processes whose AIRFLOW_HOME is in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"AIRFLOW_HOME={folder}/" in path.read_text(errors="replace"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def assert_readme_shows(output: str) -> None:
    """Check that the lines in the README are printed in this order. Most numbers differ from run to run."""
    section = (PROJECT / "README.md").read_text("utf-8").partition("\n## Output of `make demo`\n")[2]
    (shown,) = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    lines = iter(output.splitlines())
    for line in shown.splitlines():
        words = re.split(r"\b(24|15\.2)\b", line)  # the number of prompts and what they cost
        words[::2] = [re.sub(r"\d+", r"\\d+", ".*".join(map(re.escape, word.split("…")))) for word in words[::2]]
        assert any(re.fullmatch("".join(words), printed.rstrip()) for printed in lines), f"{line!r} not in:\n{output}"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_demo_can_be_stopped_and_run_again():
    folder = PROJECT / ".demo"
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, start_new_session=True) as stopped:
        for line in stopped.stdout:
            if "airflow dags test" in line:
                break
        deadline = time.monotonic() + 60
        while not processes_of(folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_of(folder)
        os.killpg(stopped.pid, signal.SIGINT)
        rest = stopped.stdout.read()
    assert stopped.returncode == 130
    assert "Traceback" not in rest
    assert not processes_of(folder)
    assert not (folder / "airflow").exists()

    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=480)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 videos accepted, 0 of them twice" in done.stdout
    assert_readme_shows(done.stdout)
    assert not processes_of(folder)
    assert not (folder / "airflow").exists()
    (report,) = (folder / "videos").rglob("report.html")
    assert f"report   open it in a browser: {report.as_uri()}\n" in done.stdout
    assert report.read_text().count("data:image/jpeg;base64,") == 24
    files = sorted((folder / "videos").rglob("*.mp4"))
    sizes = set()
    for file in files:
        with av.open(str(file)) as video:
            assert sum(1 for _ in video.decode(video=0)) > 24
            sizes.add((video.streams.video[0].width, video.streams.video[0].height))
    assert len(files) == 24
    assert sizes == {(640, 360), (360, 640), (1280, 720), (720, 1280)}
