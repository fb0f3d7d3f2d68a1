"""What a team writes by itself: FastAPI, pydantic models in and out, onnxruntime called in the handler, two workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import uvicorn
from common import Config, Engine
from fastapi import FastAPI
from pydantic import BaseModel

CONFIG = Config.from_environment()
app = FastAPI(openapi_url=None)


class IrisRow(BaseModel):
    features: list[float]


class IrisAnswer(BaseModel):
    label: int
    probabilities: list[float]


class Tokens(BaseModel):
    input_ids: list[int]
    attention_mask: list[int]


class Embedding(BaseModel):
    embedding: list[float]


class Image(BaseModel):
    image: list[list[list[float]]]


class Logits(BaseModel):
    logits: list[float]


def answer(engine: Engine, row: BaseModel) -> dict[str, Any]:
    return engine.rows(engine.run(engine.columns([row.__dict__])))[0]


if __name__ != "__main__":  # the parent of the worker processes needs no model
    engine = Engine(CONFIG)

    if CONFIG.workload == "iris":
        # 10 µs of work: a hop to the thread pool would cost more than the model.
        @app.post("/predict")
        async def predict(row: IrisRow) -> IrisAnswer:
            return IrisAnswer(**answer(engine, row))
    elif CONFIG.workload == "digits":

        @app.post("/predict")
        def classify(row: Image) -> Logits:
            return Logits(**answer(engine, row))
    else:
        # Milliseconds of work: FastAPI's advice is a plain `def`, which runs in the thread pool.
        @app.post("/predict")
        def embed(row: Tokens) -> Embedding:
            return Embedding(**answer(engine, row))


if __name__ == "__main__":
    uvicorn.run(
        "fastapi_server:app",
        app_dir=str(Path(__file__).parent),
        host="127.0.0.1",
        port=CONFIG.port,
        workers=CONFIG.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
