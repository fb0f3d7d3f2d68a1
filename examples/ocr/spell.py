"""After recognition: the most likely character of each narrow column becomes a text."""

from __future__ import annotations

import dataclasses

import numpy as np

import setpoint as sp

BLANK = 0


@dataclasses.dataclass
class Read:
    """A line's text, and how sure the network is of its characters on average: 0 to 1, 0 where there is none."""

    text: str
    score: float


class Spell(sp.Model):
    """Undoes CTC: the same character in neighbouring columns is one, and blanks divide."""

    alphabet = sp.file("alphabet.txt")

    def load(self, ctx: sp.Context) -> None:
        """Read the characters; the network counts them from 1, and the blank before them as 0."""
        self.characters = ["", *self.alphabet.read_text("utf-8").splitlines(), " "]

    @sp.endpoint(batch=256)
    def spell(self, ids: list[sp.Tensor[np.int64, None]], scores: list[sp.Tensor[np.float32, None]]) -> list[Read]:
        """The text of each line."""
        return [self.read(line, sure) for line, sure in zip(ids, scores, strict=True)]

    def read(self, ids: np.ndarray, scores: np.ndarray) -> Read:
        """One line."""
        new = np.append(True, ids[1:] != ids[:-1]) & (ids != BLANK)
        text = "".join(self.characters[one] for one in ids[new])
        return Read(text, float(scores[new].mean()) if new.any() else 0.0)
