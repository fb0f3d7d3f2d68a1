"""Model manifest: everything about a bundle but the bytes of its files.

A manifest holds no name, version or time: two packings of the same input give the same manifest, so the same digest.
Names and versions are the registry's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from setpoint.core.composition import Step
from setpoint.core.errors import InvalidConfiguration
from setpoint.core.profile import Profile
from setpoint.core.signature import Signature

SCHEMA_VERSION = 1
EMBED = "embed"
PARTS_FOLDER = "parts"
"""Of a composition's bundle: where the files of its models lie."""
TASKS = (EMBED,)
"""What an endpoint may declare that it does, so that routes other than its own can call it."""


class Variant(msgspec.Struct, frozen=True):
    """One runnable form of a bundle.

    Attributes:
        name: unique in the bundle; the form that was packed is called ``fp32`` or by its own precision.
        engine: which engine runs it: ``onnxruntime`` or ``python``.
        artifact: path in the bundle of the file the engine loads (``model.onnx``, ``model.py``).
        entry: what to take from the artifact: the class name for ``python``; empty otherwise.
        precision: of the weights, such as ``fp32`` or ``int8``.
        accuracy: what is left of the original's accuracy, 0 to 1: the lower end of the measured interval; 1 for the
            original itself.
    """

    name: str
    engine: str
    artifact: str
    entry: str = ""
    precision: str = "fp32"
    accuracy: float = 1.0


class Parameter(msgspec.Struct, frozen=True):
    """One argument of an endpoint, as JSON callers see it.

    Attributes:
        name: the key in the request's JSON object.
        schema: JSON Schema (draft 2020-12) of the value; of the whole list where the endpoint is batched.
        required: False when the argument has a default.
    """

    name: str
    schema: dict[str, Any]
    required: bool = True


class Endpoint(msgspec.Struct, frozen=True):
    """One thing a model can be asked to do, called at ``POST /models/NAME/ENDPOINT``.

    Attributes:
        name: last part of the route.
        parameters: what the JSON object holds.
        result: JSON Schema of the answer; of one event where it streams.
        batch_rows: 0 when each request runs alone; else every argument is a list with one element per row, rows of
            several requests run together, and at most this many rows run at once.
        streams: the answer is a sequence of server-sent events.
        body: ``json``; or ``bytes`` when the single argument may also be sent as the raw request body.
        signature: the endpoint as tensors, where tensors suffice; V2 clients can call it then.
        summary: one line for the documentation.
        task: what it does, where that is one of ``TASKS``; ``embed`` is reached through ``POST /v1/embeddings`` too.
        dimensions: of a task that embeds: the lengths that its vectors may be cut to and stay useful (Matryoshka).
    """

    name: str
    parameters: tuple[Parameter, ...]
    result: dict[str, Any]
    batch_rows: int = 0
    streams: bool = False
    body: str = "json"
    signature: Signature | None = None
    summary: str = ""
    task: str = ""
    dimensions: tuple[int, ...] = ()


class Lineage(msgspec.Struct, frozen=True):
    """Where a bundle came from.

    Attributes:
        format: which format recognised the source: ``onnx``, ``sklearn``, ``python``.
        source_digest: sha256 of the file or folder that was packed.
        tools: versions of what converted it, such as ``{"skl2onnx": "1.20.0"}``.
        checks: what was compared and how close it came, in words.
    """

    format: str
    source_digest: str
    tools: dict[str, str] = {}
    checks: tuple[str, ...] = ()


class Composition(msgspec.Struct, frozen=True):
    """Several models as one.

    Attributes:
        steps: each after those that it needs.
        outputs: references, in the order of the signature's outputs.
        parts: the models by name; the files of each lie in the bundle below ``parts/NAME``.
    """

    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    parts: dict[str, ModelManifest]


class ModelManifest(msgspec.Struct, frozen=True):
    """A bundle's description; stored as ``setpoint.json`` beside its files.

    Attributes:
        endpoints: what can be asked; the first one with a signature is the one V2 clients reach.
        variants: runnable forms, the most accurate first.
        lineage: where it came from.
        schemas: JSON Schema definitions that endpoints refer to as ``#/components/schemas/NAME``.
        profiles: what was measured of its variants, on one or several kinds of hardware.
        schema_version: of this record.
        composition: the graph of a bundle of several models; unset for all others, whose text does not mention it.
        labels: names of the classes of an output, by index; empty for a class without one. Unset where none are known.
    """

    endpoints: tuple[Endpoint, ...]
    variants: tuple[Variant, ...]
    lineage: Lineage
    schemas: dict[str, Any] = {}
    profiles: tuple[Profile, ...] = ()
    schema_version: int = SCHEMA_VERSION
    composition: Composition | msgspec.UnsetType = msgspec.UNSET
    labels: dict[str, tuple[str, ...]] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if not self.variants or not self.endpoints:
            raise InvalidConfiguration("a manifest needs at least one variant and one endpoint")

    @property
    def signature(self) -> Signature | None:
        """The signature V2 clients see, or None when no endpoint can be said in tensors."""
        endpoint = self.tensor_endpoint
        return endpoint.signature if endpoint else None

    @property
    def tensor_endpoint(self) -> Endpoint | None:
        """The endpoint that V2 inference calls."""
        return next((endpoint for endpoint in self.endpoints if endpoint.signature is not None), None)

    @property
    def labels_by_output(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of outputs, by index; an output whose classes are not named is not there."""
        return {} if isinstance(self.labels, msgspec.UnsetType) else self.labels

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of that name, or None."""
        return next((endpoint for endpoint in self.endpoints if endpoint.name == name), None)

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            InvalidConfiguration: there is none; the message names those that are there.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        names = ", ".join(variant.name for variant in self.variants)
        raise InvalidConfiguration(f"the bundle has no variant {name!r}; it has {names}")

    def to_json(self) -> bytes:
        """Canonical JSON: equal manifests give equal bytes."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_json(cls, text: bytes) -> ModelManifest:
        """Read ``to_json``'s bytes.

        Raises:
            InvalidConfiguration: not a manifest, or of a later schema version.
        """
        try:
            manifest = msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise InvalidConfiguration(f"not a Setpoint manifest: {error}") from error
        if manifest.schema_version != SCHEMA_VERSION:
            raise InvalidConfiguration(
                f"manifest has schema version {manifest.schema_version}, this Setpoint reads {SCHEMA_VERSION}"
            )
        return manifest
