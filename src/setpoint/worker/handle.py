"""The node's side of one worker process: start it, give it a batch, read its report, notice its death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from setpoint.core import ModelManifest, SetpointError, TensorSpec, error_of
from setpoint.engines import CPU
from setpoint.worker import messages
from setpoint.worker.arena import Arena, layout
from setpoint.worker.channel import Channel
from setpoint.worker.nursery import ForkedProcess, Interpreters, Nursery
from setpoint.worker.request import CallRequest, StreamRequest, TensorRequest
from setpoint.worker.tensors import get, put_batch

_INTERPRETERS = Interpreters()
_NEVER_BORN = "could not be started"


class WorkerSpec(msgspec.Struct, frozen=True):
    """What a worker is to hold.

    Attributes:
        manifest: of the bundle.
        folder: with the bundle's files.
        variants: names of those to load, in the order in which batches refer to them.
        threads: of the engine.
        index: of this worker among those of its model.
        arena_limit_bytes: shared memory it may use in each direction.
        device: to compute on, or several by preference.
    """

    manifest: ModelManifest
    folder: Path
    variants: tuple[str, ...]
    threads: int
    index: int
    arena_limit_bytes: int
    device: str = CPU


class WorkerEvents(Protocol):
    """Whom a handle tells."""

    def on_report(self, worker: WorkerHandle, report: messages.Report) -> None:
        """The worker said something."""
        ...

    def on_exit(self, worker: WorkerHandle, reason: str) -> None:
        """The process is gone; ``reason`` says how, for people. Called once, and last."""
        ...


class WorkerHandle:
    """One worker process. Knows nothing of queues or retries; those are the node's.

    Attributes:
        answers: the arenas that answers come in; batch ``n`` uses ``answers[n & 1]``, so that the answers of one batch
            can be read while the worker computes the next.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        events: WorkerEvents,
        loop: asyncio.AbstractEventLoop,
        nursery: Nursery = _INTERPRETERS,
    ) -> None:
        """Start the process; ``Ready`` or ``Broken`` will be reported.

        Args:
            spec: what it is to hold.
            events: whom to tell.
            loop: on whose thread everything happens.
            nursery: where the process comes from.

        Raises:
            OSError: this machine has no process or no descriptor left for it; nothing was started.
        """
        self._events = events
        self._loop = loop
        self._exited = False
        with contextlib.ExitStack() as on_failure:
            self._requests, *answers = [_arena(spec.arena_limit_bytes, on_failure) for _ in range(3)]
            self.answers = (answers[0], answers[1])
            self._channel, theirs = Channel.pair()
            on_failure.callback(self._channel.close)
            (manifest,) = self._put_bodies([spec.manifest.to_json()])
            with theirs:
                inherited = (theirs.fileno(), self._requests.descriptor, *(arena.descriptor for arena in self.answers))
                self._process = nursery.start(
                    inherited,
                    threads=spec.threads,
                    arena_limit_bytes=spec.arena_limit_bytes,
                    engines=tuple(sorted({v.engine for v in spec.manifest.variants if v.name in spec.variants})),
                )
            on_failure.pop_all()
        loop.add_reader(self._channel.fileno(), self._readable)
        arena_bytes = self._requests.size_bytes
        variants = list(spec.variants)
        folder, device = str(spec.folder), spec.device
        self._send(messages.Load(arena_bytes, folder, manifest, variants, spec.threads, True, spec.index, device))

    @property
    def pid(self) -> int:
        """Of the process; 0 until it has said who it is."""
        return self._process.pid

    # --- commands ------------------------------------------------------------------------------------------------

    def run(
        self,
        batch: int,
        specs: Sequence[TensorSpec],
        requests: Sequence[TensorRequest],
        *,
        variant: int = 0,
        lone: bool = False,
    ) -> bool:
        """Send a batch of tensors; False when the process is gone: then nobody saw the batch, and ``on_exit`` follows.

        Args:
            batch: its number.
            specs: of the inputs.
            requests: at least one.
            variant: place of the variant in the spec's.
            lone: there is nothing else to do now.

        Raises:
            RequestTooLarge: it does not fit the shared memory; nothing was sent.
        """
        if self._exited:
            return False
        extents = put_batch(self._requests, specs, [request.inputs for request in requests])
        return self._send(messages.RunTensors(batch, self._requests.size_bytes, extents, lone, variant))

    def call(self, batch: int, requests: Sequence[CallRequest], *, lone: bool = False) -> bool:
        """Send a batch of bodies for one endpoint; False and ``lone`` as ``run`` says.

        Raises:
            RequestTooLarge: it does not fit the shared memory; nothing was sent.
        """
        if self._exited:
            return False
        extents = self._put_bodies([request.body for request in requests])
        first = requests[0]
        size_bytes = self._requests.size_bytes
        return self._send(messages.CallEndpoint(batch, size_bytes, first.endpoint, first.raw, extents, lone))

    def stream(self, batch: int, request: StreamRequest) -> bool:
        """Send one body for a streaming endpoint; False as ``run`` says.

        Raises:
            RequestTooLarge: it does not fit the shared memory; nothing was sent.
        """
        if self._exited:
            return False
        (extent,) = self._put_bodies([request.body])
        size_bytes = self._requests.size_bytes
        return self._send(messages.StreamEndpoint(batch, size_bytes, request.endpoint, request.raw, extent))

    def cancel(self, batch: int) -> None:
        """Tell the worker that nobody listens to a stream any more."""
        self._send(messages.Cancel(batch))

    def read_outputs(self, report: messages.Ran) -> list[NDArray[Any]]:
        """The outputs of a batch: views, valid until the batch after the next is sent."""
        arena = self.answers[report.batch & 1]
        arena.follow(report.arena_bytes)
        return get(arena, report.outputs)

    def read_answers(self, report: messages.Answered) -> list[bytes | SetpointError]:
        """The JSON, or the error, for each body of a batch."""
        arena = self.answers[report.batch & 1]
        arena.follow(report.arena_bytes)
        found: list[bytes | SetpointError] = []
        for answer in report.answers:
            text = arena.read(answer.text.offset, answer.text.length_bytes)
            found.append(error_of(answer.error_kind, text.decode()) if answer.error_kind else text)
        return found

    def pause(self) -> None:
        """Take no reports for now: once the channel is full, the worker waits."""
        if not self._exited:
            self._loop.remove_reader(self._channel.fileno())

    def resume(self) -> None:
        """Take reports again."""
        if not self._exited:
            self._loop.add_reader(self._channel.fileno(), self._readable)

    def check(self) -> None:
        """Look whether the process is dead. To be called now and then, for one whose death the channel does not tell.

        A process that the model forked (``multiprocessing`` does) inherits the worker's end of it, and outlives it.
        """
        if not self._exited and self._process.poll() is not None:
            while self._receive():
                pass
            self._gone("")

    def kill(self) -> None:
        """End the process now. ``on_exit`` follows."""
        if not self.pid:
            self._gone(_NEVER_BORN)
        else:
            self._process.kill()

    def close(self) -> None:
        """Ask the process to end by closing our side. ``on_exit`` follows, at once."""
        self._gone("closed")

    # --- inside --------------------------------------------------------------------------------------------------

    def _put_bodies(self, bodies: Sequence[bytes]) -> list[messages.Extent]:
        offsets, needed_bytes = layout([len(body) for body in bodies])
        self._requests.reserve(needed_bytes)
        extents = []
        for body, offset in zip(bodies, offsets, strict=True):
            self._requests.write(offset, body)
            extents.append(messages.Extent(offset, len(body)))
        return extents

    def _send(self, command: messages.Command) -> bool:
        if self._exited:
            return False
        try:
            self._channel.send(messages.encode(command))
        except (BrokenPipeError, ConnectionResetError):
            return False  # it is dead: the reader sees the end of the channel and reports it
        except BlockingIOError:
            # A buffer of many packets is full: this worker has not read for long. It counts as lost.
            self.kill()
            return False
        return True

    def _readable(self) -> None:
        self._receive()

    def _receive(self) -> bool:
        """Handle one packet; False when there is none."""
        if self._exited:
            return False
        packet = self._channel.receive_now()
        return packet is not None and self._take(packet)

    def await_report(self, patience_ns: int) -> None:
        """Look for the worker's report for a moment, where it is known to come sooner than being woken takes."""
        packet = self._channel.receive_soon(patience_ns)
        if packet is not None:
            self._take(packet)

    def _take(self, packet: memoryview) -> bool:
        if not packet:
            self._gone("" if self.pid else _NEVER_BORN)
            return False
        try:
            report = messages.decode_report(packet)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Something in the process writes where only we write: nothing it says can be trusted any more.
            self.kill()
            return False
        if isinstance(report, messages.Born):
            return self._born(report)
        self._events.on_report(self, report)
        return True

    def _born(self, report: messages.Born) -> bool:
        if not isinstance(self._process, ForkedProcess) or self.pid:
            self.kill()  # it is long born: whatever says this is not ours
            return False
        if not report.pid:
            self._gone(f"{_NEVER_BORN}: {report.error}")
            return False
        self._process.born(report.pid)
        return True

    def _gone(self, reason: str) -> None:
        if self._exited:
            return
        self._exited = True
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        self._requests.close()
        for arena in self.answers:
            arena.close()
        # Its channel is closed, so it is dead or about to be: waiting must not hold the event loop even so.
        self._loop.create_task(self._reap(reason))

    async def _reap(self, reason: str) -> None:
        status = await asyncio.to_thread(self._wait)
        # Processes that the model started or forked would outlive it, holding its memory and our descriptors.
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._events.on_exit(self, reason or _how_it_ended(status))

    def _wait(self) -> int:
        try:
            return self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _arena(limit_bytes: int, on_failure: contextlib.ExitStack) -> Arena:
    arena = Arena.create(limit_bytes)
    on_failure.callback(arena.close)
    return arena


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
