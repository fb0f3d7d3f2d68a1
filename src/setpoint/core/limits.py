"""Every limit of a node, with its number. All are configurable; none is infinite."""

from __future__ import annotations

import msgspec

from setpoint.core.errors import InvalidConfiguration

MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True):
    """What a node accepts before it says no, and how long it waits before it gives up."""

    body_limit_bytes: int = 64 * MIB
    """Largest request body; Triton's default."""
    json_limit_bytes: int = 8 * MIB
    """Largest JSON body, flat lists of numbers in V2 requests not counted: reading other JSON holds up everybody else
    on the node, by 50 to 180 ms a MiB for unkind ones."""
    json_depth_limit: int = 100
    """Lists and objects within each other in a JSON body; Triton's number."""
    tensor_limit: int = 1024
    """Inputs that a request names, and outputs that it asks for."""
    rank_limit: int = 32
    """Axes of one tensor of a request."""
    element_limit: int = 64 * MIB
    """Elements of one tensor of a request."""
    bytes_element_limit: int = 256 * 1024
    """The same of BYTES: each becomes an object, and reading them holds up everybody else on the node."""
    header_limit_bytes: int = 32 * 1024
    """Request line and headers together."""
    header_count_limit: int = 128
    """Headers of one request, each repeated one counted."""
    bodies_limit_bytes: int = 512 * MIB
    """All bodies together that did not come in one packet and are not answered yet; one more piece is answered 503."""
    connection_limit: int = 4096
    """Open connections; one more is answered 503 and closed."""
    pipeline_limit: int = 64
    """Requests one connection may have in flight; more are left in the socket until some are answered."""
    multiplex_limit: int = 128
    """Requests one HTTP/2 connection may have in flight; the client is told, and one more ends the connection."""
    stream_limit: int = 256
    """Streamed answers (server-sent events) at once, waiting ones included; one more is answered 503."""
    grpc_call_limit: int = 4096
    """Calls and streams in flight over gRPC; more are answered RESOURCE_EXHAUSTED."""
    header_timeout_s: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_timeout_s: float = 120.0
    """From the end of the headers to the end of the body: the largest one takes so long at 4.5 Mbit/s."""
    body_rate_bytes_per_s: int = 4096
    """A body that has come slower than this for five seconds is given up."""
    idle_timeout_s: float = 75.0
    """A kept-alive connection without a request."""
    write_timeout_s: float = 30.0
    """A client that does not read its answer."""
    queue_limit_rows: int = 4096
    """Rows waiting for one model; more are refused."""
    composition_limit_bytes: int = 1024 * MIB
    """Tensors between the steps of one composition, of all its requests together; one more is refused."""
    request_timeout_s: float = 60.0
    """A request older than this is answered 504 instead of being computed."""
    run_timeout_s: float = 60.0
    """A worker that holds one batch longer than this is killed and replaced."""
    load_timeout_s: float = 300.0
    """A worker that is not ready by then is killed."""
    drain_timeout_s: float = 30.0
    """How long shutting down waits for accepted requests."""
    arena_limit_bytes: int = 1024 * MIB
    """Shared memory of one worker, per direction; a batch that needs more is answered as too large."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if getattr(self, field) <= 0:
                raise InvalidConfiguration(f"limit {field} must be above 0, got {getattr(self, field)}")


DEFAULT_LIMITS = Limits()
