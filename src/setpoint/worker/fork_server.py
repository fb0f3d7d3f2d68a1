"""A small process that has imported what every worker needs, and becomes one whenever the node asks.

A worker that starts as a new interpreter spends most of its start on imports; ``benchmarks/lifecycle/worker_start.py``
measures both. A forked worker also shares some 27 MB of interpreter and libraries with the others.

It has no threads of its own and never runs a model, so that there is nothing in it that forking could break: sessions,
thread pools and users' modules are made by the worker, after it was forked. It forks twice, so that the worker becomes
the node's own child (which has asked the kernel for orphans, ``PR_SET_CHILD_SUBREAPER``): the node can end and wait
for it without asking here, and the death of this process takes no worker with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import time
import warnings
from collections.abc import Sequence

import msgspec

from setpoint.engines import engine
from setpoint.worker import messages
from setpoint.worker.process import become_named, end_with, ignore_group_signals, run_worker

FORKED_DESCRIPTORS = 4
"""Channel, requests, and two for answers: what ``run_worker`` takes."""
REQUEST_LIMIT_BYTES = 1 << 12
NAME = "setpoint-forks"
_SAFE_ENGINES = frozenset({"onnxruntime", "python"})
"""Engines that start no threads when they are imported; any other is imported by its worker."""
_NOTHING_TO_CLOSE = frozenset({"onnxruntime"})
"""Engines of which the kernel takes everything back: no code of the user's that wants to say good-bye."""
_ADOPTION_LIMIT_S = 10.0


class Calling(msgspec.Struct):
    """What a forked process is to do: serve as a worker with these descriptors."""

    request: messages.ForkRequest
    descriptors: Sequence[int]


def main(control_fd: int, node_pid: int) -> int:
    """Fork workers until the node closes its end. Returns in this process and in each worker when it is done."""
    end_with(node_pid)
    ignore_group_signals()
    become_named(NAME)
    # Python warns of forks in processes with threads. With more than one BLAS thread numpy has some here, which
    # OpenBLAS itself ends before a fork (pthread_atfork) and makes again when there is something to compute.
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    calling = _fork_on_request(socket.socket(fileno=control_fd), node_pid)
    if calling is None:
        return 0
    _reseed()
    runs_nobodys_code = _NOTHING_TO_CLOSE.issuperset(calling.request.engines)
    run_worker(calling.descriptors, calling.request.arena_limit_bytes, leave_at_once=runs_nobodys_code)
    return 0


def _fork_on_request(control: socket.socket, node_pid: int) -> Calling | None:
    """None in this process, once the node is gone; in a worker, what it is to do."""
    decode = msgspec.msgpack.Decoder(messages.ForkRequest).decode
    imported: set[str] = set()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(
            control, REQUEST_LIMIT_BYTES, FORKED_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not packet:
            return None
        request = decode(packet)
        wanted = _SAFE_ENGINES.intersection(request.engines) - imported
        for name in wanted:
            with contextlib.suppress(Exception):  # the worker will meet it again, and say so to the node
                engine(name)
        if wanted or not imported:
            imported |= wanted
            gc.collect()
            gc.freeze()  # so that the workers' collections do not touch, and so copy, what they share with us
        if _become_worker(descriptors, node_pid):
            control.close()
            return Calling(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _become_worker(descriptors: Sequence[int], node_pid: int) -> bool:
    """Fork; True in the worker, which is the node's child by then."""
    try:
        between = os.fork()
    except OSError as error:
        _say(descriptors[0], messages.Born(0, f"{error.strerror or error}"))
        return False
    if between:
        os.waitpid(between, 0)
        return False
    try:
        between = os.getpid()
        if os.fork():
            os._exit(0)
    except OSError as error:
        _say(descriptors[0], messages.Born(0, f"{error.strerror or error}"))
        os._exit(1)
    os.setpgid(0, 0)  # so that what the model starts can be ended with it
    limit_s = time.monotonic() + _ADOPTION_LIMIT_S
    while os.getppid() == between and time.monotonic() < limit_s:
        os.sched_yield()
    end_with(node_pid)
    become_named("setpoint-worker")
    _say(descriptors[0], messages.Born(os.getpid()))
    return True


def _say(channel_fd: int, born: messages.Born) -> None:
    with contextlib.suppress(OSError):  # the node has gone, or wants this worker no more
        os.write(channel_fd, messages.encode(born))


def _reseed() -> None:
    """Forked processes must not draw the same random numbers; Python's own generator sees to itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
