"""tritonclient and its shared memory, unmodified: ``triton_shared_memory.py http|grpc HOST:PORT``."""

import importlib
import json
import sys
import uuid

import numpy as np
import tritonclient.utils.shared_memory as shm
from triton_parts import ROWS
from tritonclient.utils import InferenceServerException

PROTOCOL, TARGET = sys.argv[1:3]
triton = importlib.import_module(f"tritonclient.{PROTOCOL}")
KEY = f"/setpoint-test-{uuid.uuid4().hex}"

with triton.InferenceServerClient(TARGET) as client:
    client.unregister_system_shared_memory()
    handle = shm.create_shared_memory_region("both", KEY, 4096)
    try:
        shm.set_shared_memory_region(handle, [ROWS], offset=64)
        client.register_system_shared_memory("both", KEY, 4096)
        found = client.get_system_shared_memory_status()
        regions = [found.regions["both"].byte_size] if PROTOCOL == "grpc" else [each["byte_size"] for each in found]
        assert regions == [4096]
        source = triton.InferInput("x", [2, 4], "FP32")
        source.set_shared_memory("both", ROWS.nbytes, offset=64)
        doubled = triton.InferRequestedOutput("y")
        doubled.set_shared_memory("both", 512, offset=1024)
        answer = client.infer("twice", [source], outputs=[doubled, triton.InferRequestedOutput("z")])
        written = shm.get_contents_as_numpy(handle, np.float32, [2, 4], offset=1024).tolist()
        np.testing.assert_array_equal(answer.as_numpy("z"), -ROWS)
        client.unregister_system_shared_memory("both")
        try:
            client.infer("twice", [source])
        except InferenceServerException as error:
            refusal = error
        assert "no shared memory region is called 'both'" in refusal.message()
    finally:
        shm.destroy_shared_memory_region(handle)
print(json.dumps(written))  # noqa: T201 - what the node wrote into the region is the test's to judge
