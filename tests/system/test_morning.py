"""The report in the morning: the example's e-mail and chat message, at a real mail server and a real HTTP receiver."""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.server
import importlib.util
import json
import shutil
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_veo import sandbox
from tests.conftest import CANARY
from tests.system.conftest import make_airflow
from tests.system.examples import EXAMPLES, HAS_NOTIFIERS, NIGHT, settings_of
from tests.system.services import Services
from tests.system.supervised import free_port

if not HAS_NOTIFIERS:
    pytest.skip("HttpNotifier requires version 5.5 of the HTTP provider", allow_module_level=True)
controller = pytest.importorskip("aiosmtpd.controller")

DAG_ID = "veo_morning_report"
SUCCEEDS, FAILS, INVALID = RUNS = ("succeeds", "fails", "invalid")
DATES = {run_id: NIGHT + timedelta(days=number) for number, run_id in enumerate(RUNS)}
REASON = "@everyone <!channel> <b>too violent</b> {{ 7 * 7 }}"


class Mailbox:
    """What a mail server does with its mail."""

    def __init__(self):
        self.messages = []

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.messages.append((envelope.rcpt_tos, message))
        return "250 OK"


class Webhook(http.server.BaseHTTPRequestHandler):
    """A chat that takes messages."""

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.messages.append((self.path, self.headers["Content-Type"], json.loads(content)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def receivers():
    """Run both."""
    mailbox = Mailbox()
    mail = controller.Controller(mailbox, hostname="127.0.0.1", port=free_port(), ready_timeout=60)
    mail.start()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as chat:
        chat.messages = []
        threading.Thread(target=chat.serve_forever, args=(0.05,), daemon=True).start()
        yield mailbox, mail.port, chat
        chat.shutdown()
    mail.stop()


def dags(folder):
    """Copy the example, so that nothing is waited for between tries."""
    folder.mkdir()
    text = (EXAMPLES / f"{DAG_ID}.py").read_text(encoding="utf-8")
    assert "minutes=5" in text
    (folder / f"{DAG_ID}.py").write_text(text.replace("minutes=5", "seconds=0"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def ran(migrated_home, tmp_path_factory):
    """A night that succeeds, one in which the relay makes no video, and one whose connection is invalid."""
    root = tmp_path_factory.mktemp("morning")
    home = shutil.copytree(migrated_home, root / "airflow")
    with (
        sandbox.running(generation_seconds=0, video_seconds=0.5, api_key=CANARY) as relay,
        receivers() as (mailbox, port, chat),
    ):
        mail = {"host": "127.0.0.1", "port": port, "extra": {"disable_tls": True, "disable_ssl": True}}
        mail["extra"]["from_email"] = "airflow@example.com"
        url = f"http://127.0.0.1:{chat.server_port}/hooks/videos"
        airflow = make_airflow(
            home,
            dags(root / "dags"),
            **settings_of(home, relay, poll_interval=2),
            AIRFLOW_CONN_SMTP_DEFAULT=json.dumps({"conn_type": "smtp", **mail}),
            AIRFLOW_CONN_VEO_WEBHOOK=json.dumps({"conn_type": "http", "host": url}),
            AIRFLOW_VAR_VEO_REPORT_TO="team@example.com",
        )
        found = SimpleNamespace(airflow=airflow, states={}, mails={}, chats={})
        with Services(airflow, AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE="False") as services:
            for run_id, faults in zip(RUNS, ((), (f"failed={REASON}",), ("create:status=401",)), strict=True):
                relay.set_faults(*faults)
                services.trigger(DAG_ID, run_id, logical_date=DATES[run_id])
                found.states[run_id] = services.wait_for(DAG_ID, run_id, timeout=300)
                services.wait_until(lambda: mailbox.messages and chat.messages, what="both messages")
                found.mails[run_id], found.chats[run_id] = list(mailbox.messages), list(chat.messages)
                mailbox.messages.clear()
                chat.messages.clear()
        yield found


def report_of(ran, run_id):
    (path,) = (ran.airflow.home / "videos").rglob(f"{run_id}/report.html")
    return path


def test_each_night_ends_as_expected(ran):
    assert ran.states == {SUCCEEDS: "success", FAILS: "failed", INVALID: "failed"}


@pytest.mark.parametrize("run_id", RUNS)
def test_each_night_sends_one_message_to_each(ran, run_id):
    assert [(path, kind) for path, kind, _ in ran.chats[run_id]] == [("/hooks/videos", "application/json")]
    ((to, message),) = ran.mails[run_id]
    assert to == ["team@example.com"]
    assert message["From"] == "airflow@example.com"
    assert message["Subject"] == f"{DAG_ID}: the videos of {DATES[run_id]:%Y-%m-%d}"


@pytest.mark.parametrize(("run_id", "counts"), [(SUCCEEDS, "3 of 3 videos succeeded"), (FAILS, "0 of 3 videos")])
def test_the_message_says_what_became_of_the_night(ran, run_id, counts):
    ((_, _, document),) = ran.chats[run_id]
    lines = document["text"].split("\n")
    assert lines[0] == f"{DAG_ID}, make_videos, run {run_id}"
    assert lines[1].startswith(counts)
    assert lines[4] == f"Report: {report_of(ran, run_id).as_uri()}"
    assert len(lines) == 5
    ((_, message),) = ran.mails[run_id]
    assert f"make_videos, run {run_id}" in message.get_body(("html",)).get_content()


@pytest.mark.parametrize(("run_id", "videos"), [(SUCCEEDS, 3), (FAILS, 0)])
def test_the_report_is_attached_to_the_mail(ran, run_id, videos):
    ((_, message),) = ran.mails[run_id]
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == "report.html"
    assert attached.get_content() == report_of(ran, run_id).read_bytes()
    assert attached.get_content().count(b"data:image/jpeg;base64,") == videos


def test_what_the_relay_said_mentions_nobody_and_is_no_markup(ran):
    ((_, _, document),) = ran.chats[FAILS]
    assert "too violent" in document["text"]
    assert "{{ 7 * 7 }}" in document["text"]
    for mention in ("@everyone", "<!channel>", "<b>"):
        assert mention not in document["text"]
    ((_, message),) = ran.mails[FAILS]
    assert "<b>" not in message.get_body(("html",)).get_content()
    (attached,) = message.iter_attachments()
    assert b"&lt;!channel&gt; &lt;b&gt;too violent" in attached.get_content()


def test_a_night_without_results_sends_the_error(ran):
    ((_, _, document),) = ran.chats[INVALID]
    assert "401" in document["text"]


def test_the_key_is_nowhere(ran):
    said = f"{ran.chats} {[message.as_string() for mails in ran.mails.values() for _, message in mails]}"
    assert "make_videos" in said
    assert CANARY not in said
    assert CANARY not in ran.airflow.everything_it_wrote()


class EditedTask:
    """A task that failed before it had results, while somebody edited its XComs."""

    task_id = "make_videos"
    dag_id = DAG_ID

    def __init__(self, task, **xcoms):
        self.task = task
        self._xcoms = xcoms

    def xcom_pull(self, task_ids, key):
        return self._xcoms.get(key)


@pytest.fixture
def sent(monkeypatch, tmp_path):
    """Run the example's callbacks in this process, at a real mail server and a real HTTP receiver."""
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / f"{DAG_ID}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    task = example.veo_morning_report().get_task("make_videos")
    with receivers() as (mailbox, port, chat):
        extra = {"disable_tls": True, "disable_ssl": True, "from_email": "airflow@example.com"}
        mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(mail))
        url = f"http://127.0.0.1:{chat.server_port}/hooks/videos"
        monkeypatch.setenv("AIRFLOW_CONN_VEO_WEBHOOK", json.dumps({"conn_type": "http", "host": url}))

        def send(error, **xcoms):
            context = {
                "ti": EditedTask(task, **xcoms),
                "dag": task.dag,  # whose template settings notifiers of older lines use
                "dag_run": SimpleNamespace(logical_date=NIGHT, run_after=NIGHT),
                "run_id": "edited",
                "exception": error,
                "var": {"value": {"veo_destination": tmp_path.as_uri()}},
                "secret": CANARY,
            }
            for callback in task.on_failure_callback:
                callback(dict(context))
            (_, _, document), (_, message) = chat.messages.pop(), mailbox.messages.pop()
            return document["text"], message

        yield send


def test_edited_xcoms_choose_no_file_and_no_markup_of_the_mail(sent, tmp_path):
    (tmp_path / "secret").write_text(CANARY)
    text, message = sent("no", report_path=(tmp_path / "secret").as_uri(), summary_text="<img src=x> @everyone")
    assert "<" not in text
    assert "@everyone" not in text
    assert "<img" not in message.get_body(("html",)).get_content()
    assert CANARY not in message.as_string()
    assert list(message.iter_attachments()) == []


def test_what_the_relay_said_in_an_error_mentions_nobody(sent):
    text, _ = sent(RuntimeError("401: @everyone <!channel> ![a](https://a)"))
    assert text.startswith(f"{DAG_ID} failed: 401")
    for mention in ("@everyone", "<!channel>", "]("):
        assert mention not in text


def test_the_messages_of_two_runs_in_one_process_are_their_own(sent):
    assert "{{ secret }}" in sent("run 1: {{ secret }}")[0]
    text, message = sent("run 2")
    assert "run 2" in text
    assert CANARY not in f"{text}{message}"
