"""The worker's side of each transport: wait, compute, answer. Started by `node.py` with inherited descriptors.

python worker.py KIND FD...
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
from arena import Arena, Placed, decode, encode
from numpy.typing import NDArray

LENGTH = struct.Struct("<I")
CONTROL_BYTES = 256
SLOTS = 2


def compute(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nearly no work, yet touches every page of the batch: [n, 4] -> [n, 3] and [n, 3, 224, 224] -> [n, 1000]."""
    flat = batch.reshape(len(batch), -1)
    wanted = 3 if flat.shape[1] == 4 else 1000
    stride = flat.shape[1] // wanted
    return flat[:, : wanted * stride : stride] + np.float32(1)


def keep_freed_memory() -> None:
    """Let glibc keep freed batches instead of giving them back and faulting them in again, page by page, each time."""
    libc = ctypes.CDLL(None)
    libc.mallopt(-1, 256 << 20)  # M_TRIM_THRESHOLD
    libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD


def receive_exactly(source: socket.socket, target: memoryview) -> bool:
    """Fill `target`; False when the node has gone."""
    done = 0
    while done < len(target):
        count = source.recv_into(target[done:])
        if count == 0:
            return False
        done += count
    return True


def receive_frame(source: socket.socket) -> bytes:
    """One length-prefixed message; empty when the node has gone."""
    head = bytearray(LENGTH.size)
    if not receive_exactly(source, memoryview(head)):
        return b""
    frame = bytearray(LENGTH.unpack(head)[0])
    return bytes(frame) if receive_exactly(source, memoryview(frame)) else b""


def answer(requests: Arena, answers: Arena, message: bytes | memoryview) -> bytes:
    placed = decode(message)
    return encode(answers.write(placed.ticket, placed.ticket % SLOTS, [compute(requests.view(placed))]))


def serve_seqpacket(requests_fd: int, answers_fd: int, socket_fd: int) -> None:
    requests, answers, node = Arena(requests_fd), Arena(answers_fd), socket.socket(fileno=socket_fd)
    while message := node.recv(65536):
        node.send(answer(requests, answers, message))


def serve_stream(requests_fd: int, answers_fd: int, socket_fd: int) -> None:
    requests, answers, node = Arena(requests_fd), Arena(answers_fd), socket.socket(fileno=socket_fd)
    while message := receive_frame(node):
        reply = answer(requests, answers, message)
        node.sendall(LENGTH.pack(len(reply)) + reply)


def serve_eventfd(requests_fd: int, answers_fd: int, control_fd: int, asked_fd: int, answered_fd: int) -> None:
    requests, answers, control = Arena(requests_fd), Arena(answers_fd), Control(control_fd)
    # An eventfd does not tell that the node has died; the pipe on our standard input does.
    threading.Thread(target=lambda: os._exit(len(os.read(0, 1))), daemon=True).start()
    ticket = 0
    while True:
        os.eventfd_read(asked_fd)  # a semaphore: one batch at a time
        message = control.take(ticket % SLOTS)
        if not message:
            return
        control.put(ticket % SLOTS, answer(requests, answers, message))
        os.eventfd_write(answered_fd, 1)
        ticket += 1


def serve_pipe(connection_fd: int) -> None:
    node = Connection(connection_fd)
    while True:
        try:
            ticket, batch = node.recv()
        except EOFError:
            return
        node.send((ticket, compute(batch)))


def serve_raw(socket_fd: int) -> None:
    node = socket.socket(fileno=socket_fd)
    body = np.empty(0, np.uint8)
    while message := receive_frame(node):
        placed = decode(message)
        size = np.dtype(placed.dtype).itemsize * int(np.prod(placed.shape))
        if len(body) < size:
            body = np.empty(size, np.uint8)
        if not receive_exactly(node, body.data[:size]):
            return
        result = compute(body[:size].view(placed.dtype).reshape(placed.shape))
        reply = encode(Placed(placed.ticket, 0, 0, result.dtype.str, result.shape))
        node.sendall(b"".join((LENGTH.pack(len(reply)), reply, result.data)))


class Control:
    """The messages of the eventfd transport: one fixed cell per slot, in shared memory."""

    def __init__(self, fd: int) -> None:
        self._memory = np.ndarray((SLOTS, CONTROL_BYTES), np.uint8, Arena(fd)._memory)

    def put(self, slot: int, message: bytes) -> None:
        cell = self._memory[slot].data
        cell[LENGTH.size : LENGTH.size + len(message)] = message
        LENGTH.pack_into(cell, 0, len(message))

    def take(self, slot: int) -> memoryview:
        cell: memoryview = self._memory[slot].data
        return cell[LENGTH.size : LENGTH.size + LENGTH.unpack_from(cell)[0]]


SERVE: dict[str, Callable[..., None]] = {
    "seqpacket": serve_seqpacket,
    "stream": serve_stream,
    "eventfd": serve_eventfd,
    "pipe": serve_pipe,
    "raw": serve_raw,
}

if __name__ == "__main__":
    keep_freed_memory()
    SERVE[sys.argv[1]](*map(int, sys.argv[2:]))
