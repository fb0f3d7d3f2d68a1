"""Sentence embeddings as a Setpoint model: text in, vectors of length 1 out.

Vectors of sentences with a like meaning point in a like direction: their dot product tells how like.
"""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer

import setpoint as sp

MOST_TOKENS = 256  # all-MiniLM-L6-v2 was trained on no more; what comes after is cut off, as in the reference


class Embedder(sp.Model):
    """all-MiniLM-L6-v2."""

    encoder = sp.uses("encoder.onnx")
    vocabulary = sp.file("tokenizer.json")

    def load(self, ctx: sp.Context) -> None:
        """Read the vocabulary; the engine has loaded the encoder already."""
        self.tokenizer = Tokenizer.from_file(str(self.vocabulary))
        self.tokenizer.enable_truncation(MOST_TOKENS)
        self.tokenizer.enable_padding()  # to the longest of the batch, not to the fixed 128 that the file asks for

    @sp.endpoint(batch=64)
    def embed(self, texts: list[str]) -> list[sp.Tensor[np.float32, 384]]:
        """One vector for each text."""
        encoded = self.tokenizer.encode_batch(texts)
        answer = self.encoder(
            input_ids=np.array([text.ids for text in encoded], np.int64),
            attention_mask=np.array([text.attention_mask for text in encoded], np.int64),
        )
        return list(answer["embedding"])
