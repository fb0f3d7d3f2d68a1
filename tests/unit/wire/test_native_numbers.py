"""The native reader of JSON numbers: Python's numbers, simdjson's refusals, and not a byte beyond its text."""

import contextlib
import ctypes
import json
import mmap
import shutil
import struct
import subprocess
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from setpoint.core import DATATYPES, FREE, InvalidRequest, TensorSpec
from setpoint.wire import json_numbers, json_tensor, native_numbers
from setpoint.wire.json_numbers import Elements, Lists, NotNumbers, OutOfRange
from setpoint.wire.json_tensor import TensorReader
from setpoint.wire.native_numbers import NativeLists, native_library
from setpoint.wire.simdjson_numbers import SimdjsonLists

pytestmark = pytest.mark.skipif(native_library() is None, reason="the native reader was not built: no C compiler?")

SOURCE = native_numbers.LIBRARY.with_name("numbers.c")
TYPES = ["FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
PADDING = "0.5," * 8
"""So much before a number that it is read as those in the middle of a list are."""


def native(datatype: str) -> NativeLists:
    library = native_library()
    assert library is not None
    return NativeLists(Elements(DATATYPES[datatype]), library)


def finish(work: Any) -> Any:
    return with_pauses(work)[0]


def with_pauses(work: Any) -> tuple[Any, int]:
    """What a generator returns, and how often it gave others their turn."""
    pauses = 0
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value, pauses
        pauses += 1


def read(datatype: str, numbers: list[str], separator: str = ",") -> NDArray[Any]:
    """Numbers of a list, read where it begins, in its middle and at its end."""
    answers = []
    padding = PADDING if DATATYPES[datatype].is_float else "99," * 10
    for before, after in (("", ""), (padding, ""), (padding, "," + padding * 8 + "0")):
        text = f"[{before}{separator.join(numbers)}{after}]".encode()
        first, count = before.count(","), len(numbers)
        array, found = finish(native(datatype).flat(text, 0, len(text), text.count(b",") + 1))
        assert found == text.count(b",") + 1
        answers.append(array[first : first + count])
    assert answers[0].tobytes() == answers[1].tobytes() == answers[2].tobytes()
    return answers[0]


def judge(numbers: list[str], separator: str = ",") -> None:
    """Floats of both widths must be Python's and numpy's."""
    doubles = np.array([0.0 if text == "-0" else float(text) for text in numbers])
    assert read("FP64", numbers, separator).tobytes() == doubles.tobytes()
    with np.errstate(over="ignore"):
        singles = doubles.astype(np.float32)
    fits = np.isfinite(singles)
    kept = [text for text, fit in zip(numbers, fits, strict=True) if fit]
    assert read("FP32", kept or ["1"], separator).tobytes() == (singles[fits] if kept else np.float32([1])).tobytes()


doubles = st.floats(allow_nan=False, allow_infinity=False)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
forms = st.sampled_from([repr, "{:.17g}".format, "{:.17e}".format, "{:.8e}".format, "{:.6f}".format, "{:.18f}".format])
written = st.builds(lambda value, form: form(value), doubles | singles | st.floats(-300, 300), forms)
digits = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,40})?([eE][-+]?0{0,2}[0-9]{1,3})?", fullmatch=True)
representable = digits.filter(lambda text: np.isfinite(float(text)))


@given(st.lists(written | representable, min_size=1, max_size=20), st.sampled_from([",", ", ", " ,\n\t", ",\r\n  "]))
@settings(max_examples=400)
@example(["-0", "-0.0", "0.0", "-0e5", "0e-999999999999999999999", "5e-324", "2.4703282292062327e-324"], ",")
@example(["1e" + "0" * 50 + "5", "0." + "0" * 400 + "1e401", "1" + "0" * 400 + "e-400", "1.7976931348623157e308"], ",")
@example(
    ["9007199254740993", "9007199254740992.999999999", "0.3", "9.2233720368547758085", "9.999999999999999999"], ","
)
def test_numbers_are_pythons(numbers: list[str], separator: str) -> None:
    judge(numbers, separator)


@st.composite
def halves(draw: st.DrawFn) -> str:
    """Exactly between two doubles or two singles, or next to that, with all digits that there are."""
    if draw(st.booleans()):
        bits = draw(st.integers(0, 0x7FEFFFFFFFFFFFFE))
        low, high = struct.unpack("<2d", struct.pack("<2Q", bits, bits + 1))
    else:
        bits = draw(st.integers(0, 0x7F7FFFFE))
        low, high = struct.unpack("<2f", struct.pack("<2I", bits, bits + 1))
    with localcontext(prec=1200):
        half = (Decimal(low) + Decimal(high)) / 2
        text = format(half * (Decimal(1) + draw(st.sampled_from([0, Decimal("1e-25"), Decimal("-1e-25")]))), "e")
    mantissa, _, exponent = text.partition("e")
    kept = draw(st.sampled_from([19, 20, 21, 2000]))
    return f"{draw(st.sampled_from(['', '-']))}{mantissa[:kept]}e{exponent}"


@given(st.lists(halves(), min_size=1, max_size=4))
@settings(max_examples=400)
def test_what_lies_between_two_floats_goes_where_python_takes_it(numbers: list[str]) -> None:
    judge(numbers)


@given(st.lists(st.tuples(st.floats(2.0**-20, 9, width=32), st.integers(14, 18), st.integers(-2, 2)), min_size=1))
@settings(max_examples=300)
def test_what_lies_next_to_half_way_between_two_singles_is_rounded_as_its_double(
    near: list[tuple[float, int, int]],
) -> None:
    numbers = []
    for single, places, units in near:
        half = (Decimal(single) + Decimal(float(np.nextafter(np.float32(single), np.float32(10))))) / 2
        numbers.append(format(round(half, places) + units * Decimal(10) ** -places, "f"))
    judge(numbers)


def test_every_power_of_ten_is_right() -> None:
    for mantissa in ("1", "-9007199254740993", "18446744073709551615", "9999999999999999999", "4503599627370497.5"):
        judge([f"{mantissa}e{power}" for power in range(-345, 289)])


@pytest.mark.parametrize("datatype", [name for name in TYPES if "INT" in name])
def test_integers_at_their_limits(datatype: str) -> None:
    limits = np.iinfo(DATATYPES[datatype].dtype)
    texts = [str(limits.min), str(limits.max), "0", "-0", "7", str(limits.max // 3)]
    assert read(datatype, [*texts]).tolist() == [limits.min, limits.max, 0, 0, 7, limits.max // 3]
    for beyond in (str(limits.max + 1), str(limits.min - 1), "-" + "9" * 19, "9" * 20, "1" + "0" * 20):
        text = f"[1,{beyond}]".encode()
        refused = refusal(native(datatype), text)
        assert refused in (NotNumbers, OutOfRange)
        assert refused is refusal(SimdjsonLists(Elements(DATATYPES[datatype])), text)


def refusal(lists: Lists, text: bytes) -> Any:
    try:
        return finish(lists.flat(text, 0, len(text), text.count(b",") + 1))
    except (NotNumbers, OutOfRange) as error:
        return type(error)


FLAT = "[1.5,-0.25,0.0312500000000000001, 12,1e-2]"
GOOD = {
    "FP32": [FLAT, "[ [1.5, 2.25],[-3,0.1234567] ]", "[[[1.0],[2.0]]]"],
    "INT8": ["[1,-12, 0,127]", "[[1,2,3],[4,5,6]]"],
}
PUT = b'0-+.eE,[] "a\\{\x00\x7f\xff\n'


def said(reader: TensorReader, text: bytes, shape: list[int]) -> Any:
    try:
        array = reader.flat_or_nested(text, shape, int(np.prod(shape)))
    except InvalidRequest as error:
        return str(error)
    return array.shape, array.tobytes()


@pytest.mark.parametrize(
    ("datatype", "good", "padding"),
    [
        *((name, text, "") for name in GOOD for text in GOOD[name]),
        ("FP32", FLAT, PADDING),
        ("INT8", "[1,-12, 0,127,-128,10,0,99,5,64,-7,-0,8]", "99," * 10),
    ],
)
def test_damaged_lists_are_read_or_refused_with_the_same_words(datatype: str, good: str, padding: str) -> None:
    """Every byte taken out, and every one that means something put in its place or before it."""
    if padding:
        good = f"[{padding}{good[1:-1]},{padding * 8}1]"
    shape = list(np.shape(json.loads(good)))
    reader = TensorReader(TensorSpec("x", datatype, (FREE,) * len(shape)))
    text = good.encode()
    places = range(len(text)) if not padding else range(30, 30 + 45)
    damaged = [text] + [text[:at] + text[at + 1 :] for at in places]
    for put in PUT:
        damaged += [text[:at] + bytes([put]) + text[at + 1 :] for at in places]
        damaged += [text[:at] + bytes([put]) + text[at:] for at in places]
    read = 0
    for body in damaged:
        with patch.object(json_tensor, "WORTHWHILE_ELEMENTS", -1):
            fast = said(reader, body, shape)
            with patch.object(json_tensor, "lists_of", lambda datatype: SimdjsonLists(Elements(datatype))):
                known = said(reader, body, shape)
        slow = said(reader, body, shape)
        assert fast == known, body
        assert fast == slow or isinstance(fast, str) is isinstance(slow, str) is True, body
        read += isinstance(fast, tuple)
    assert 3 <= read < len(damaged)


@pytest.mark.parametrize("shape", [(60,), (5, 12), (3, 4, 5), (60, 1)])
def test_a_pause_may_come_anywhere(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).normal(size=shape)
    text = str(array.tolist()).encode()
    pauses = set()
    for slice_bytes in range(1, len(text) + 2):
        with patch.object(native_numbers, "_SLICE_BYTES", slice_bytes):
            (found, said_shape), count = with_pauses(native("FP64").nested(text, 0, len(text), array.size))
        pauses.add(count)
        assert said_shape == shape
        assert found.tobytes() == array.tobytes()
    assert len(pauses) > 5


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "UINT8", "INT16"])
def test_numbers_beyond_the_shape_are_counted_and_not_stored(datatype: str) -> None:
    text = b"[" + b",".join([b"7"] * 40 + [b"0.5" if "FP" in datatype else b"9"] * 100) + b"]"
    lists = native(datatype)
    for capacity in (0, 1, 39, 41, 139):
        around = np.full(200, 99, lists._dtype)
        reading = finish(lists._lists(text, 0, len(text), around[:capacity], 1))
        assert reading.count == 140
        assert (around[capacity:] == 99).all()
        assert finish(lists.flat(text, 0, len(text), capacity)) == (None, 140)


def test_undecided_numbers_let_others_have_their_turn() -> None:
    doubles = "[" + ",".join(["9007199254740993.0000000000000000000000000000000001"] * 1000) + "]"
    (_, count), pauses = with_pauses(native("FP64").flat(doubles.encode(), 0, len(doubles), 1000))
    assert count == 1000
    assert pauses == 3


@pytest.fixture
def fenced() -> Any:
    """A page that may be read, between two that may not: (its address, its length)."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for fence in (start, start + 2 * page):
        assert libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), 0) == 0
    yield start + page, page
    for fence in (start, start + 2 * page):
        libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), mmap.PROT_READ | mmap.PROT_WRITE)


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64"])
def test_nothing_is_read_outside_the_text(datatype: str, fenced: tuple[int, int]) -> None:
    """At either edge of a page between fences: one byte beyond would end this process."""
    address, page = fenced
    lists = native(datatype)
    numbers = ["1", "0.5", "-0.123456789012345", "1234567890123456789", "-7.25e-3", "12.75"]
    for count in range(1, 40):
        for cut in range(6):
            text = ("[" + ",".join((numbers * 8)[:count]) + "]").encode()[: -cut or None]
            for damaged in (text, text[:-1] + b"]", text[:-1] + b"9"):
                for start in (0, page - len(damaged)):
                    ctypes.memmove(address + start, damaged, len(damaged))
                    at = ctypes.cast(address + start, ctypes.c_char_p)
                    with contextlib.suppress(NotNumbers):
                        finish(lists._lists(at, 0, len(damaged), np.empty(64, lists._dtype), 32))  # type: ignore[arg-type]


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """The same source under AddressSanitizer and UndefinedBehaviorSanitizer, on lists that were damaged at random.

    With and without SSE2, which other processors have not: the same numbers.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    driver = Path(__file__).with_name("native_numbers_driver.c")
    flags = ["-O1", "-g", "-std=c11", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    programs = [tmp_path / "driver", tmp_path / "portable"]
    for program, more in zip(programs, ([], ["-U__SSE2__"]), strict=True):
        command = [compiler, *flags, *more, f"-I{SOURCE.parent}", "-o", str(program), str(driver)]
        built = subprocess.run(command, capture_output=True, text=True)
        if built.returncode:
            pytest.skip(f"no sanitizers: {built.stderr.strip().splitlines()[-1:]}")
    random = np.random.default_rng(1)
    texts = [text.encode() for name in GOOD for text in GOOD[name]]
    texts += [str(random.normal(size=shape).tolist()).encode() for shape in ((50,), (4, 7), (2, 3, 4))]
    texts += [b"[" + b",".join(b"%.3f" % x for x in random.normal(size=40)) + b"]", b"[" * 40 + b"1" + b"]" * 40]
    texts += [str(random.integers(-(2**63), 2**63 - 1, 30).tolist()).replace(" ", "").encode()]
    lists = list(texts)
    for _ in range(3000):
        text = bytearray(texts[random.integers(len(texts))])
        for _ in range(random.integers(1, 4)):
            at = int(random.integers(len(text)))
            text[at : at + int(random.integers(0, 3))] = bytes(random.choice(list(PUT), random.integers(0, 3)).tolist())
            text = text or bytearray(b"[")
        lists.append(bytes(text))
    fed = native_numbers._powers().tobytes() + b"".join(struct.pack("<I", len(text)) + text for text in lists)
    said = set()
    for program in programs:
        done = subprocess.run([program], input=fed, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        said.add(done.stdout.decode())
    (counts,) = said
    counted = dict(pair.split("=") for pair in counts.split())
    assert int(counted["texts"]) == len(lists)
    assert int(counted["read"]) > 100
    assert int(counted["refused"]) > 1000


@pytest.mark.parametrize("absent", ["missing.so", "other_abi.so"])
def test_without_a_fitting_library_simdjson_reads(absent: str, tmp_path: Path) -> None:
    library = tmp_path / absent
    if absent == "other_abi.so":
        shutil.copy(native_numbers.LIBRARY, library)
    caches = (native_numbers.native_library, json_numbers.lists_of)
    try:
        for cache in caches:
            cache.cache_clear()
        with patch.object(native_numbers, "LIBRARY", library), patch.object(native_numbers, "_ABI", -1):
            assert isinstance(json_numbers.lists_of(DATATYPES["FP32"]), SimdjsonLists)
    finally:
        for cache in caches:
            cache.cache_clear()
    assert isinstance(json_numbers.lists_of(DATATYPES["FP32"]), NativeLists)
