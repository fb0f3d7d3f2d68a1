"""Sentence embeddings as a Setpoint model: text in, vectors of length 1 out. OpenAI clients call it as it is.

Vectors of sentences with a like meaning point in a like direction: their dot product tells how like.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

import setpoint as sp

MOST_TOKENS = 256  # all-MiniLM-L6-v2 was trained on no more; what comes after is cut off, as in the reference


@dataclasses.dataclass
class Embedded:
    """A vector, and how many tokens it was made of."""

    embedding: sp.Tensor[np.float32, 384]
    tokens: int


class Embedder(sp.Model):
    """all-MiniLM-L6-v2."""

    encoder = sp.uses("encoder.onnx")
    vocabulary = sp.file("tokenizer.json")

    def load(self, ctx: sp.Context) -> None:
        """Read the vocabulary; the engine has loaded the encoder already."""
        self.tokenizer = Tokenizer.from_file(str(self.vocabulary))
        self.tokenizer.enable_truncation(MOST_TOKENS)
        self.tokenizer.no_padding()  # not to the fixed 128 that the file asks for: ``vectors`` pads to the longest
        self.known_ids = self.tokenizer.get_vocab_size()
        self.first, self.last = (self.tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]"))

    @sp.endpoint(batch=64)
    def embed(self, texts: list[str]) -> list[sp.Tensor[np.float32, 384]]:
        """One vector for each text."""
        return list(self.vectors([text.ids for text in self.tokenizer.encode_batch(texts)]))

    @sp.endpoint(batch=64, task="embed")
    def embeddings(self, texts: list[str | list[int]]) -> list[Embedded]:
        """One vector for each text, or list of token ids, with its number of tokens: what /v1/embeddings calls."""
        ids = [self.tokenizer.encode(text).ids if isinstance(text, str) else self.marked(text) for text in texts]
        return [Embedded(vector, len(tokens)) for vector, tokens in zip(self.vectors(ids), ids, strict=True)]

    def marked(self, ids: list[int]) -> list[int]:
        """Token ids that a client made, cut and marked as the tokenizer does with its own."""
        if max(ids, default=0) >= self.known_ids:
            raise sp.InvalidInput(f"token id {max(ids)} is beyond this model's {self.known_ids}; send the text instead")
        return [self.first, *ids[: MOST_TOKENS - 2], self.last]

    def vectors(self, ids: list[list[int]]) -> npt.NDArray[np.float32]:
        """float32 [texts, 384] of lists of token ids."""
        longest = max(map(len, ids))
        padded = np.zeros((len(ids), longest), np.int64)
        mask = np.zeros_like(padded)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return self.encoder(input_ids=padded, attention_mask=mask)["embedding"]
