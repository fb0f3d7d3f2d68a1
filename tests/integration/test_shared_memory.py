"""System shared memory: tensors that lie where client and node both reach them, over REST and gRPC."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from harness import RunningNode
from test_grpc import Client, failed, twice

from setpoint.wire.grpc import message_class

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
SIZE_BYTES = ROWS.nbytes
OPTIONS = ("--grpc-port=0", "--shared-memory")
OUTSIDE = ((4096, 32), (4080, 32), (-1, 32), (2**62, 32), (0, 31), (0, -32))
"""Offset and bytes: not within a region of 4096 bytes, or not as many as the tensor has."""


class Rest:
    """Register and ask by REST; every refusal is what the node said."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._node.ask(method, path, body)
        if answer.status != 200:
            assert 400 <= answer.status < 500, answer.body
            raise Refused(answer.error)
        return json.loads(answer.body) if answer.body else None

    def register(self, name: str, key: str, byte_size: int, offset: int = 0) -> None:
        self._ask(
            "POST",
            f"/v2/systemsharedmemory/region/{name}/register",
            {"key": key, "offset": offset, "byte_size": byte_size},
        )

    def unregister(self, name: str = "") -> None:
        self._ask("POST", f"/v2/systemsharedmemory{f'/region/{name}' if name else ''}/unregister")

    def status(self, name: str = "") -> dict[str, dict[str, Any]]:
        found = self._ask("GET", f"/v2/systemsharedmemory{f'/region/{name}' if name else ''}/status")
        return {region["name"]: region for region in found}

    def infer(self, source: dict[str, Any], target: dict[str, Any] | None, rows: int = 2) -> dict[str, Any]:
        request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 4], "parameters": source}]}
        request["outputs"] = [{"name": "y", "parameters": target or {}}]
        (output,) = self._ask("POST", "/v2/models/model/infer", request)["outputs"]
        return output


class Grpc:
    """The same by gRPC."""

    def __init__(self, node: RunningNode) -> None:
        self._client = Client(node.announced["grpc"])

    def _call(self, name: str, /, **fields: Any) -> Any:
        try:
            return self._client.call(name, **fields)
        except grpc.RpcError as error:
            code, words = failed(error)
            assert code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE), words
            raise Refused(words) from None

    def register(self, name: str, key: str, byte_size: int, offset: int = 0) -> None:
        self._call("SystemSharedMemoryRegister", name=name, key=key, byte_size=byte_size, offset=offset)

    def unregister(self, name: str = "") -> None:
        self._call("SystemSharedMemoryUnregister", name=name)

    def status(self, name: str = "") -> dict[str, dict[str, Any]]:
        regions = self._call("SystemSharedMemoryStatus", name=name).regions
        return {
            region: {"name": found.name, "key": found.key, "offset": found.offset, "byte_size": found.byte_size}
            for region, found in regions.items()
        }

    def infer(self, source: dict[str, Any], target: dict[str, Any] | None, rows: int = 2) -> dict[str, Any]:
        message = message_class("inference.ModelInferRequest")(model_name="model")
        tensor = message.inputs.add(name="x", datatype="FP32", shape=(rows, 4))
        output = message.outputs.add(name="y")
        for holder, said in ((tensor, source), (output, target or {})):
            for name, value in said.items():
                setattr(holder.parameters[name], "string_param" if isinstance(value, str) else "int64_param", value)
        try:
            answer = self._client.method("ModelInfer")(message, timeout=20)
        except grpc.RpcError as error:
            raise Refused(failed(error)[1]) from None
        (found,) = answer.outputs
        values = {name: value.string_param or value.int64_param for name, value in found.parameters.items()}
        data = np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()
        return {"shape": list(found.shape), "parameters": values, "data": data}


class Refused(Exception):
    """The node's words."""


@pytest.fixture(params=[Rest, Grpc], ids=["rest", "grpc"])
def client(request, pack, serve) -> Any:
    return request.param(serve(pack(twice()), options=OPTIONS))


@pytest.fixture
def memory() -> Iterator[Callable[[int], shared_memory.SharedMemory]]:
    made: list[shared_memory.SharedMemory] = []

    def make(size_bytes: int) -> shared_memory.SharedMemory:
        made.append(shared_memory.SharedMemory(f"setpoint-test-{uuid.uuid4().hex}", create=True, size=size_bytes))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.unlink()


def part(region: str, size_bytes: int = SIZE_BYTES, offset: int = 0) -> dict[str, Any]:
    said: dict[str, Any] = {"shared_memory_region": region, "shared_memory_byte_size": size_bytes}
    return {**said, "shared_memory_offset": offset} if offset else said


def test_inputs_and_outputs_lie_in_shared_memory(client, memory):
    source, target = memory(4096), memory(4096)
    source.buf[64 : 64 + SIZE_BYTES] = ROWS.tobytes()
    client.register("in", f"/{source.name}", 4000, offset=32)
    client.register("out", target.name, 4096)
    assert client.status() == {
        "in": {"name": "in", "key": f"/{source.name}", "offset": 32, "byte_size": 4000},
        "out": {"name": "out", "key": target.name, "offset": 0, "byte_size": 4096},
    }
    output = client.infer(part("in", offset=32), part("out", 2048, offset=128))
    assert output["shape"] == [2, 4]
    assert not output.get("data")
    if isinstance(client, Grpc):
        assert output["parameters"]["shared_memory_region"] == "out"
        assert output["parameters"]["shared_memory_byte_size"] == SIZE_BYTES
    else:
        assert output.keys() == {"name", "datatype", "shape"}, "Triton's C++ client would stumble over parameters"
    assert target.buf[128 : 128 + SIZE_BYTES] == (ROWS * 2).tobytes()
    assert bytes(target.buf[:128]) == bytes(128)
    assert client.infer(part("in", offset=32), None)["data"] == (ROWS * 2).reshape(-1).tolist()
    client.unregister("in")
    client.unregister("in")
    assert client.status().keys() == {"out"}
    client.unregister()
    assert client.status() == {}
    with pytest.raises(Refused, match="no shared memory region is called 'in'"):
        client.status("in")


def test_nothing_outside_a_region_is_read(client, memory):
    client.register("in", memory(8192).name, 4096)
    for offset, size_bytes in (*OUTSIDE, (0, 2**62), (0, 33)):
        with pytest.raises(Refused):
            client.infer(part("in", size_bytes, offset), None)
    assert len(client.infer(part("in"), None)["data"]) == 8


def test_nothing_outside_a_region_is_written(client, memory):
    shared = memory(8192)
    client.register("both", shared.name, 4096)
    for offset, size_bytes in OUTSIDE:
        with pytest.raises(Refused):
            client.infer(part("both"), part("both", size_bytes, offset))
    assert bytes(shared.buf) == bytes(8192)


def test_a_region_that_shrinks_is_an_answer_and_not_the_end_of_the_node(client, memory):
    source, target = memory(65536), memory(65536)
    client.register("in", source.name, 65536)
    client.register("out", target.name, 65536)
    os.truncate(f"/dev/shm/{source.name}", 4096)
    with pytest.raises(Refused, match="has become smaller"):
        client.infer(part("in", offset=60000), None)
    assert len(client.infer(part("in"), None)["data"]) == 8, "what is left can be read"
    os.truncate(f"/dev/shm/{target.name}", 0)
    with pytest.raises(Refused, match="has become smaller"):
        client.infer(part("in"), part("out"))
    assert Path(f"/dev/shm/{target.name}").stat().st_size == 0
    os.truncate(f"/dev/shm/{source.name}", 65536)
    os.truncate(f"/dev/shm/{target.name}", 65536)
    client.infer(part("in"), part("out"))


def test_a_key_names_a_shared_memory_object_and_no_other_file(client):
    for key in (
        "",
        "/",
        "..",
        "/..",
        "../../etc/passwd",
        "/../../etc/passwd",
        "a/b",
        "nothing-here",
        "x" * 300,
        "a\0b",
    ):
        with pytest.raises(Refused):
            client.register("in", key, 16)
    assert client.status() == {}


def test_what_is_no_memory_is_not_opened(client, tmp_path):
    name = f"setpoint-test-{uuid.uuid4().hex}"
    path = Path("/dev/shm") / name
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    for make in (lambda: os.mkfifo(path), lambda: path.symlink_to(secret), path.mkdir):
        make()
        try:
            with pytest.raises(Refused):
                client.register("in", name, 16)
        finally:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_registrations_are_judged(client, memory):
    shared = memory(4096)
    client.register("in", shared.name, 4096)
    with pytest.raises(Refused, match="registered already"):
        client.register("in", shared.name, 16)
    for name, size_bytes, offset in (("a", 8192, 0), ("a", 4096, 1), ("a", 0, 0), ("a" * 300, 16, 0)):
        with pytest.raises(Refused):
            client.register(name, shared.name, size_bytes, offset)
    for number in range(255):
        client.register(f"r{number}", shared.name, 4096)
    with pytest.raises(Refused, match="limit"):
        client.register("one-more", shared.name, 4096)
    client.unregister()
    client.register("in", shared.name, 4096)


def test_a_registration_that_cannot_be_read_is_a_bad_request(pack, serve):
    node = serve(pack(twice()), options=OPTIONS)
    for body in (b"[", b'{"key": 1}', b'{"more":' + b"[" * 100_000, b'{"key":"\xff"}'):
        answer = node.ask("POST", "/v2/systemsharedmemory/region/in/register", body)
        assert answer.status == 400
        assert answer.error.startswith("not a registration of shared memory")


@pytest.mark.parametrize("kind", [Rest, Grpc], ids=["rest", "grpc"])
def test_it_is_off_unless_asked_for(pack, serve, memory, kind):
    node = serve(pack(twice()), options=("--grpc-port=0",))
    client = kind(node)
    for call in (
        lambda: client.register("in", memory(64).name, 64),
        client.status,
        client.unregister,
        lambda: client.infer(part("in"), None),
        lambda: client.infer(part("in"), part("in")),
    ):
        with pytest.raises(Refused, match="--shared-memory"):
            call()
    assert "system_shared_memory" not in node.ask("GET", "/v2").json["extensions"]


def test_a_node_that_shares_memory_says_so(pack, serve):
    node = serve(pack(twice()), options=OPTIONS)
    assert "system_shared_memory" in node.ask("GET", "/v2").json["extensions"]
    assert "system_shared_memory" in Client(node.announced["grpc"]).call("ServerMetadata").extensions
