"""Every error that Setpoint raises on purpose, split by whose fault it is.

::

    SetpointError
    ├── RequestError              the client's request: answered 4xx, never logged as our failure
    │   ├── InvalidRequest          malformed, wrong types, wrong shapes              400
    │   ├── Unauthenticated         who asks did not say who they are                 401
    │   ├── Forbidden               who asks may not do this                          403
    │   ├── NotFound                no such model, version, endpoint, route           404
    │   ├── MethodNotAllowed        the route exists, the verb does not               405
    │   ├── RequestTimeout          the client was too slow to send its request       408
    │   ├── RequestTooLarge         beyond a limit that has a number                  413, 431 (header)
    │   └── UnsupportedMedia        a content type or encoding we do not read         415
    ├── RefusedError              nobody's fault, now: the client may come again      503 + Retry-After
    │   ├── QueueFull               the model's queue is at its limit
    │   ├── Overloaded              it would be answered too late: more is asked for than can be held
    │   ├── OverShare               as Overloaded, and its tenant uses more than its share   429
    │   ├── Draining                the node is shutting down
    │   ├── NotReady                the model has no worker that is ready
    │   ├── DeadlineExceeded        its deadline has passed, or leaves less than one run takes   504
    │   └── WorkerLost              its worker died, twice, or stopped answering
    ├── ConfigurationError        the user who set it up: exit code 2, or 1 where work had begun
    │   ├── InvalidConfiguration    a flag, objective or file says something impossible
    │   ├── UnknownFormat           no format recognises the file
    │   ├── MissingExtra            an optional dependency is not installed; names the extra
    │   ├── UntrustedFile           the file can run code and was not trusted
    │   ├── ConversionMismatch      the converted model's answers differ from the source's
    │   ├── BundleNotFound          no such name, version, alias or digest in the registry
    │   └── CorruptBundle           content does not match its digest
    ├── ModelError                the model's own code or graph failed on good input  500
    └── InternalError             ours: a bug                                         500

A message says what was expected, what came, and what to do next. ``kind`` is a stable word for metrics and
for programs; the mapping to HTTP stands once, in ``wire``.
"""

from __future__ import annotations

from typing import ClassVar


class SetpointError(Exception):
    """Root of the tree. ``kind`` names the leaf in metrics and logs."""

    kind: ClassVar[str] = "error"

    @property
    def message(self) -> str:
        """The sentence for the user."""
        return str(self)


class RequestError(SetpointError):
    """The client's request is at fault; sending it again unchanged fails again."""

    kind = "invalid_request"


class InvalidRequest(RequestError):
    """The request is malformed or does not fit the model's signature."""

    kind = "invalid_request"


class Unauthenticated(RequestError):
    """The request needs a credential and shows none."""

    kind = "unauthenticated"


class Forbidden(RequestError):
    """The request shows a credential that does not allow this, or nobody may do it here."""

    kind = "forbidden"


class NotFound(RequestError):
    """The model, version, endpoint or route does not exist."""

    kind = "not_found"


class MethodNotAllowed(RequestError):
    """The route exists, but not for this verb."""

    kind = "method_not_allowed"

    def __init__(self, message: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestTimeout(RequestError):
    """The client did not finish sending its request in time."""

    kind = "request_timeout"


class RequestTooLarge(RequestError):
    """Body, headers or a batch's tensors are beyond their limit."""

    kind = "too_large"

    def __init__(self, message: str, *, header: bool = False) -> None:
        super().__init__(message)
        self.header = header


class UnsupportedMedia(RequestError):
    """The content type or encoding is not one that this route reads."""

    kind = "unsupported_media"


class RefusedError(SetpointError):
    """The request was fine and was not served; it may be sent again after ``retry_after_s``."""

    kind = "refused"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(RefusedError):
    """The model's queue is at its limit."""

    kind = "queue_full"


class Overloaded(RefusedError):
    """More is asked for than can be answered in time; the message says what can be, and when to come again."""

    kind = "overloaded"


class OverShare(RefusedError):
    """As ``Overloaded``, because the request's tenant uses more than its share."""

    kind = "over_share"


class Draining(RefusedError):
    """The node is shutting down and takes no new requests."""

    kind = "draining"


class NotReady(RefusedError):
    """The model has no worker that is ready to serve."""

    kind = "not_ready"


class DeadlineExceeded(RefusedError):
    """The request's deadline has passed while it waited, or leaves less time than its own run takes."""

    kind = "deadline_exceeded"


class WorkerLost(RefusedError):
    """The worker that held the request died or stopped answering, and the one retry was spent."""

    kind = "worker_lost"


class ConfigurationError(SetpointError):
    """The user's set-up is at fault: a flag, a file, the environment."""

    kind = "configuration"


class InvalidConfiguration(ConfigurationError):
    """A value is impossible; the message says which are possible."""

    kind = "invalid_configuration"


class UnknownFormat(ConfigurationError):
    """No format recognises the file."""

    kind = "unknown_format"


class MissingExtra(ConfigurationError):
    """An optional dependency is not installed."""

    kind = "missing_extra"

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}, which is not installed: pip install 'setpoint[{extra}]'")
        self.extra = extra


class UntrustedFile(ConfigurationError):
    """The file can execute code when it is loaded, and nobody said that it may."""

    kind = "untrusted_file"


class ConversionMismatch(ConfigurationError):
    """The converted model does not answer as its source does; the message says by how much."""

    kind = "conversion_mismatch"


class BundleNotFound(ConfigurationError):
    """The registry holds no such name, version, alias or digest."""

    kind = "bundle_not_found"


class CorruptBundle(ConfigurationError):
    """Stored bytes do not match their digest, or a manifest cannot be read."""

    kind = "corrupt_bundle"


class ModelError(SetpointError):
    """The model's own code or graph failed on input that fits its signature."""

    kind = "model_error"


class InternalError(SetpointError):
    """A bug of ours. The client gets an id to quote; the log has the traceback."""

    kind = "internal"


def error_of(kind: str, message: str) -> SetpointError:
    """The error of that kind, for what came from another process; an unknown kind is a bug of ours.

    ``MissingExtra`` comes back as its parent: its message names the extra already.
    """
    return _BY_KIND.get(kind, InternalError)(message)


def _leaves(root: type[SetpointError]) -> dict[str, type[SetpointError]]:
    found = {root.kind: root} if root is not MissingExtra else {}
    for child in root.__subclasses__():
        found.update(_leaves(child))
    return found


_BY_KIND: dict[str, type[SetpointError]] = {
    **_leaves(SetpointError),
    InvalidRequest.kind: InvalidRequest,
    MissingExtra.kind: ConfigurationError,
}
