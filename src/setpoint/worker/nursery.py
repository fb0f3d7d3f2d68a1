"""How worker processes come to be: as a new interpreter, or forked from one that has imported everything already.

Either way the worker is a child of this process, leads a process group of its own, dies with us, and is not disturbed
by signals for our group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from setpoint.worker import messages

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_FORK_SERVER_END_S = 2.0


class WorkerProcess(Protocol):
    """What a handle needs of its process; ``subprocess.Popen`` has it too."""

    @property
    def pid(self) -> int:
        """Its number; 0 while it is not known yet."""
        ...

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs or is not born."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, by then.
        """
        ...


class Nursery(Protocol):
    """Starts worker processes."""

    def start(
        self, descriptors: Sequence[int], *, threads: int, arena_limit_bytes: int, engines: tuple[str, ...]
    ) -> WorkerProcess:
        """Start one.

        Args:
            descriptors: for it to inherit, as ``run_worker`` takes them.
            threads: of its engine, and of the libraries that it computes with.
            arena_limit_bytes: of its shared memory, per direction.
            engines: that it will use.

        Raises:
            OSError: there is no process to be had; nothing was started.
        """
        ...


class Interpreters:
    """Each worker is a new interpreter: slow to start, and needs nothing else to be there."""

    def start(
        self, descriptors: Sequence[int], *, threads: int, arena_limit_bytes: int, engines: tuple[str, ...]
    ) -> WorkerProcess:
        """Start one; see ``Nursery.start``."""
        numbers = [*descriptors, arena_limit_bytes, os.getpid()]
        return _start_python("run", numbers, tuple(descriptors), threads)


class ForkServers:
    """Workers are forked from processes that have their imports behind them, one for each number of threads.

    (Numbers of threads are read from the environment when libraries are imported, so one process cannot do for all.)
    A fork server is started when it is first needed and again when it was found dead. Its workers outlive it.
    """

    def __init__(self) -> None:
        self._servers: dict[int, _ForkServer] = {}
        self._children: set[int] = set()

    def start(
        self, descriptors: Sequence[int], *, threads: int, arena_limit_bytes: int, engines: tuple[str, ...]
    ) -> WorkerProcess:
        """Start one; see ``Nursery.start``. Its process is known when it has said ``Born``."""
        packet = messages.encode(messages.ForkRequest(arena_limit_bytes, engines))
        server = self._servers.get(threads)
        if server is None or not server.send(packet, descriptors):
            server = self._servers[threads] = self._begin(threads)
            if not server.send(packet, descriptors):
                raise OSError("the process that workers are forked from ends as soon as it is started; see the log")
        return ForkedProcess(self._children)

    def prepare(self, threads: int) -> None:
        """Let the fork server for workers of that many threads begin with its imports.

        Raises:
            OSError: there is no process to be had.
        """
        if threads not in self._servers:
            self._servers[threads] = self._begin(threads)

    def pids(self) -> list[int]:
        """Of the fork servers."""
        return [server.pid for server in self._servers.values()]

    def bury_strangers(self) -> None:
        """Wait for the dead among those processes that became our children because their own parents have ended.

        Asking for orphans (see ``fork_server``) brings those that models leave behind as well. To be called now and
        then.
        """
        known = self._children | {server.pid for server in self._servers.values()}
        own_group = os.getpgid(0)
        for pid in _children() - known:
            # In our own group are those that we started by other means: whoever did waits for them.
            with contextlib.suppress(ChildProcessError, ProcessLookupError):  # somebody was quicker
                if os.getpgid(pid) != own_group:
                    os.waitpid(pid, os.WNOHANG)

    def close(self) -> None:
        """End the fork servers and wait for them. Workers are not touched."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    def _begin(self, threads: int) -> _ForkServer:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        return _ForkServer(threads)


class ForkedProcess:
    """A worker that a fork server was asked for; it tells its number itself, in its first packet."""

    def __init__(self, children: set[int]) -> None:
        self._children = children
        self._status: int | None = None
        # Handles wait in a thread. Once somebody has taken the status, the number may be another process's.
        self._lock = threading.RLock()
        self.pid = 0

    def born(self, pid: int) -> None:
        """It has said who it is."""
        self.pid = pid
        self._children.add(pid)

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        with self._lock:
            if self.pid and self._status is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else took its status
                    pid, status = self.pid, 0
                if pid:
                    self._status = os.waitstatus_to_exitcode(status)
                    self._children.discard(pid)
            return self._status

    def kill(self) -> None:
        """End it now. One that is not born yet ends by itself, finding its channel closed."""
        with self._lock:
            if self.pid and self.poll() is None:
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended; 0 where it never was."""
        with self._lock:
            descriptor = os.pidfd_open(self.pid) if self.pid and self.poll() is None else None
        if descriptor is not None:
            try:
                waiting = select.poll()
                waiting.register(descriptor, select.POLLIN)
                if not waiting.poll(None if timeout is None else timeout * 1e3):
                    raise subprocess.TimeoutExpired("worker", timeout or 0)
            finally:
                os.close(descriptor)
        return self.poll() or 0


class _ForkServer:
    """The node's end of one."""

    def __init__(self, threads: int) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with theirs, contextlib.ExitStack() as on_failure:
            on_failure.callback(self._control.close)
            self._process = _start_python("fork", [theirs.fileno(), os.getpid()], (theirs.fileno(),), threads)
            on_failure.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, packet: bytes, descriptors: Sequence[int]) -> bool:
        """False where it has died.

        Raises:
            BlockingIOError: it is far behind with what it was asked before.
        """
        try:
            socket.send_fds(self._control, [packet], list(descriptors))
        except (BrokenPipeError, ConnectionResetError):
            self.close()
            return False
        return True

    def close(self) -> None:
        self._control.close()
        try:
            self._process.wait(_FORK_SERVER_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _children() -> set[int]:
    """Of this process, the dead that nobody has waited for among them."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def _start_python(
    verb: str, numbers: Sequence[int], inherited: tuple[int, ...], threads: int
) -> subprocess.Popen[bytes]:
    # The node decides when a worker ends. A signal for the whole group must not reach one that cannot yet say so:
    # it starts with these blocked, and lets them in when it has handlers.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, messages.NOT_FOR_WORKERS)
    try:
        return subprocess.Popen(
            # -P: a file of the user's that is called as a library must not be imported in its place.
            [sys.executable, "-P", "-m", "setpoint.worker", verb, *map(str, numbers)],
            pass_fds=inherited,
            process_group=0,  # so that what the model starts can be ended with it
            stdin=subprocess.DEVNULL,
            stdout=2,  # a model that prints must not write into what the node says on its standard output
            env=_environment(threads),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _environment(threads: int) -> dict[str, str]:
    """The node's environment, and what libraries read only before they are imported.

    ONNX Runtime sends usage data home unless it is told not to; a person who wants that sets the variable to 0.
    """
    return {
        "ORT_DISABLE_TELEMETRY": "1",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
