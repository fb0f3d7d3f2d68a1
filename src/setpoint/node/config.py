"""What a node is told to serve, and where."""

from __future__ import annotations

from pathlib import Path

import msgspec

from setpoint.core import InvalidConfiguration, Limits, Objective
from setpoint.engines import CPU, preference
from setpoint.node.cache import CacheTerms
from setpoint.node.http import check_origins
from setpoint.registry import Bundle, Registry
from setpoint.scheduling import FixedTerms


class ModelConfig(msgspec.Struct, frozen=True):
    """One model of a node.

    Attributes:
        bundle: what to serve; clients call it by the bundle's name.
        folder: with the bundle's files.
        workers: processes that hold a copy each.
        threads: engine threads of each worker.
        device: that engines compute on, such as cuda, or several by preference, such as cuda,cpu: only then the second
            one is fallen back to.
        objective: what is to be held; None without.
        variant: the only one to serve with; empty leaves the choice to the objective.
        batching: a batching policy stated by hand, in place of the one that holds the objective.
        weights: tenant to its share of the service where that is not 1.
        cache: what its response cache may hold; None without one.
        room_bytes: what its workers may hold together, as the node finds it: variants beyond it are not loaded; 0 is no
            bound.
        follows: reference that a reload asks the registry for, such as ``sentiment:champion``; empty is the newest
            version of the bundle's name.
    """

    bundle: Bundle
    folder: Path
    workers: int = 1
    threads: int = 1
    device: str = CPU
    objective: Objective | None = None
    variant: str = ""
    batching: FixedTerms | None = None
    weights: dict[str, float] = {}
    cache: CacheTerms | None = None
    room_bytes: int = 0
    follows: str = ""

    def __post_init__(self) -> None:
        preference(self.device)
        if self.variant:
            self.bundle.manifest.variant(self.variant)
        if self.batching is not None and self.objective is not None:
            raise InvalidConfiguration(
                "a stated batching policy (--max-batch-size …) and an objective exclude each other, since an objective "
                "is held by choosing the batches; give one of them"
            )
        if self.workers < 1 or self.threads < 1:
            raise InvalidConfiguration(
                f"a model needs at least one worker and one thread, got {self.workers} × {self.threads}"
            )


class LoadedTerms(msgspec.Struct, frozen=True):
    """How a model is served that nobody said more about: see ``ModelConfig``."""

    workers: int = 1
    threads: int = 1
    objective: Objective | None = None
    device: str = CPU


class NodeConfig(msgspec.Struct, frozen=True):
    """A node.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        models: what it serves, each under another name.
        limits: of everything.
        lifeline: a descriptor whose end of file means that the process that started this node is gone, and that the
            node must go too; -1 without.
        tls_certificate: PEM, with its chain; HTTP and gRPC are encrypted with it. None is without TLS.
        tls_key: PEM, without a passphrase; None where it stands in the certificate's file.
        cors_origins: whose pages may call the node, such as https://app.example.com; * is everybody's.
        grpc_port: where it also serves gRPC, on the same host; 0 takes a free one, None is without.
        shared_memory: whether clients on this host may register shared memory; who reaches the node's port can then
            read and write all that its user can.
        memory_bytes: what the node and all workers may hold together; models that are not asked are parked for others
            then. 0 is without such a bound: every model stays awake.
        registry: where models are loaded from at run time; None without.
        admin_token: what whoever loads and unloads models must show; nobody may without one.
        admin_token_file: from which whoever starts the node takes it.
        loaded: how models that are loaded at run time are served: each of them gets these workers, threads and device.
    """

    host: str
    port: int
    models: tuple[ModelConfig, ...]
    limits: Limits = Limits()
    lifeline: int = -1
    grpc_port: int | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    cors_origins: tuple[str, ...] = ()
    shared_memory: bool = False
    memory_bytes: int = 0
    registry: Registry | None = None
    admin_token: str = ""
    admin_token_file: Path | None = None
    loaded: LoadedTerms = LoadedTerms()

    def __post_init__(self) -> None:
        names = [model.bundle.name for model in self.models]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidConfiguration(f"two models are called {twice!r}; pack one under another name (--name)")
        if self.tls_key is not None and self.tls_certificate is None:
            raise InvalidConfiguration("a TLS key needs its certificate (--tls-cert)")
        check_origins(self.cors_origins)
        if not 0 <= self.port <= 65535:
            raise InvalidConfiguration(f"a port is 0 to 65535, got {self.port}")
        if not 0 <= (self.grpc_port or 0) <= 65535:
            raise InvalidConfiguration(f"a port is 0 to 65535, got {self.grpc_port} for gRPC")
