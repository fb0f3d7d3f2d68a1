"""BentoML with adaptive batching, one service per workload; started by `bentoml serve`.

A batchable endpoint takes exactly one parameter, a batch, so a single row travels as a batch of one.
"""

from __future__ import annotations

from typing import Annotated, Any

import bentoml
import numpy as np
import numpy.typing as npt
from bentoml.validators import DType, Shape
from common import Config, Engine
from pydantic import BaseModel

CONFIG = Config.from_environment()
Features = Annotated[np.ndarray, Shape((-1, 4)), DType("float32")]
Images = Annotated[np.ndarray, Shape((-1, 1, 8, 8)), DType("float32")]
BATCHING: dict[str, Any] = {
    "batchable": True,
    "max_batch_size": CONFIG.batch_rows,
    "max_latency_ms": CONFIG.latency_ms,  # its own default is a minute
}
SERVICE: dict[str, Any] = {
    "workers": CONFIG.workers,
    "traffic": {"timeout": 60},
    "logging": {"access": {"enabled": False}},
}


class Tokens(BaseModel):
    input_ids: list[int]
    attention_mask: list[int]


@bentoml.service(**SERVICE)
class Iris:
    def __init__(self) -> None:
        self.engine = Engine(CONFIG)

    @bentoml.api(**BATCHING)
    def predict(self, rows: Features) -> list[dict[str, Any]]:
        return self.engine.rows(self.engine.run({"features": rows}))


@bentoml.service(**SERVICE)
class Minilm:
    def __init__(self) -> None:
        self.engine = Engine(CONFIG)

    @bentoml.api(**BATCHING)
    def predict(self, rows: list[Tokens]) -> npt.NDArray[Any]:
        return self.engine.run(self.engine.columns([row.__dict__ for row in rows]))[0]


@bentoml.service(**SERVICE)
class Digits:
    def __init__(self) -> None:
        self.engine = Engine(CONFIG)

    @bentoml.api(**BATCHING)
    def predict(self, rows: Images) -> npt.NDArray[Any]:
        return self.engine.run({"image": rows})[0]
