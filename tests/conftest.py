"""What all tests share: an Airflow home of their own, and a relay to talk to over real HTTP."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import tempfile
import threading
import urllib.request

# Before anything imports Airflow: it makes its home when it is imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="veo-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)

import pytest
from hypothesis import HealthCheck, settings

from tests import airflow_lines

os.environ.update(airflow_lines.SETTINGS)

from airflow_provider_veo import sandbox

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("veo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("veo")

SUITES = ("system", "chaos", "distributed", "browser")
"""Folders of tests that ``make test`` leaves out: each is a marker, too."""

LONGEST = (
    *("tests/system/", "tests/unit/test_examples.py", "tests/unit/batch/test_engine", "tests/unit/test_batch_trigger"),
    *("tests/unit/hooks/test_asynchronous.py", "tests/unit/hooks/test_batch_sockets.py"),
)

CANARY = "sk-canary-7f3b9c21e8d64a05"
"""The key of every relay in the tests. It must turn up nowhere but in its connection."""


def pytest_configure(config):
    for line in airflow_lines.WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def pytest_collection_modifyitems(items):
    # What takes longest begins first: the others fill the time in which it waits.
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    for item in items:
        if (folder := item.nodeid.split("/")[1]) in SUITES:
            item.add_marker(folder)
        if reason := airflow_lines.why_skipped(item.nodeid.removeprefix("tests/")):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def relay_process():
    with sandbox.running(generation_seconds=0, api_key=CANARY) as relay:
        yield relay


@pytest.fixture
def relay(relay_process, monkeypatch):
    """A relay without faults that makes videos at once, and the connection ``veo_default`` to it."""
    relay_process.reset()
    monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", relay_process.connection)
    return relay_process


@pytest.fixture
def connect(relay, monkeypatch):
    """Change the connection ``veo_default``: its own fields, and those of its extra."""

    def change(*, extra=None, **fields):
        connection = {**json.loads(relay.connection), **fields, "extra": extra or {}}
        monkeypatch.setenv("AIRFLOW_CONN_VEO_DEFAULT", json.dumps(connection))

    return change


@pytest.fixture
def logged(capfd, caplog):
    """What was logged so far: Airflow 2 logs it and prints it, Airflow 3 prints it."""
    caplog.set_level("INFO")
    return lambda: caplog.text or capfd.readouterr().out


@pytest.fixture
def serve():
    """Serve a handler on a free port of the loopback address."""
    with contextlib.ExitStack() as stack:

        def start(handler):
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(server.shutdown)
            return server

        yield start


class _Proxy(http.server.BaseHTTPRequestHandler):
    """A forward proxy for plain http."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        self.server.asked.append(self.path)
        names = ("Authorization", "Content-Type", "Accept")
        headers = {name: self.headers[name] for name in names if name in self.headers}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.path, body, headers)) as answer:
            content = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *arguments):
        pass


@pytest.fixture
def proxy(serve):
    server = serve(_Proxy)
    server.asked = []
    return server


class _Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content = b'{"object": "list", "data": [{"id": "gpt-x"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def tls_server(tmp_path):
    """A relay behind a certificate that no public authority signed."""
    import datetime
    import ssl

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Models) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server, tmp_path / "cert.pem"
        server.shutdown()


@pytest.fixture(scope="session")
def s3_server():
    """One for all: what Airflow has attached under a connection's name stays."""
    from tests.unit.storage import s3

    with s3.serving() as server:
        yield server
