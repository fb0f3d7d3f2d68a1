"""The maker's process: ``python -m setpoint.optimize.child`` reads one ``Order`` from stdin and answers on stdout."""

from __future__ import annotations

import os
import sys

import msgspec

from setpoint.core import SetpointError
from setpoint.formats import set_weights_apart
from setpoint.optimize.makers import Made, maker
from setpoint.optimize.making import Order, Product, Refused, decode_path, encode_path


def main() -> None:
    """Make one order. Whatever libraries print goes to stderr; stdout carries the answer alone."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the descriptor, not only sys.stdout: native libraries print too
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order, dec_hook=decode_path)
    sys.path.extend(path for path in order.import_paths if path not in sys.path)
    with answer:
        answer.write(msgspec.json.encode(_make(order), enc_hook=encode_path))


def _make(order: Order) -> Product | Refused:
    try:
        made = maker(order.maker).make(order.job)
        return Product(tuple(_finish(one, order) for one in made))
    except SetpointError as error:
        return Refused(error.message)
    except Exception as error:
        # Tools of many makers, on a graph that none of them may know: what they raise is the reason to be reported.
        summary = str(error).strip().partition("\n")[0]
        return Refused(f"{type(error).__name__}: {summary}"[:300])


def _finish(made: Made, order: Order) -> Made:
    """A file of the variant's own name, its weights beside it: so all workers of a node map the same bytes."""
    if made.artifact == order.job.model:
        return made
    artifact = made.artifact.rename(made.artifact.with_name(f"{made.name}{made.artifact.suffix}"))
    if artifact.suffix == ".onnx":
        set_weights_apart(artifact)
    return msgspec.structs.replace(made, artifact=artifact)


if __name__ == "__main__":
    main()
