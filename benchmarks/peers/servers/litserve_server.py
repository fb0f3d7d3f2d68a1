"""LitServe with batching: rows are stacked, run once and split again; JSON objects in and out."""

from __future__ import annotations

from typing import Any

import litserve
import numpy.typing as npt
from common import Config, Engine

CONFIG = Config.from_environment()


class Predict(litserve.LitAPI):  # type: ignore[misc]  # litserve ships no types
    def setup(self, device: str) -> None:
        self.engine = Engine(CONFIG)

    # LitServe builds its route from this method's annotations; without one it hands over the parsed JSON body.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> dict[str, npt.NDArray[Any]]:
        return self.engine.columns(inputs)

    def predict(self, x: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        return self.engine.run(x)

    def unbatch(self, output: list[npt.NDArray[Any]]) -> list[dict[str, Any]]:
        return self.engine.rows(output)

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return output


if __name__ == "__main__":
    api = Predict(max_batch_size=CONFIG.batch_rows, batch_timeout=CONFIG.window_ms / 1000)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=CONFIG.workers, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=CONFIG.port,
        log_level="warning",
        generate_client_file=False,
        loop="uvloop",
        http="httptools",
        access_log=False,
    )
