"""Large JSON lists of numbers to arrays: the native reader beside simdjson and what else reads JSON, in one run.

    python benchmarks/json_numbers/run.py [--numbers 150528] [--rounds 40] [--short]

Each reader reads the same texts in turns, and every answer is compared. Printed: nanoseconds a number (the fastest
round) and the median over the rounds of the ratio to the native reader, or to simdjson where that was not built.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Generator
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from setpoint.core import DATATYPES
from setpoint.wire.json_numbers import Elements, Lists
from setpoint.wire.native_numbers import NativeLists, native_library
from setpoint.wire.simdjson_numbers import SimdjsonLists

Read = Callable[[bytes], NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--numbers", type=int, default=150_528, help="in a list; the default is an image's, 3 x 224 x 224"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--short", action="store_true", help="instead: from how many numbers on the readers pay")
    options = parser.parse_args()
    if options.short:
        short(options.rounds)
        return
    print(f"{options.numbers} numbers, {options.rounds} rounds; ns a number (ratio to the first reader)")
    for name, (datatype, text) in texts(options.numbers).items():
        nested = name.startswith("nested")
        readers = readers_of(datatype, options.numbers, (1, 3, -1, 224) if nested else (-1,), nested)
        answers = [read(text) for read in readers.values()]
        for reader, answer in zip(readers, answers, strict=True):
            assert answer.tobytes() == answers[0].tobytes(), f"{reader} reads {name} otherwise"
        times = interleaved(readers, text, options.rounds)
        gigabytes_s = len(text) / min(next(iter(times.values()))) / 1e9
        cells = [f"{cell(times, reader, options.numbers):>24}" for reader in times]
        print(f"{name:22} {len(text) / options.numbers:5.1f} B  {gigabytes_s:5.2f} GB/s {''.join(cells)}")


def texts(numbers: int) -> dict[str, tuple[str, bytes]]:
    """What clients send: name → datatype and JSON."""
    random = np.random.default_rng(1)
    unit = random.random(numbers).astype(np.float32)
    signed = random.standard_normal(numbers).astype(np.float32)
    image = random.standard_normal((1, 3, numbers // 3 // 224, 224)).astype(np.float32)

    def compact(values: Any) -> bytes:
        return json.dumps(values, separators=(",", ":")).encode()

    def shortest(array: NDArray[Any]) -> bytes:
        return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)

    return {
        "17 digits": ("FP32", compact(unit.tolist())),
        "17 digits, signed": ("FP32", compact(signed.tolist())),
        "17 digits, FP64": ("FP64", compact(random.standard_normal(numbers).tolist())),
        "9 digits": ("FP32", shortest(unit)),
        "9 digits, signed": ("FP32", shortest(signed)),
        "3 digits": ("FP32", b"[" + b",".join([b"%.3f" % value for value in unit]) + b"]"),
        "whole numbers, FP32": ("FP32", compact(random.integers(0, 256, numbers).tolist())),
        "pixels, UINT8": ("UINT8", compact(random.integers(0, 256, numbers).tolist())),
        "tokens, INT64": ("INT64", compact(random.integers(0, 30_000, numbers).tolist())),
        "nested, 17 digits": ("FP32", compact(image.tolist())),
        "nested, 9 digits": ("FP32", shortest(image)),
    }


def readers_of(datatype: str, numbers: int, shape: tuple[int, ...], nested: bool) -> dict[str, Read]:
    """Name → reader; ours first, the rest as one would write it."""
    library, elements, dtype = native_library(), Elements(DATATYPES[datatype]), DATATYPES[datatype].dtype
    element: Any = float if dtype.kind == "f" else int
    for _ in range(len(shape)):
        element = list[element]
    decode = msgspec.json.Decoder(element).decode
    ours: dict[str, Lists] = {"simdjson": SimdjsonLists(elements)}
    if library is not None:
        ours = {"native": NativeLists(elements, library), **ours}
    readers: dict[str, Read] = {}
    for name, lists in ours.items():
        if nested:
            readers[name] = lambda text, lists=lists: finish(lists.nested(text, 0, len(text), numbers))[0]
        else:
            readers[name] = lambda text, lists=lists: finish(lists.flat(text, 0, len(text), numbers))[0]
    readers["orjson + numpy"] = lambda text: np.array(orjson.loads(text), dtype)
    readers["msgspec + numpy"] = lambda text: np.array(decode(text), dtype)
    if not nested and dtype.kind == "f":  # it reads no lists in lists, and no brackets
        readers["numpy.fromstring"] = lambda text: np.fromstring(text[1:-1], np.float64, sep=",").astype(dtype)
    return readers


def finish(work: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


def interleaved(readers: dict[str, Read], text: bytes, rounds: int) -> dict[str, list[float]]:
    """Seconds of each reader in each round; the order turns, since the one before leaves the caches to the next."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    names = list(readers)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            begun = time.perf_counter()
            readers[name](text)
            times[name].append(time.perf_counter() - begun)
    return times


def cell(times: dict[str, list[float]], reader: str, numbers: int) -> str:
    first = next(iter(times.values()))
    ratio = statistics.median(mine / its for mine, its in zip(times[reader], first, strict=True))
    return f"{reader} {min(times[reader]) / numbers * 1e9:.1f} ({ratio:.2f})"


def short(rounds: int) -> None:
    """Microseconds for lists of few numbers: where a call of a reader costs as much as msgspec and numpy do."""
    for numbers in (8, 16, 24, 32, 48, 64, 96, 128, 256):
        cells = []
        for name, (datatype, text) in texts(672).items():
            if name in ("17 digits", "9 digits", "tokens, INT64"):
                some = b",".join(text[1:-1].split(b",")[:numbers])
                readers = readers_of(datatype, numbers, (-1,), nested=False)
                kept = {
                    reader: readers[reader] for reader in readers if reader in ("native", "simdjson", "msgspec + numpy")
                }
                times = interleaved(kept, b"[" + some + b"]", rounds * 50)
                cells.append(name + " " + ", ".join(f"{reader} {min(s) * 1e6:.2f}" for reader, s in times.items()))
        print(f"{numbers:4} numbers, µs: {'   '.join(cells)}")


if __name__ == "__main__":
    main()
