"""
The sandbox as a child process, for tests, the demo and the benchmarks.

A separate process keeps its event loop and its rendering away from the code that is tested or measured. It ends with
the ``with`` block, or with its parent if that is killed. This module loads only the standard library.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MARK = "export AIRFLOW_CONN_VEO_DEFAULT="
_CONTROL_TIMEOUT = 30
_STOP_TIMEOUT = 5
"""Seconds after which the process is killed."""


class SandboxError(RuntimeError):
    """The sandbox did not start, or rejected a fault or setting."""


class Sandbox:
    """
    A running sandbox.

    :param connection: The connection that the process printed, as JSON.
    :param log: The file with the process's output. It has no name, so that it is never left behind.
    """

    def __init__(self, connection: str, log: IO[bytes], process: subprocess.Popen[bytes]) -> None:
        announced = json.loads(connection)
        self._log = log
        self._process = process
        self._key_at_start: str = announced["password"]
        self.url: str = announced["host"]
        """The relay's base URL, without a trailing slash."""
        self.api_key = self._key_at_start
        """The key that the relay accepts now."""

    def __repr__(self) -> str:
        return f"<Sandbox {self.url}>"

    @property
    def connection(self) -> str:
        """The value for `AIRFLOW_CONN_VEO_DEFAULT`, as JSON."""
        return json.dumps({"conn_type": "veo", "host": self.url, "password": self.api_key})

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stats(self) -> dict[str, Any]:
        """
        Return the counts since the last reset.

        `requests` by endpoint, `answers` by endpoint and status (`none`: the client saw none), `accepted`,
        `accepted_by_prompt`, `paid_twice`, `faults`, `faults_fired`.
        """
        stats: dict[str, Any] = self._call("stats")
        return stats

    def videos(self) -> list[dict[str, Any]]:
        """Return the accepted videos in order: id, api (form), model, prompt, state, number of queries, and more."""
        videos: list[dict[str, Any]] = self._call("videos")
        return videos

    def requests(self, endpoint: str = "create") -> list[dict[str, Any]]:
        """
        Return the last 1000 requests to an endpoint, oldest first, as they were received.

        :param endpoint: `create`, `query`, `models`, `file`, `redirected`, `other`, or `all`.
        """
        requests: list[dict[str, Any]] = self._call(f"requests?endpoint={endpoint}")
        return requests

    def set_faults(self, *specs: str) -> None:
        """
        Replace all faults. Without arguments, remove them.

        :raises SandboxError: One of them is invalid. Nothing has changed.
        """
        self._call("faults", {"faults": specs})

    def configure(self, **settings: Any) -> None:
        """
        Change settings, named like the arguments of :func:`running`.

        :raises SandboxError: One of them is invalid. Nothing has changed.
        """
        self._call("config", settings)
        self.api_key = settings.get("api_key", self.api_key)

    def reset(self) -> None:
        """Clear videos, counts, requests and faults, and restore the initial settings."""
        self._call("reset", {})
        self.api_key = self._key_at_start

    def output(self) -> str:
        """Return the process's output so far, without the key."""
        return _read(self._log).replace(self._key_at_start, "(hidden)")

    def _call(self, path: str, document: dict[str, Any] | None = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/_sandbox/{path}", body, headers)  # noqa: S310 (always http)
        # Ignore proxies in the environment: the sandbox is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_CONTROL_TIMEOUT) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise SandboxError(error.read().decode("utf-8", "replace")) from None


@contextlib.contextmanager
def running(
    *,
    port: int = 0,
    generation_seconds: float = 5.0,
    api_key: str = "sandbox-key",
    faults: Sequence[str] = (),
    seed: int = 0,
    strict: bool = False,
    response_shape: str = "status",
    id_field: str = "id",
    numeric_ids: bool = False,
    wrapped: bool = False,
    other_id: bool = False,
    status_field: str = "status",
    url_field: str = "video_url",
    time_unit: str = "ms",
    openai_url_field: str = "none",
    long_ids: bool = False,
    video_seconds: float = 3.0,
    extra_models: Sequence[str] = (),
    start_timeout: float = 60.0,
) -> Iterator[Sandbox]:
    """
    Run a sandbox in a separate process for the duration of a ``with`` block.

    :param port: Port on 127.0.0.1. 0 is a free port.
    :param generation_seconds: How long a generation takes. 0 makes videos ready at once.
    :param api_key: The API key to accept.
    :param faults: Faults to inject, in the grammar that `airflow-veo-sandbox --help` explains.
    :param seed: Chooses the requests that a fault with a share affects.
    :param strict: Insist on the fields, types and headers that the relays' own documents require. Most relays don't.
    :param response_shape: Answers to create: `status` (short) or `chat` (like a chat completion).
    :param id_field: Path of the id in answers to create, such as `task_id` or `data.task_id`.
    :param numeric_ids: Return ids as JSON numbers.
    :param wrapped: Wrap answers to queries in `{"status": "SUCCESS", "data": ...}`.
    :param other_id: Return a different id in answers to queries.
    :param status_field: Name of the status in answers to queries: `status`, `state` or `task_status`.
    :param url_field: Path of the URL in answers to queries, such as `url` or `task_result.videos.0.url`.
    :param time_unit: Unit of `status_update_time`: `ms` or `s`.
    :param openai_url_field: Path of the URL in answers of the form `openai` to queries: `none`, `video_url`, `url` or
        `metadata.url`.
    :param long_ids: Return ids of several hundred characters in the form `openai`.
    :param video_seconds: Duration of the generated videos.
    :param extra_models: Additional models, each `NAME[,images=N][,9:16]`.
    :param start_timeout: Maximum seconds until the first answer.
    :raises SandboxError: It didn't start. The message contains its output.
    """
    relay = {
        "port": port,
        "seed": seed,
        "generation-seconds": generation_seconds,
        "api-key": api_key,
        "response-shape": response_shape,
        "id-field": id_field,
        "status-field": status_field,
        "url-field": url_field,
        "time-unit": time_unit,
        "openai-url-field": openai_url_field,
        "video-seconds": video_seconds,
    }
    # `--name=value`, so that a value that begins with a dash is not read as an option.
    arguments = [f"--{name}={value}" for name, value in relay.items()]
    arguments += [f"--fault={spec}" for spec in faults]
    arguments += [f"--extra-model={model}" for model in extra_models]
    switches = {"strict": strict, "numeric-ids": numeric_ids, "wrapped": wrapped}
    switches |= {"other-id": other_id, "long-ids": long_ids}
    arguments += [f"--{name}" for name, on in switches.items() if on]

    with tempfile.TemporaryFile() as log:
        process = _start(arguments, log)
        owner = os.getpid()
        try:
            yield _wait_until_ready(process, log, time.monotonic() + start_timeout)
        finally:
            # A fork of this process also leaves this block, and must not stop its owner's sandbox.
            if os.getpid() == owner:
                _stop(process)


def _start(arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "airflow_provider_veo.sandbox", f"--exit-with-parent={os.getpid()}", *arguments]
    # A file, not a pipe: nothing reads it continuously, and a full pipe would block the sandbox.
    return subprocess.Popen(  # noqa: S603 (this program)
        command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def _wait_until_ready(process: subprocess.Popen[bytes], log: IO[bytes], deadline: float) -> Sandbox:
    while time.monotonic() < deadline:
        ended = process.poll()
        if ended is not None:
            raise SandboxError(f"the sandbox ended with status {ended}:\n{_read(log)}")
        lines = _read(log).splitlines(keepends=True)
        # Complete lines only: the line may still be being written.
        announced = [line for line in lines if line.startswith(_MARK) and line.endswith("\n")]
        if announced:
            sandbox = Sandbox(shlex.split(announced[0].removeprefix(_MARK))[0], log, process)
            with contextlib.suppress(OSError, http.client.HTTPException):
                sandbox.stats()
                return sandbox
        time.sleep(0.02)
    raise SandboxError(f"the sandbox did not answer in time:\n{_read(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdin:
            process.stdin.close()


def _read(log: IO[bytes]) -> str:
    # pread leaves the file position alone, which the process writes at.
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode("utf-8", "replace")
