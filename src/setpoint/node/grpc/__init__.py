"""gRPC with an asyncio server, on the node's event loop; imported only where a node listens for it."""

from setpoint.node.grpc.server import GrpcServer

__all__ = ["GrpcServer"]
