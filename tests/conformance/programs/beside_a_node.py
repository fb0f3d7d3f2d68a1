"""A process that embeds a node with gRPC and imports others' ``inference`` messages: ``beside_a_node.py MODULE``.

The node's server is made and asked in this process, with the other's messages imported before and after it.
"""

import asyncio
import importlib
import sys

import grpc.aio

from setpoint.core import Limits
from setpoint.node.grpc import GrpcServer
from setpoint.node.shared_memory import Regions


class Nothing:
    services = ()

    def published(self, name):
        return None


async def main(module: str) -> None:
    server = GrpcServer(Nothing(), lambda: True, Limits(), "", Regions(False, 0), repr)
    port = await server.listen("127.0.0.1", 0)
    messages = importlib.import_module(module)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ready = channel.unary_unary(
            "/inference.GRPCInferenceService/ServerReady",
            messages.ServerReadyRequest.SerializeToString,
            messages.ServerReadyResponse.FromString,
        )
        assert (await ready(messages.ServerReadyRequest())).ready
    await server.close()


asyncio.run(main(sys.argv[1]))
