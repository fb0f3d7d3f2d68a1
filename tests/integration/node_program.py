"""``setpoint serve --json`` for tests that need limits which the command has no option for."""

import argparse
import json
import logging
import sys

from setpoint.core import Limits, SetpointError
from setpoint.node import ModelConfig, NodeConfig, run_node
from setpoint.registry import Registry


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--port", type=int)
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--limits", type=json.loads)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    registry = Registry.default()
    bundles = [registry.resolve(name) for name in options.models]
    models = tuple(ModelConfig(b, registry.folder(b), options.workers, options.threads) for b in bundles)
    config = NodeConfig("127.0.0.1", options.port, models, Limits(**options.limits), grpc_port=options.grpc_port)
    listening: dict[str, str] = {}

    def on_listening(host: str, port: int, grpc_port: int) -> None:
        listening.update(url=f"http://{host}:{port}", grpc=f"{host}:{grpc_port}")

    try:
        return run_node(config, on_listening, lambda: print(json.dumps(listening), flush=True))  # noqa: T201
    except SetpointError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        return 1


sys.exit(main())
