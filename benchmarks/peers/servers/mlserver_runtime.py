"""An MLServer runtime that runs an ONNX file (MLServer ships none), decoding and encoding with its numpy codec.

Run as a script it writes MLServer's two settings files into the working directory and becomes `mlserver start`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from common import Config, Engine
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):  # type: ignore[misc]  # mlserver ships no types
    async def load(self) -> bool:
        self.engine = Engine(Config.from_environment())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        columns = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        outputs = self.engine.run(columns)
        named = zip(self.engine.output_names, outputs, strict=True)
        return InferenceResponse(
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, output) for name, output in named],
        )


def write_settings(config: Config, folder: Path) -> None:
    """Server and model settings as MLServer reads them from `folder`."""
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": config.port,
        "grpc_port": int(os.environ["PEER_PORT_2"]),
        "metrics_port": int(os.environ["PEER_PORT_3"]),
        "parallel_workers": config.workers,
        "gzip_enabled": False,
    }
    model = {
        "name": config.workload,
        "implementation": "mlserver_runtime.OnnxModel",
        "max_batch_size": config.batch_rows,
        "max_batch_time": config.window_ms / 1000,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))


if __name__ == "__main__":
    write_settings(Config.from_environment(), Path.cwd())
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.execv(sys.executable, [sys.executable, str(Path(sys.executable).parent / "mlserver"), "start", "."])
