"""
Processes that never outlive the one that started them, however that ends.

Each is the child of a launcher (the end of this file) to which all its orphans fall, whatever process group or session
they made for themselves; the launcher ends only after the last of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal as signals
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HOSTNAME = "VEO_TESTS_HOSTNAME"
HOSTNAME_CALLABLE = "tests.system.supervised.hostname"
_SECONDS_TO_DIE = 60
_OUR_PORTS = range(20_000, 32_000)


def hostname() -> str:
    """Return the name of the host that a process believes to be on, of several on this machine."""
    return os.environ[HOSTNAME]


def free_port() -> int:
    """
    Return a port of the loopback address that nothing listens on.

    It is not one of those that the system gives to connections and to listeners on port 0: any process of the machine
    could get it before the server that it is for listens on it.
    """
    while True:
        port = secrets.choice(_OUR_PORTS)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port


class Supervised(NamedTuple):
    """A process that was launched."""

    launcher: subprocess.Popen[str]
    main: psutil.Process

    def all(self) -> list[psutil.Process]:
        return psutil.Process(self.launcher.pid).children(recursive=True)

    def send(self, signal: int, *, main_only: bool = False) -> None:
        """Send a signal to the process and, unless told otherwise, to all that it started."""
        for target in [self.main] if main_only else self.all():
            _send(target, signal)

    def end(self) -> None:
        """Kill it and everything that it started, and wait for that."""
        self.launcher.terminate()
        self.launcher.wait(_SECONDS_TO_DIE)


def launch(command: Sequence[str], log: Path, *, cwd: Path, environment: Mapping[str, str] | None = None) -> Supervised:
    """Start a command; what it writes is added to the log."""
    with open(log, "a") as written:
        launcher = subprocess.Popen(
            [sys.executable, __file__, str(os.getpid()), *command],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=written,
            text=True,
            start_new_session=True,
        )
    with launcher.stdout:
        pid = launcher.stdout.readline()
    assert pid, f"{command} was not launched:\n{log.read_text('utf-8', 'replace')}"
    return Supervised(launcher, psutil.Process(int(pid)))


def _send(process: psutil.Process, signal: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal)


def _supervise(owner: int, command: list[str]) -> None:
    """Run a command until its last orphan has ended. When told to, or when the owner is gone, kill all of them."""
    told_to_end: list[int] = []
    signals.signal(signals.SIGTERM, lambda number, _: told_to_end.append(number))
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)
    main = subprocess.Popen(command, stdout=sys.stderr)
    print(main.pid, flush=True)
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == main.pid:
            print(f"{command[1]} ended with {os.waitstatus_to_exitcode(status)}", file=sys.stderr, flush=True)
        if told_to_end or os.getppid() != owner:
            for process in psutil.Process().children(recursive=True):
                _send(process, signals.SIGKILL)
        if not pid:
            time.sleep(0.05)


if __name__ == "__main__":
    _supervise(int(sys.argv[1]), sys.argv[2:])
