"""A real Redis on loopback, in memory only, that a test can stop, freeze and start again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest


class RedisServer:
    """One ``redis-server`` on a port of its own."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
        pytest.importorskip("redis", reason="the client is not installed: pip install 'setpoint[redis]'")
        self._program = program
        self._folder = folder
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port: int = taken.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        sizes = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [self._program, *sizes, "--dir", str(self._folder), "--maxmemory", "64mb"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        end_s = time.monotonic() + 20
        while self.command("PING") != b"+PONG\r\n":
            assert time.monotonic() < end_s, "redis-server does not start"
            time.sleep(0.02)

    def command(self, *words: str | bytes) -> bytes:
        """What it answers to a command, as it comes; empty where it does not."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        text = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(text)
            return connection.recv(1 << 16)
        return b""

    def keys(self) -> list[bytes]:
        """Of everything in it."""
        return self.command("KEYS", "*").split(b"\r\n")[2::2]

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None
