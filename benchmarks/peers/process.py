"""A server as a tree of processes: started in its own session, watched through /proc, and ended whole."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from environments import last_line
from lineup import REPOSITORY, Case, Peer, request_body
from load import ask, wrong

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 10.0


class StartFailed(Exception):
    """The server did not answer rightly in time; the text is one line for the table."""


@dataclass(frozen=True)
class Stat:
    """One line of /proc/PID/stat, as far as it is needed. `started` tells a reused pid from the old process."""

    pid: int
    parent: int
    session: int
    cpu_s: float
    started: int


def read_stat(pid: int) -> Stat | None:
    """The process' numbers, or None when it is gone or a zombie. cpu_s includes the children that it has reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the command's name may hold spaces and brackets
    if fields[0] == "Z":
        return None
    cpu_ticks = sum(int(value) for value in fields[11:15])
    return Stat(pid, int(fields[1]), int(fields[3]), cpu_ticks / TICKS_PER_S, int(fields[19]))


def all_processes() -> list[Stat]:
    """Every process that /proc shows."""
    found = (read_stat(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return [stat for stat in found if stat is not None]


def memory_mb(pid: int) -> tuple[float, float]:
    """(resident, proportional) megabytes of a process; proportional splits shared pages among their users."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        return kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024
    return 0.0, 0.0


def machine_busy_s() -> float:
    """CPU seconds that the whole machine has spent on anything so far (idle and waiting for disks excluded)."""
    user, nice, system, _idle, _iowait, *rest = (int(value) for value in Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(rest)) / TICKS_PER_S


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now; all held open until the last is found, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class ServerProcess:
    """A started server. Use as a context manager: leaving it ends every process that belongs to it."""

    def __init__(self, command: list[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.known: dict[int, int] = {}
        with log.open("w") as output:
            output.write(f"$ {' '.join(command)}\n")
            output.flush()
            self.started_ns = time.perf_counter_ns()
            try:
                # Its own session: one group to signal, and children stay recognisable after their parent has died.
                self.process = subprocess.Popen(
                    command,
                    env=dict(environment),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartFailed(f"did not start: {error}") from error

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tree(self) -> list[Stat]:
        """The living processes: the session's, their descendants, and those seen before that have moved away."""
        processes = all_processes()
        members = {stat.pid for stat in processes if stat.session == self.process.pid}
        members |= {stat.pid for stat in processes if self.known.get(stat.pid) == stat.started}
        grew = True
        while grew:
            children = {stat.pid for stat in processes if stat.parent in members} - members
            members |= children
            grew = bool(children)
        found = [stat for stat in processes if stat.pid in members]
        self.known.update({stat.pid: stat.started for stat in found})
        return found

    def cpu_s(self) -> float:
        """CPU seconds that the tree has used so far."""
        return sum(stat.cpu_s for stat in self.tree())

    def memory_mb(self) -> tuple[float, float]:
        """(resident, proportional) megabytes of the whole tree. Resident counts shared pages once per process."""
        pairs = [memory_mb(stat.pid) for stat in self.tree()]
        return sum(rss for rss, _ in pairs), sum(pss for _, pss in pairs)

    def wait_until_right(self, peer: Peer, port: int, path: str, case: Case) -> float:
        """Seconds from the process' start to its first right answer. StartFailed when it dies or takes too long."""
        reason = "no answer"
        while (elapsed_s := (time.perf_counter_ns() - self.started_ns) / 1e9) < START_TIMEOUT_S:
            if self.process.poll() is not None:
                raise StartFailed(f"exited with {self.process.returncode}: {last_line(self.log)}")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                found = wrong(peer, case, *ask(connection, path, request_body(peer, case)))
            except (OSError, http.client.HTTPException) as error:
                found = f"no answer: {error!r}"
            finally:
                connection.close()
            if found is None:
                return (time.perf_counter_ns() - self.started_ns) / 1e9
            reason = found
            time.sleep(0.01)
        raise StartFailed(f"no right answer in {elapsed_s:.0f} s: {reason} (log: {self.log.relative_to(REPOSITORY)})")

    def stop(self) -> None:
        """SIGTERM to the group, then SIGKILL to whatever of the tree is left; only processes recognised as its own."""
        self.tree()
        self.signal_group(signal.SIGTERM)
        deadline_ns = time.perf_counter_ns() + int(STOP_TIMEOUT_S * 1e9)
        while self.tree_alive() and time.perf_counter_ns() < deadline_ns:
            time.sleep(0.05)
        for stat in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(stat.pid, signal.SIGKILL)
        self.process.wait(timeout=STOP_TIMEOUT_S)

    def tree_alive(self) -> bool:
        """Whether anything of the tree still runs; reaps the first process so that it does not linger as a zombie."""
        self.process.poll()
        return bool(self.tree())

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the server's own process group, which exists while any member of it does."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)
