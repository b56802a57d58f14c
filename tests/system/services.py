"""
A real Airflow with all its services, each a process of its own, for the length of a ``with`` block.

No process outlives the block, and none outlives the test process, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal as signals
import time
import uuid
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil

from tests.airflow_lines import LINE
from tests.system.supervised import HOSTNAME, HOSTNAME_CALLABLE, free_port, launch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    import requests

    from tests.system.conftest import Airflow, TaskInstance
    from tests.system.supervised import Supervised

_JOB_TYPES = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
_KINDS = ("api-server", *_JOB_TYPES, "celery-worker")
"""The slowest to start is the first."""
SERVICES = ("api-server", *_JOB_TYPES) if LINE >= (3, 0) else ("scheduler", "triggerer")
"""
What an Airflow needs that has no workers of their own. Those of Airflow 2.11 share the database, and need no API; its
scheduler reads the DAG files itself.
"""

# The ports of their log servers are fixed: two Airflows on a machine would fight for them.
_NO_LOG_SERVER = ("scheduler", "triggerer", "celery-worker")
_TUNING = {
    "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",  # the default queries a name server
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",  # the dag-processor's
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    # A triggerer that was killed counts as alive for this long, and no other takes its triggers.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",  # a file that has changed is read before
    # A worker that just misses its task's end sleeps that long, and keeps its slot.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",  # 5 s are too short for a busy machine
}
# Deadlines, not durations: a wait ends as soon as its condition holds. They are what a busy machine may need.
_SECONDS_TO_START = 300
_SECONDS_TO_STOP = 60
_SECONDS_TO_ANSWER = 120
_SECONDS_TO_HAPPEN = 240
_LOCKED = "database is locked"


class ServicesError(AssertionError):
    """A service did not come up or ended, or what was waited for did not happen; with states and ends of logs."""


class Services:
    """
    The services of an Airflow.

    A service may be there more than once: ``scheduler-1`` and ``scheduler-2`` are two schedulers, each on a host of its
    name, as Airflow sees it. ``celery-worker-1`` is a worker of the ``CeleryExecutor``.

    :param airflow: its home must have a database. Variables of its environment go before the tuning of this class.
    :param names: those that are started with the block; others can be started later.
    :param executor: the ``LocalExecutor`` where none is given; Airflow 2.11 has only the ``SequentialExecutor`` on
        SQLite. The ``CeleryExecutor`` needs a broker, see ``[celery] broker_url``.
    :param parallelism: worker slots of the ``LocalExecutor``, each a process, forked when the scheduler starts; with
        the ``CeleryExecutor``, the tasks that a scheduler has queued or running at a time.
    :param capacity: triggers that a triggerer runs at a time.
    :param keeps_up: start a service again that ends by itself, as systemd and Kubernetes do. One that SQLite locked out
        is started again in any case.
    :param users: who may log in, with their names for passwords, and the role of each; ``admin`` must be among them.
        Everybody is an admin where none is given.
    :param variables: more of the environment, e.g. ``AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT="10"``.
    """

    def __init__(
        self,
        airflow: Airflow,
        names: Iterable[str] = SERVICES,
        *,
        executor: str | None = None,
        parallelism: int = 4,
        capacity: int = 1000,
        keeps_up: bool = False,
        users: Mapping[str, str] | None = None,
        **variables: str,
    ) -> None:
        on_sqlite = airflow.database.startswith("sqlite:")
        # By default a process waits for another's write to SQLite for 5 s only. For the rest, SQLite does: Airflow
        # switches it to WAL itself, and begins no transaction by reading.
        patience = "?timeout=60" if on_sqlite else ""
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = {
            **_TUNING,
            **airflow.environment,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow.database + patience,
            "AIRFLOW__CORE__EXECUTOR": executor
            or ("SequentialExecutor" if on_sqlite and LINE < (3, 0) else "LocalExecutor"),
            "AIRFLOW__CORE__PARALLELISM": str(parallelism),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            **self._login(airflow.home, users),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": self.url.rpartition(":")[2],
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            "AIRFLOW__TRIGGERER__CAPACITY": str(capacity),
            "PYTHONUNBUFFERED": "1",  # what was logged is in the file, also if the process is killed
            **variables,
        }
        self.airflow = replace(airflow, environment=environment)
        self.seconds_to_start: dict[str, float] = {}
        """How long each service took to be up, the last time."""
        self.ended_by_itself: Counter[str] = Counter()
        """How often each service ended by itself, and was started again."""
        self._names = tuple(names)
        self._keeps_up = keeps_up
        self._folder = airflow.home / "services"
        self._running: dict[str, Supervised] = {}
        self._launched: list[Supervised] = []
        self._log_sizes: dict[str, int] = {}

    def _login(self, home: Path, users: Mapping[str, str] | None) -> dict[str, str]:
        self._has_users = users is not None
        if users is None:
            return {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({user: user for user in users}))
        return {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(":".join(item) for item in users.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        }

    def __enter__(self) -> Services:
        try:
            self.start(*self._names)
        except BaseException:
            self._end_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end_all()

    def start(self, *names: str) -> None:
        """Start services side by side, and wait until all of them are up."""
        begun = time.monotonic()
        ((latest_job,),) = self.airflow.query("SELECT coalesce(max(id), 0) FROM job")
        for name in sorted(names, key=_order):
            self._launch(name)
        missing = set(names)

        def all_are_up() -> bool:
            for name in sorted(missing, key=_order, reverse=True):
                if self._is_up(name, latest_job):
                    self.seconds_to_start[name] = time.monotonic() - begun
                    missing.remove(name)
            return not missing

        self.wait_until(all_are_up, _SECONDS_TO_START, what=f"{', '.join(names)} to be up")

    def stop(self, *names: str, patience: float = _SECONDS_TO_STOP) -> None:
        """Let services end by themselves (SIGTERM), and kill what is still there when the patience (s) is over."""
        processes = [self._running.pop(name) for name in names]
        for process in processes:
            process.send(signals.SIGTERM, main_only=True)
        psutil.wait_procs([process.main for process in processes], timeout=patience)
        for process in processes:
            process.end()

    def kill(self, name: str, signal: int = signals.SIGKILL, *, main_only: bool = False) -> None:
        """
        Send a signal to a service and all processes that it started, workers and running tasks among them.

        It returns when the service has ended, or at once where the signal only stops or continues it.

        :param main_only: not to those that it started. They live on, as they would outside a container.
        """
        process = self._running[name]
        process.send(signal, main_only=main_only)
        if signal not in (signals.SIGSTOP, signals.SIGCONT):
            psutil.wait_procs([process.main], timeout=_SECONDS_TO_STOP)
            assert not process.main.is_running(), f"{name} still runs after {signals.Signals(signal).name}"
            del self._running[name]
            if not main_only:
                process.end()

    def restart(self, name: str) -> None:
        """Stop a service and start it again; one that was killed is only started."""
        if name in self._running:
            self.stop(name)
        self.start(name)

    def pid(self, name: str) -> int:
        """Return the id of a running service's main process."""
        return self._running[name].main.pid

    def processes(self, *names: str) -> list[psutil.Process]:
        """Return all processes of services; of all that run, where none is named."""
        return [process for name in names or self._running for process in self._running[name].all()]

    def log(self, name: str) -> str:
        """Return what a service has written, all its starts together."""
        path = self._folder / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def trigger(
        self,
        dag_id: str,
        run_id: str | None = None,
        conf: Mapping[str, Any] | None = None,
        logical_date: datetime | None = None,
        timeout: float = _SECONDS_TO_HAPPEN,
    ) -> str:
        """
        Trigger a run and return its id; before, wait for the DAG to be parsed, and unpause it.

        A DAG with a schedule begins its scheduled runs then, too.
        """
        is_there = "SELECT 1 FROM serialized_dag WHERE dag_id = ?"
        self.wait_until(lambda: self.airflow.query(is_there, dag_id), timeout, what=f"DAG {dag_id} to be parsed")
        date = logical_date and logical_date.isoformat()
        if LINE < (3, 0):
            return self._trigger_by_command(dag_id, run_id or f"manual__{uuid.uuid4()}", conf, date)
        path = f"/api/v2/dags/{dag_id}"
        run = {"dag_run_id": run_id, "conf": dict(conf or {}), "logical_date": date}
        for method, where, document in ("PATCH", path, {"is_paused": False}), ("POST", f"{path}/dagRuns", run):
            answer = self.ask(method, where, document)
            assert answer.ok, f"{method} {where}: {answer.status_code} {answer.text}"
        return str(answer.json()["dag_run_id"])

    def _trigger_by_command(self, dag_id: str, run_id: str, conf: Mapping[str, Any] | None, date: str | None) -> str:
        self.airflow.run("dags", "unpause", dag_id)
        when = ("--exec-date", date) if date else ()
        self.airflow.run("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(dict(conf or {})), *when)
        return run_id

    def wait_for(self, dag_id: str, run_id: str, timeout: float = _SECONDS_TO_HAPPEN) -> str:
        """Wait until a run has ended, and return its state, ``success`` or ``failed``."""

        def ended() -> bool:
            return self.airflow.run_state(dag_id, run_id) in ("success", "failed")

        self.wait_until(ended, timeout, what=f"run {run_id} of {dag_id} to end")
        return str(self.airflow.run_state(dag_id, run_id))

    def wait_until(self, predicate: Callable[[], object], timeout: float = _SECONDS_TO_HAPPEN, *, what: str) -> None:
        """
        Wait until a predicate is true.

        :raises ServicesError: it didn't become true in time, or a service that nobody stopped has ended (unless they
            are kept up).
        """
        deadline = time.monotonic() + timeout
        while not predicate():
            if time.monotonic() > deadline:
                raise ServicesError(f"Waited {timeout} s for {what}.\n{self._account()}")
            ended = [name for name, process in self._running.items() if not process.main.is_running()]
            if unexpected := [name for name in ended if not self._may_start_again(name)]:
                raise ServicesError(f"Waiting for {what}, but {', '.join(unexpected)} ended.\n{self._account()}")
            self._start_again(ended)
            time.sleep(0.1)

    def ends_seen(self, dag_id: str, task_id: str, run_id: str) -> int:
        """
        Return in how many tries the scheduler has seen a worker leave a task, also a task that only defers.

        What ends the wait before that is lost on Airflow, be it a trigger or a person: it fails the task.
        """
        left = f"TaskInstance Finished: dag_id={dag_id}, task_id={task_id}, run_id={run_id},"
        return self.log("scheduler").count(left)

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return the task instances of a run, by task and map index."""
        return self.airflow.task_instances(dag_id, run_id)

    def xcoms(self, dag_id: str, run_id: str) -> dict[tuple[str, str, int], object]:
        """Return the XComs of a run by task, key and map index."""
        return self.airflow.xcoms(dag_id, run_id)

    def task_logs(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the log files of a run's tasks by ``task_id=…/[map_index=…/]attempt=….log``."""
        return self.airflow.task_logs(dag_id, run_id)

    def _launch(self, name: str) -> None:
        assert name not in self._running, f"{name} is running"
        self._folder.mkdir(exist_ok=True)
        kind = _kind(name)
        arguments = kind.split("-") if kind == "celery-worker" else [kind]
        environment = dict(self.airflow.environment)
        if kind in _NO_LOG_SERVER:
            arguments.append("--skip-serve-logs")
        if kind == "celery-worker":
            arguments.append(f"--celery-hostname={name}")
        if name != kind:
            environment |= {"AIRFLOW__CORE__HOSTNAME_CALLABLE": HOSTNAME_CALLABLE, HOSTNAME: name}
        log = self._folder / f"{name}.log"
        self._log_sizes[name] = log.stat().st_size if log.exists() else 0
        process = launch(self.airflow.command(*arguments), log, cwd=self.airflow.home, environment=environment)
        self._launched.append(process)
        self._running[name] = process

    def _may_start_again(self, name: str) -> bool:
        """Whether a service that ended is one to keep running: Airflow's own end when SQLite is locked for too long."""
        return self._keeps_up or _LOCKED in self._log_since_start(name)

    def _log_since_start(self, name: str) -> str:
        return self.log(name).encode()[self._log_sizes[name] :].decode("utf-8", "replace")

    def _start_again(self, names: Iterable[str]) -> None:
        for name in names:
            self._running.pop(name).end()
            self.ended_by_itself[name] += 1
            self._launch(name)

    def _is_up(self, name: str, latest_job: int) -> bool:
        """Whether a service answers, or its main loop has written a heartbeat since it was started."""
        kind = _kind(name)
        if kind == "api-server":
            with contextlib.suppress(OSError):
                # The first request to this part of it builds all its versions, which takes seconds.
                return self._send("GET", "/execution/health").ok
            return False
        if kind == "celery-worker":
            return f"{name} ready." in self._log_since_start(name)
        started = (
            "SELECT id FROM job WHERE job_type = ? AND id > ? AND latest_heartbeat > start_date "
            "AND hostname = coalesce(?, hostname)"
        )
        host = None if name == kind else name
        return bool(self.airflow.query(started, _JOB_TYPES[kind], latest_job, host))

    def ask(self, method: str, path: str, document: object = None) -> requests.Response:
        """Send a request to the API server, as an admin, and repeat it as :meth:`patiently` does."""
        return self.patiently(lambda: self._send(method, path, document))

    def patiently(self, send: Callable[[], requests.Response]) -> requests.Response:
        """
        Send a request to the API server, and repeat it while a locked database or a server that starts refuses it.

        On SQLite a request that waits for another one's write keeps the server from ending that one, and then gives up.
        Nothing of such a request is stored, so that it can be repeated whatever it is. Other errors are returned.
        """
        import requests

        deadline = time.monotonic() + _SECONDS_TO_ANSWER
        while True:
            logged = len(self.log("api-server"))
            try:
                answer = send()
            except requests.ConnectionError:
                if not self._api_server_runs() or time.monotonic() > deadline:
                    raise
            else:
                locked = _LOCKED in answer.text or _LOCKED in self.log("api-server")[logged:]
                if answer.status_code != 500 or not (locked or "Database error" in answer.text):
                    return answer
                if time.monotonic() > deadline:
                    return answer
            time.sleep(0.5)

    def _api_server_runs(self) -> bool:
        return any(_kind(name) == "api-server" and each.main.is_running() for name, each in self._running.items())

    def _send(self, method: str, path: str, document: object = None) -> requests.Response:
        import requests

        with requests.Session() as session:
            session.trust_env = False
            if path.startswith(("/api/", "/veo/")):
                session.headers["Authorization"] = f"Bearer {self.token('admin')}"
            return session.request(method, self.url + path, json=document, timeout=_SECONDS_TO_ANSWER)

    def token(self, user: str) -> str:
        """Log in, and return the token of the session."""
        import requests

        address, login = f"{self.url}/auth/token", {"username": user, "password": user}
        with requests.Session() as session:
            session.trust_env = False
            method, document = ("POST", login) if self._has_users else ("GET", None)
            done = self.patiently(lambda: session.request(method, address, json=document, timeout=_SECONDS_TO_ANSWER))
            return str(done.json()["access_token"])

    def _end_all(self) -> None:
        try:
            self.stop(*self._running, patience=3)
        finally:
            for process in self._launched:
                process.end()

    def _account(self) -> str:
        parts = [self.airflow.account()]
        for path in sorted(self._folder.glob("*.log")):
            service = self._running.get(path.stem)
            state = "runs" if service and service.main.is_running() else "does not run"
            parts += [f"{path.stem} {state}; its log ends:", *self.log(path.stem).splitlines()[-40:]]
        return "\n".join(parts)


def _kind(name: str) -> str:
    return name.rstrip("0123456789").rstrip("-")


def _order(name: str) -> tuple[int, str]:
    return _KINDS.index(_kind(name)), name
