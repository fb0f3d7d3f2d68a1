"""The MiniLM example's ONNX graph computes BERT: compared with BERT in plain numpy, on small random weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import build_encoder as example
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from build_encoder import build_encoder, read_safetensors

VOCABULARY, POSITIONS, WIDE = 50, 40, 96
Weights = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def weights() -> Weights:
    random = np.random.default_rng(7)

    def normal(*shape: int, mean: float = 0.0) -> npt.NDArray[np.float32]:
        return random.normal(mean, 0.1, shape).astype(np.float32)

    hidden = example.HIDDEN
    made: Weights = {
        "embeddings.word_embeddings.weight": normal(VOCABULARY, hidden),
        "embeddings.position_embeddings.weight": normal(POSITIONS, hidden),
        "embeddings.token_type_embeddings.weight": normal(2, hidden),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{index}" for index in range(example.LAYERS)):
        linears = {f"attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        linears |= {
            "attention.output.dense": (hidden, hidden),
            "intermediate.dense": (WIDE, hidden),
            "output.dense": (hidden, WIDE),
        }
        for name, (rows, columns) in linears.items():
            made[f"{layer}.{name}.weight"] = normal(rows, columns)
            made[f"{layer}.{name}.bias"] = normal(rows)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name in norms:
        made |= {f"{name}.weight": normal(hidden, mean=1.0), f"{name}.bias": normal(hidden)}
    return made


@pytest.fixture(scope="module")
def weights_file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    # The real file has an int64 tensor as well, which the network does not need.
    for name, tensor in {"embeddings.position_ids": np.arange(4, dtype=np.int64), **weights}.items():
        kind = "F32" if tensor.dtype == np.float32 else "I64"
        end = len(data) + tensor.nbytes
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [len(data), end]}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.fixture(scope="module")
def encoder(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> ort.InferenceSession:
    path = tmp_path_factory.mktemp("encoder") / "encoder.onnx"
    build_encoder(weights_file, path)
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def bert(weights: Weights, ids: list[int]) -> npt.NDArray[np.float64]:
    """One sentence without padding, one head after the other, in float64."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}

    def linear(x: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
        centred = x - x.mean(axis=1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{index}" for index in range(example.LAYERS)):
        query, key, value = (linear(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
        mixed = np.empty_like(x)
        for head in range(12):
            part = slice(head * 32, head * 32 + 32)
            scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(32))
            mixed[:, part] = scores / scores.sum(axis=1, keepdims=True) @ value[:, part]
        x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        wide = linear(x, f"{layer}.intermediate.dense")
        gelu = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + linear(gelu, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(axis=0)
    vector: npt.NDArray[np.float64] = mean / np.linalg.norm(mean)
    return vector


def test_a_padded_batch_gives_each_sentence_the_vector_that_bert_gives_it_alone(
    encoder: ort.InferenceSession, weights: Weights
) -> None:
    sentences = [[3, 1, 4, 1, 5, 9, 2, 6], [27, 18], [49]]
    longest = max(map(len, sentences))
    ids = np.array([sentence + [0] * (longest - len(sentence)) for sentence in sentences])
    mask = np.array([[1] * len(sentence) + [0] * (longest - len(sentence)) for sentence in sentences])
    (vectors,) = encoder.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [bert(weights, sentence) for sentence in sentences], atol=2e-6)


def test_a_row_without_any_token_gives_zeros_not_nan(encoder: ort.InferenceSession) -> None:
    ids = np.array([[1, 2]])
    (vectors,) = encoder.run(["embedding"], {"input_ids": ids, "attention_mask": np.zeros_like(ids)})
    assert not vectors.any()


def test_batch_and_length_are_free_and_the_vector_has_384_numbers(encoder: ort.InferenceSession) -> None:
    assert {spec.name: spec.shape for spec in encoder.get_inputs()} == {
        "input_ids": ["batch", "seq"],
        "attention_mask": ["batch", "seq"],
    }
    assert [(spec.name, spec.shape) for spec in encoder.get_outputs()] == [("embedding", ["batch", 384])]


def test_the_same_weights_give_the_same_bytes(weights_file: Path, tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        build_encoder(weights_file, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_the_float_tensors_of_a_safetensors_file_are_read(weights: Weights, weights_file: Path) -> None:
    read = read_safetensors(weights_file)
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        np.testing.assert_array_equal(read[name], tensor)
