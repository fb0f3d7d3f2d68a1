"""Magika as a Setpoint model: bytes in, what kind of file they are out.

The network answers only 2,048 tokens with 214 scores. What makes it useful is around it: which bytes it looks at, which
files need no network at all, and when its answer is too weak to give. Those rules are plain Python, here.

    setpoint serve build/magika/identify.py      # demo.py makes that folder: this file, model.onnx and two JSON files
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

import setpoint as sp


class Answer(msgspec.Struct, frozen=True):
    """What a file is. `score` is the network's confidence, 0 to 1; 1 where a rule decided without the network."""

    label: str
    description: str
    group: str
    mime_type: str
    is_text: bool
    score: float


class Settings(msgspec.Struct, frozen=True):
    """The part of the network's `config.min.json` that is used here; sizes in bytes."""

    beg_size: int
    mid_size: int
    end_size: int
    block_size: int
    padding_token: int
    min_file_size_for_dl: int
    use_inputs_at_offsets: bool
    medium_confidence_threshold: float
    target_labels_space: list[str]
    thresholds: dict[str, float]
    overwrite_map: dict[str, str]


class ContentType(msgspec.Struct, frozen=True):
    """One entry of `content_types_kb.min.json`."""

    is_text: bool
    mime_type: str | None = None
    group: str | None = None
    description: str | None = None


def label_without_network(content: bytes, settings: Settings) -> str | None:
    """The label of a file that is empty or too short to judge; None when the network must look at it."""
    if not content:
        return "empty"
    block = content[: settings.block_size]
    # Leading white space is not looked at, so a long file can have too few bytes as well.
    if len(content) >= settings.min_file_size_for_dl and len(block.lstrip()) >= settings.min_file_size_for_dl:
        return None
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return "unknown"
    return "txt"


def tokens(content: bytes, settings: Settings) -> npt.NDArray[np.int32]:
    """The network's input, int32 [1, beg_size + end_size]: the file's first and last bytes, padding in between.

    White space at the start of the first block and at the end of the last one is skipped. In short files the two
    overlap.
    """
    first = content[: settings.block_size].lstrip()[: settings.beg_size]
    last = content[-settings.block_size :].rstrip()[-settings.end_size :]
    row = np.full((1, settings.beg_size + settings.end_size), settings.padding_token, np.int32)
    row[0, : len(first)] = np.frombuffer(first, np.uint8)
    row[0, row.size - len(last) :] = np.frombuffer(last, np.uint8)
    return row


def label_from_score(guess: str, score: float, settings: Settings, types: dict[str, ContentType]) -> str:
    """The network's guess where it is confident enough, else just `txt` or `unknown`."""
    label = settings.overwrite_map.get(guess, guess)
    if score >= settings.thresholds.get(guess, settings.medium_confidence_threshold):
        return label
    return "txt" if types[label].is_text else "unknown"


class Magika(sp.Model):
    """Tells the content type of files."""

    network = sp.uses("model.onnx")
    settings_file = sp.file("config.min.json")
    types_file = sp.file("content_types_kb.min.json")

    def load(self, ctx: Any) -> None:
        """Read the two JSON files; the engine has loaded the network already."""
        self.settings = msgspec.json.decode(self.settings_file.read_bytes(), type=Settings)
        self.types = msgspec.json.decode(self.types_file.read_bytes(), type=dict[str, ContentType])
        if self.settings.mid_size or self.settings.use_inputs_at_offsets:
            raise ValueError("this network wants bytes from a file's middle; only its start and end are read here")

    # Requests come in batches, but the network sees one file at a time: measured on one thread, its batches take longer
    # per file, and their other rounding moves some scores by 0.02. So the official library's are met bit by bit.
    @sp.endpoint(batch=8)
    def identify(self, content: list[bytes]) -> list[Answer]:
        """Tell what kind of file each of these is."""
        return [self.identify_one(file) for file in content]

    def identify_one(self, content: bytes) -> Answer:
        """The answer for one file's bytes."""
        label, score = label_without_network(content, self.settings), 1.0
        if label is None:
            scores = self.network(bytes=tokens(content, self.settings))["target_label"][0]
            best = int(scores.argmax())
            score = float(scores[best])
            label = label_from_score(self.settings.target_labels_space[best], score, self.settings, self.types)
        return self.answer(label, score)

    def answer(self, label: str, score: float) -> Answer:
        """The label with what is known about that content type."""
        kind = self.types[label]
        return Answer(
            label=label,
            description=kind.description or label,
            group=kind.group or "unknown",
            mime_type=kind.mime_type or ("text/plain" if kind.is_text else "application/octet-stream"),
            is_text=kind.is_text,
            score=score,
        )
