"""A relay that repeats the key, and answers what no database stores: the task that has paid ends well."""

from __future__ import annotations

import http.server
import json
import shutil

import pytest

from tests.conftest import CANARY
from tests.system.conftest import make_airflow

DAG = """
from datetime import datetime, timezone
from airflow_provider_veo.operators import VeoCreateVideoOperator
try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

with DAG("veo_hostile", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    VeoCreateVideoOperator(
        task_id="create", prompt="a cow flies", model="veo3-fast",
        wait_for_completion=True, deferrable=False, poll_interval=0.2,
    )
"""


class HostileRelay(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.creates += 1
        self._answer({"status": "pending"})

    def do_GET(self):
        self._answer({"status": "completed", "video_url": f"https://example.com/v.mp4?key={CANARY}"})
        self.server.polls += 1

    def _answer(self, fields):
        if self.command == "GET" and self.server.polls:
            fields["video_url"] = "https://example.com/v.mp4"
        odd = f"half \ud800 of one, a NUL \0, and {CANARY}"
        body = json.dumps({"id": "veo3-fast:1", "enhanced_prompt": odd, "error": odd, "model": odd, **fields}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.mark.timeout(300)
def test_billed_task_succeeds_whatever_the_relay_answers(migrated_home, tmp_path, serve):
    relay = serve(HostileRelay)
    relay.creates = relay.polls = 0
    home = tmp_path / "airflow"
    shutil.copytree(migrated_home, home)
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "veo_hostile.py").write_text(DAG)
    connection = {"conn_type": "veo", "host": f"http://127.0.0.1:{relay.server_port}", "password": CANARY}
    airflow = make_airflow(home, dags, AIRFLOW_CONN_VEO_DEFAULT=json.dumps(connection))
    output = airflow.run("dags", "test", "veo_hostile", "2026-11-22")
    assert airflow.states("veo_hostile")["create", -1][0] == "success", output
    xcoms = airflow.xcoms("veo_hostile")
    assert xcoms["create", "return_value", -1] == "veo3-fast:1"
    assert xcoms["create", "veo_video", -1]["enhanced_prompt"] == "half \ufffd of one, a NUL \ufffd, and ***"
    assert relay.creates == 1
    assert CANARY not in airflow.everything_it_wrote()
