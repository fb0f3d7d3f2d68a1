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
    parser.add_argument("--limits", type=json.loads)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    registry = Registry.default()
    bundles = [registry.resolve(name) for name in options.models]
    models = tuple(ModelConfig(b, registry.folder(b), options.workers, options.threads) for b in bundles)
    config = NodeConfig("127.0.0.1", options.port, models, Limits(**options.limits))
    urls: list[str] = []
    try:
        return run_node(
            config,
            lambda host, port, grpc_port: urls.append(f"http://{host}:{port}"),
            lambda: print(json.dumps({"url": urls[0]}), flush=True),  # noqa: T201
        )
    except SetpointError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        return 1


sys.exit(main())
