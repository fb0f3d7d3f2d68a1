"""The worker process: load a model's variants, then run batch after batch until the node is gone."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from setpoint.core import FREE, ModelError, ModelManifest, SetpointError, Signature
from setpoint.engines import EngineOptions, Executable, load_executable
from setpoint.worker import messages
from setpoint.worker.arena import Arena, layout
from setpoint.worker.channel import Channel
from setpoint.worker.tensors import get, put

if TYPE_CHECKING:
    from setpoint.engines import PythonExecutable

_log = logging.getLogger("setpoint.worker")
_YIELDING = 5
"""Niceness of workers that have a queue before them, or compute for long. The node must read, refuse and answer for
all: where cores are short, it goes first. Without this, goodput fell by half at three times what could be held."""
_LONG_RUN_NS = 1_000_000
_STREAK = 32
"""So many batches in a row are no accident. Short runs of lone requests are waited for by the node on the spot: there,
a worker that yields to it made them a quarter slower."""
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h
_BRISK_NS = 500_000
"""A run this short is worth looking for the next batch instead of sleeping."""
_PATIENCE_NS = 200_000
"""How long to look: about what a client on the same machine needs to ask again."""
_WARMUP_LENGTHS = (8, 1, 16, 32, 64, 224)
"""Lengths tried for free inner axes at warm-up; a model says no to those it cannot take."""


class Worker:
    """The loaded variants of one model, and its side of the transport."""

    def __init__(self, channel: Channel, requests: Arena, answers: tuple[Arena, Arena]) -> None:
        self._channel = channel
        self._requests = requests
        self._answers = answers
        self._executables: list[Executable] = []
        self._soon = False
        self._calm = True
        self._streak = 0
        self._back = False
        self._niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self._signature: Signature | None = None

    @property
    def _endpoints(self) -> PythonExecutable:
        """The executable as one that has endpoints; the node calls endpoints of Python classes only, which have one."""
        return cast("PythonExecutable", self._executables[0])

    def serve(self) -> None:
        """Handle commands until the node closes its end, which is also how the node's death looks."""
        while True:
            packet = self._channel.receive_soon(_PATIENCE_NS) if self._soon else None
            if packet is None:
                packet = self._channel.receive()
            if not packet:
                return
            self._soon = False
            command = messages.decode_command(packet)
            match command:
                case messages.RunTensors():
                    self._requests.follow(command.arena_bytes)
                    ran = self._run(command)
                    self._send(ran)
                    self._ran_for(ran.run_ns, lone=command.lone)
                case messages.CallEndpoint():
                    self._requests.follow(command.arena_bytes)
                    answered = self._call(command)
                    self._send(answered)
                    self._ran_for(answered.run_ns, lone=command.lone)
                case messages.StreamEndpoint():
                    self._stand_back(True)  # it computes for as long as it likes
                    self._requests.follow(command.arena_bytes)
                    self._send(self._stream(command))
                case messages.Load():
                    self._requests.follow(command.arena_bytes)
                    if not self._load(command):
                        return
                case messages.Cancel():
                    pass  # of a stream that ended before the cancellation came

    def close(self) -> None:
        """Let the model give back what the end of the process would not."""
        for executable in self._executables:
            try:
                executable.close()
            except Exception:
                # There is nobody left to tell, and the process ends either way.
                _log.exception("the model could not be closed")

    def _ran_for(self, run_ns: int, *, lone: bool) -> None:
        self._soon = lone and run_ns < _BRISK_NS
        calm = lone and run_ns < _LONG_RUN_NS
        self._streak = self._streak + 1 if calm is self._calm else 1
        self._calm = calm
        if self._streak == _STREAK:
            self._stand_back(not calm)

    def _stand_back(self, back: bool) -> None:
        if back is not self._back:
            self._back = back
            become_nice(max(_YIELDING, self._niceness) if back else self._niceness)

    def _send(self, report: messages.Report) -> None:
        self._channel.send(messages.encode(report))

    def _load(self, command: messages.Load) -> bool:
        load_ns = warmup_ns = 0
        try:
            extent = command.manifest
            manifest = ModelManifest.from_json(self._requests.read(extent.offset, extent.length_bytes))
            by_name = {variant.name: variant for variant in manifest.variants}
            self._signature = manifest.signature
            options = EngineOptions(threads=command.threads, spin=command.spin, device=command.device)
            for name in command.variants:
                start_ns = time.monotonic_ns()
                executable = load_executable(by_name[name], Path(command.folder), options)
                self._executables.append(executable)
                loaded_ns = time.monotonic_ns()
                if self._signature is not None and by_name[name].engine != "python":
                    warm_up(executable, self._signature)
                load_ns += loaded_ns - start_ns
                warmup_ns += time.monotonic_ns() - loaded_ns
        except SetpointError as error:
            self._send(messages.Broken(error.kind, messages.said(error.message)))
            return False
        except Exception as error:
            # The boundary of the process: whatever a model's file provokes is told to the node, not lost with us.
            _log.exception("the model could not be loaded")
            self._send(messages.Broken(ModelError.kind, f"the model could not be loaded: {_one_line(error)}"))
            return False
        # What was loaded lives as long as the process: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        devices = [executable.device for executable in self._executables]
        self._send(messages.Ready(load_ns / 1e6, warmup_ns / 1e6, devices))
        return True

    def _run(self, command: messages.RunTensors) -> messages.Ran:
        start_ns = time.monotonic_ns()
        answers = self._answers[command.batch & 1]
        assert self._signature is not None, "the node sends tensors only where there is a signature"
        try:
            specs = self._signature.inputs
            arrays = get(self._requests, command.inputs)
            executable = self._executables[command.variant]
            outputs = executable.run({spec.name: array for spec, array in zip(specs, arrays, strict=True)})
            extents = put(answers, self._signature.outputs, self._in_order(outputs))
        except SetpointError as error:
            message = messages.said(error.message)
            return messages.Ran(command.batch, 0, time.monotonic_ns() - start_ns, [], error.kind, message)
        except Exception as error:
            _log.exception("a batch failed")
            message = f"the model failed: {_one_line(error)}"
            return messages.Ran(command.batch, 0, time.monotonic_ns() - start_ns, [], ModelError.kind, message)
        return messages.Ran(command.batch, answers.size_bytes, time.monotonic_ns() - start_ns, extents)

    def _in_order(self, outputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        assert self._signature is not None
        ordered = []
        for spec in self._signature.outputs:
            array = outputs.get(spec.name)
            if array is None:
                raise ModelError(f"the model gave no output {spec.name!r}, which its signature promises")
            dtype = spec.type.dtype
            ordered.append(array if array.dtype == dtype or dtype.hasobject else array.astype(dtype))
        return ordered

    def _call(self, command: messages.CallEndpoint) -> messages.Answered:
        start_ns = time.monotonic_ns()
        arena = self._answers[command.batch & 1]
        bodies = [self._requests.read(body.offset, body.length_bytes) for body in command.bodies]
        results = self._endpoints.call(command.endpoint, bodies, command.raw)
        texts = [result.body if result.ok else messages.said(result.message).encode() for result in results]
        offsets, needed_bytes = layout(map(len, texts))
        try:
            arena.reserve(needed_bytes)
        except SetpointError as error:
            # One kind for all of them: the node runs them one by one then, and only those too large alone get it.
            message = f"the answer is too large: {error.message}"
            return messages.Answered(command.batch, 0, time.monotonic_ns() - start_ns, [], ModelError.kind, message)
        answers = []
        for result, text, offset in zip(results, texts, offsets, strict=True):
            arena.write(offset, text)
            answers.append(messages.CallAnswer(messages.Extent(offset, len(text)), result.kind))
        return messages.Answered(command.batch, arena.size_bytes, time.monotonic_ns() - start_ns, answers)

    def _stream(self, command: messages.StreamEndpoint) -> messages.StreamEnd:
        start_ns = time.monotonic_ns()
        kind = message = ""
        body = self._requests.read(command.body.offset, command.body.length_bytes)
        try:
            events = self._endpoints.stream(command.endpoint, body, command.raw)
            with contextlib.closing(events):
                for event in events:
                    if self._cancelled(command.batch):
                        break
                    self._send_event(command.batch, event)
        except SetpointError as error:
            kind, message = error.kind, messages.said(error.message)
        except Exception as error:
            _log.exception("a stream failed")
            kind, message = ModelError.kind, f"the model failed: {_one_line(error)}"
        return messages.StreamEnd(command.batch, time.monotonic_ns() - start_ns, kind, message)

    def _send_event(self, batch: int, event: bytes) -> None:
        view = memoryview(event)
        for start in range(0, len(event), messages.CHUNK_LIMIT_BYTES):
            end = start + messages.CHUNK_LIMIT_BYTES
            self._send(messages.StreamChunk(batch, bytes(view[start:end]), end >= len(event)))

    def _cancelled(self, batch: int) -> bool:
        """While a stream runs, the only command that can come is its cancellation, or the end of the node."""
        packet = self._channel.receive_now()
        if packet is None:
            return False
        if not packet:
            return True
        command = messages.decode_command(packet)
        return isinstance(command, messages.Cancel) and command.batch == batch


def warm_up(executable: Executable, signature: Signature) -> None:
    """Run once with zeros, so that the first client does not pay for lazy allocation.

    A model that takes no such input (an inner axis must match something inside it) is simply not warmed up.
    """
    for length in _WARMUP_LENGTHS:
        inputs = {}
        for spec in signature.inputs:
            shape = [length if axis == FREE else axis for axis in spec.shape]
            if signature.batched:
                shape[0] = 1
            fill = b"" if spec.type.dtype.hasobject else 0
            inputs[spec.name] = np.full(shape, fill, spec.type.dtype)
        try:
            executable.run(inputs)
        except ModelError:
            continue
        return


def _one_line(error: Exception) -> str:
    return messages.said(f"{type(error).__name__}: {error}".splitlines()[0])


def end_with(node_pid: int) -> None:
    """Die with the node, whatever the model is doing: a run that never returns would never see the channel close."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != node_pid:  # it died before we could ask
        sys.exit(1)


def become_named(name: str) -> None:
    """What ``ps -o comm`` and ``top`` call this process; the kernel keeps 15 characters."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())


def become_nice(niceness: int) -> None:
    """Let all threads, and those that they will start, stand back where others want their cores; or no longer."""
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended; or only root may go back
            # Niceness is each thread's own on Linux: setpriority(2), "C library/kernel differences".
            os.setpriority(os.PRIO_PROCESS, thread, niceness)


def ignore_group_signals() -> None:
    """Ctrl-C and a service manager's SIGTERM reach the whole group; the node decides when we end.

    Handlers that do nothing, not SIG_IGN: that would be inherited by whatever programs the model starts.
    """
    for number in messages.NOT_FOR_WORKERS:
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, messages.NOT_FOR_WORKERS)


def run_worker(descriptors: Sequence[int], arena_limit_bytes: int, *, leave_at_once: bool = False) -> None:
    """Serve until the node is gone.

    Args:
        descriptors: of the channel, the requests' arena and the two answers' arenas.
        arena_limit_bytes: of each.
        leave_at_once: end the process then, without taking interpreter and engine apart first. A parked model's memory
            is waited for by the next one: this gives it back in a tenth of the time.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # not for the programs that the model starts
    channel_fd, requests_fd, first_fd, second_fd = descriptors
    channel = Channel(socket.socket(fileno=channel_fd))
    answers = (Arena(first_fd, arena_limit_bytes), Arena(second_fd, arena_limit_bytes))
    worker = Worker(channel, Arena(requests_fd, arena_limit_bytes), answers)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        worker.serve()
    if leave_at_once:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    worker.close()


def main(arguments: list[str]) -> int:
    """Entry of ``python -m setpoint.worker run CHANNEL REQUESTS ANSWERS ANSWERS ARENA_LIMIT_BYTES NODE_PID``.

    The first four are inherited descriptors.
    """
    *descriptors, limit_bytes, node_pid = map(int, arguments)
    end_with(node_pid)
    ignore_group_signals()
    become_named("setpoint-worker")
    run_worker(descriptors, limit_bytes)
    return 0
