"""mosec: its Rust front end batches by rows and time, Python workers run the batch.

PEER_JSON=orjson replaces the standard library's JSON by orjson, as its documentation invites one to do.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import orjson
from common import Config, Engine
from mosec import Server, Worker

CONFIG = Config.from_environment()


class Predict(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(CONFIG)

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.engine.rows(self.engine.run(self.engine.columns(data)))


class PredictWithOrjson(Predict):
    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data)


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", str(CONFIG.port), "--timeout", "30000", "--log-level", "warning"]
    server = Server()
    server.append_worker(
        PredictWithOrjson if os.environ.get("PEER_JSON") == "orjson" else Predict,
        num=CONFIG.workers,
        max_batch_size=CONFIG.batch_rows,
        max_wait_time=int(CONFIG.window_ms),
    )
    server.run()
