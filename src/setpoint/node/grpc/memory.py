"""System shared memory's calls: status, register, unregister."""

from __future__ import annotations

from collections.abc import Callable

from setpoint.node.shared_memory import Regions
from setpoint.wire import grpc as wire


def memory_calls(regions: Regions) -> dict[str, Callable[[bytes], bytes]]:
    """By method name of ``GRPCInferenceService``."""

    def status(body: bytes) -> bytes:
        asked = wire.parse("inference.SystemSharedMemoryStatusRequest", body)
        answer = wire.message_class("inference.SystemSharedMemoryStatusResponse")()
        for found in regions.status(asked.name):
            region = answer.regions[found.name]
            region.name, region.key, region.offset, region.byte_size = (
                found.name,
                found.key,
                found.offset,
                found.byte_size,
            )
        encoded: bytes = answer.SerializeToString()
        return encoded

    def register(body: bytes) -> bytes:
        asked = wire.parse("inference.SystemSharedMemoryRegisterRequest", body)
        regions.register(asked.name, asked.key, asked.offset, asked.byte_size)
        return b""

    def unregister(body: bytes) -> bytes:
        asked = wire.parse("inference.SystemSharedMemoryUnregisterRequest", body)
        regions.unregister(asked.name)
        return b""

    return {
        "SystemSharedMemoryStatus": status,
        "SystemSharedMemoryRegister": register,
        "SystemSharedMemoryUnregister": unregister,
    }
