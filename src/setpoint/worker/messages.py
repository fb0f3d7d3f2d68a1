"""What a node and a worker say to each other: one MessagePack record a packet, over a Unix ``SOCK_SEQPACKET`` pair.

Tensors and bodies are not in the messages: a message says where in the arena they lie.
"""

from __future__ import annotations

import signal

import msgspec


class Extent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bytes in an arena."""

    offset: int
    length_bytes: int


class TensorExtent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tensor in an arena. BYTES tensors lie there as V2 encodes them: each element behind its 4-byte length."""

    datatype: str
    shape: tuple[int, ...]
    offset: int
    length_bytes: int


class RunTensors(msgspec.Struct, frozen=True, array_like=True, tag="run", gc=False):
    """Node → worker: run these inputs (in the signature's order).

    Attributes:
        lone: the node had nothing else to do, so a client that asks again at once is probably all there is.
        variant: place of the variant to run among those loaded.
    """

    batch: int
    arena_bytes: int
    inputs: list[TensorExtent]
    lone: bool = False
    variant: int = 0


class CallEndpoint(msgspec.Struct, frozen=True, array_like=True, tag="call", gc=False):
    """Node → worker: call an endpoint with one body for each request; ``lone`` as in ``RunTensors``."""

    batch: int
    arena_bytes: int
    endpoint: str
    raw: bool
    bodies: list[Extent]
    lone: bool = False


class StreamEndpoint(msgspec.Struct, frozen=True, array_like=True, tag="stream", gc=False):
    """Node → worker: call a streaming endpoint with one body."""

    batch: int
    arena_bytes: int
    endpoint: str
    raw: bool
    body: Extent


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel", gc=False):
    """Node → worker: nobody listens to this stream any more."""

    batch: int


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load", gc=False):
    """Node → worker, the first packet: what to load and how.

    Attributes:
        folder: the bundle's files.
        manifest: as ``ModelManifest.to_json`` writes it, in an extent of the request arena.
        variants: names of those to load; all stay resident, so that choosing another one costs nothing.
        worker: index of this worker among those of its model.
        device: to compute on, or several by preference.
    """

    arena_bytes: int
    folder: str
    manifest: Extent
    variants: list[str]
    threads: int
    spin: bool
    worker: int
    device: str


Command = Load | RunTensors | CallEndpoint | StreamEndpoint | Cancel


class ForkRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Node → fork server, with the worker's descriptors: become a worker.

    Attributes:
        arena_limit_bytes: of its shared memory, per direction.
        engines: that the worker will use.
    """

    arena_limit_bytes: int
    engines: tuple[str, ...]


class Born(msgspec.Struct, frozen=True, array_like=True, tag="born", gc=False):
    """Forked worker → node, the first packet: which process it is; 0 and the reason where there is none."""

    pid: int
    error: str = ""


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready", gc=False):
    """Worker → node: loaded and warmed up, and on which device each variant is."""

    load_ms: float
    warmup_ms: float
    devices: list[str]


class Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken", gc=False):
    """Worker → node: the model cannot be loaded; the worker ends."""

    kind: str
    message: str


class Ran(msgspec.Struct, frozen=True, array_like=True, tag="ran", gc=False):
    """Worker → node: outputs of a ``RunTensors``, in the signature's order; or why there are none."""

    batch: int
    arena_bytes: int
    run_ns: int
    outputs: list[TensorExtent]
    error_kind: str = ""
    error: str = ""


class CallAnswer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request's answer within ``Answered``: text in the arena, which is JSON, or what to say of an error.

    Both lie there, since the errors of a large batch would not fit a packet.
    """

    text: Extent
    error_kind: str = ""


class Answered(msgspec.Struct, frozen=True, array_like=True, tag="answered", gc=False):
    """Worker → node: answers of a ``CallEndpoint``, one for each body; or why there are none."""

    batch: int
    arena_bytes: int
    run_ns: int
    answers: list[CallAnswer]
    error_kind: str = ""
    error: str = ""


class StreamChunk(msgspec.Struct, frozen=True, array_like=True, tag="chunk", gc=False):
    """Worker → node: a piece of one event's JSON; ``last`` closes the event."""

    batch: int
    piece: bytes
    last: bool


class StreamEnd(msgspec.Struct, frozen=True, array_like=True, tag="end", gc=False):
    """Worker → node: no more events; with an error where the stream broke off."""

    batch: int
    run_ns: int
    error_kind: str = ""
    error: str = ""


Report = Born | Ready | Broken | Ran | Answered | StreamChunk | StreamEnd

PACKET_LIMIT_BYTES = 1 << 18
"""Largest packet either side sends; the socket buffers are set to hold it."""
CHUNK_LIMIT_BYTES = 1 << 16
"""Largest piece of one streamed event in a packet."""
CALL_LIMIT_REQUESTS = 1024
"""Most requests of one batch: their extents must fit one packet."""
SAID_LIMIT_CHARACTERS = 4000
"""Longest error message that crosses; what a model raises may be of any length."""
NOT_FOR_WORKERS = (signal.SIGINT, signal.SIGTERM)
"""Signals that a node and its workers get together (Ctrl-C, a service manager) and only the node acts upon."""


def said(message: str) -> str:
    """A message as it may cross: not too long, and of whole characters, since a model may say half of one."""
    shown = message if len(message) <= SAID_LIMIT_CHARACTERS else message[: SAID_LIMIT_CHARACTERS - 1] + "…"
    return shown.encode(errors="backslashreplace").decode()


encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_report = msgspec.msgpack.Decoder(Report).decode
