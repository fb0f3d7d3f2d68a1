"""Models that come and go over gRPC, for whoever holds the admin token."""

import grpc
import numpy as np
import pytest
from harness import until
from test_grpc import GRPC, ROW, SERVICE, Client, failed, twice

from setpoint.wire.grpc import message_class

TOKEN = "correct-horse-battery"
SHOWN = [("authorization", f"Bearer {TOKEN}")]


SLOW = """
import time
import setpoint as sp

class Slow(sp.Model):
    def load(self, ctx: sp.Context) -> None:
        time.sleep(1.5)

    @sp.endpoint
    def one(self) -> int:
        return 1
"""


@pytest.fixture
def client(pack, serve, monkeypatch):
    monkeypatch.setenv("SETPOINT_ADMIN_TOKEN", TOKEN)
    pack(twice(), "other")
    node = serve(pack(twice()), options=GRPC)
    opened = Client(node.announced["grpc"])
    yield opened
    opened.channel.close()


def index(client: Client, **fields: bool) -> dict[str, str]:
    answer = client.call("RepositoryIndex", metadata=SHOWN, **fields)
    return {model.name: model.state for model in answer.models}


def changing(client: Client, verb: str, name: str, metadata=SHOWN, field: str = "model_name") -> grpc.Future:
    request = message_class(f"inference.RepositoryModel{verb}Request")(**{field: name})
    return client.channel.unary_unary(
        f"/{SERVICE}/RepositoryModel{verb}", lambda message: message.SerializeToString(), lambda answer: answer
    ).future(request, timeout=60, metadata=metadata)


def change(client: Client, verb: str, name: str, metadata=SHOWN, field: str = "model_name") -> None:
    changing(client, verb, name, metadata, field).result()


@pytest.mark.parametrize("field", ["model_name", "repository_name"], ids=["triton", "kserve"])
def test_a_model_is_loaded_asked_and_unloaded(client, field):
    assert index(client) == {"model": "READY", "other": "UNAVAILABLE"}
    assert index(client, ready=True) == {"model": "READY"}
    change(client, "Load", "other", field=field)
    assert index(client, ready=True) == {"model": "READY", "other": "READY"}
    np.testing.assert_array_equal(client.infer("other", ROW), ROW * 2)
    change(client, "Unload", "other", field=field)
    with pytest.raises(grpc.RpcError) as error:
        client.infer("other", ROW)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_client_that_leaves_does_not_leave_a_model_half_loaded(client, pack):
    pack(SLOW, "slow")
    loading = changing(client, "Load", "slow")
    until(lambda: index(client)["slow"] == "LOADING")
    loading.cancel()
    until(lambda: index(client)["slow"] == "READY", what="it was loaded to its end")


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ([], grpc.StatusCode.UNAUTHENTICATED),
        ([("authorization", "Basic eDp5")], grpc.StatusCode.UNAUTHENTICATED),
        ([("authorization", "Bearer guess")], grpc.StatusCode.PERMISSION_DENIED),
    ],
    ids=["none", "another scheme", "a guess"],
)
def test_only_the_token_opens_the_repository(client, metadata, code):
    for verb in ("Load", "Unload"):
        with pytest.raises(grpc.RpcError) as error:
            change(client, verb, "model", metadata)
        assert error.value.code() is code
    with pytest.raises(grpc.RpcError) as error:
        client.call("RepositoryIndex", metadata=metadata)
    assert error.value.code() is code


def test_mistakes_are_told_apart(client):
    with pytest.raises(grpc.RpcError) as error:
        change(client, "Load", "nothing")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as error:
        change(client, "Load", "")
    assert failed(error.value) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "model_name is empty; name a model of the registry",
    )


def test_without_a_token_nobody_may(pack, serve):
    client = Client(serve(pack(twice()), options=GRPC).announced["grpc"])
    with pytest.raises(grpc.RpcError) as error:
        change(client, "Unload", "model")
    code, words = failed(error.value)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "SETPOINT_ADMIN_TOKEN" in words
    client.channel.close()
