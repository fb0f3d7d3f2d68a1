"""Bodies that are not what the route takes: truncated, of wrong types and shapes, too deep, too large, no JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from hostile.attacks import Check, Message, refused, status

INFER = "/v2/models/iris/infer"
PREDICT = "/models/iris/predict"
NATIVE = ("/models/words/lengths", "/models/words/join", "/models/words/split", "/models/words/size", PREDICT)
V2_ROUTES = (INFER, "/v2/models/iris/versions/1/infer", "/v2/models/words/infer")
Json = dict[str, Any]


def post(path: str, body: bytes, *headers: str, kind: str, check: Check = refused) -> Message:
    """A well-formed POST."""
    lines = [f"POST {path} HTTP/1.1", "host: node", f"content-length: {len(body)}", *headers]
    return Message(kind, "\r\n".join([*lines, "", ""]).encode("latin-1") + body, check)


def tensor(rng: random.Random) -> Json:
    rows = rng.randint(1, 3)
    data = [round(rng.uniform(0, 8), 1) for _ in range(4 * rows)]
    return {"name": "X", "shape": [rows, 4], "datatype": "FP32", "data": data}


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def infer(rng: random.Random, **changes: Any) -> bytes:
    return dumps({"inputs": [{**tensor(rng), **changes}]})


def truncated(rng: random.Random) -> Message:
    body = infer(rng)
    return post(INFER, body[: rng.randrange(len(body))], kind="truncated JSON")


def garbage(rng: random.Random) -> Message:
    return post(rng.choice(V2_ROUTES), rng.randbytes(rng.choice([0, 1, 2, 16, 1000])), kind="random bytes")


def wrong_type(rng: random.Random) -> Message:
    key = rng.choice(["name", "shape", "datatype", "data"])
    value = rng.choice([None, True, 1.5, -1, "x", {}, {"a": 1}, [{}], [None], [[[]]], [True] * 4, ["1"] * 4, 10**30])
    body = infer(rng, **{key: value})
    return post(INFER, body, kind="wrong types")


def wrong_shape(rng: random.Random) -> Message:
    huge = rng.choice([10**9, 10**18, 2**31, 2**63, 2**64, 10**30, 10**1000])
    shape: list[Any] = rng.choice(
        [
            [],
            [4],
            [1, 4, 1],
            [0, 4],
            [-1, 4],
            [1, -4],
            [4, 1],
            [2**31 - 1, 0],
            [huge, 4],
            [1, huge],
            [huge, huge],
            [True, 4],
            [1.0, 4],
            ["1", 4],
            [None, 4],
            [[1], 4],
            [1] * 1000,
            [huge] * 300,
        ]
    )
    data = [] if 0 in shape and rng.random() < 0.5 else [1.0, 2.0, 3.0, 4.0, 5.0]
    return post(INFER, infer(rng, shape=shape, data=data), kind="wrong shapes", check=status(400, 413))  # or too large


def wrong_data(rng: random.Random) -> Message:
    data = rng.choice(
        [
            [1.0] * 3,
            [],
            [[1.0] * 3],
            [[1.0] * 4, [1.0]],
            [[[1.0] * 4]],
            [1.0] * 5000,
            "1,2,3,4",
            {"0": 1},
            None,
            [1e39, 0, 0, 0],
            [[-1e300, 0, 0, 0]],
            [[], [], [], []],
            [1.0, [2.0], 3.0, 4.0],
            [False, 1, 2, 3],
        ]
    )
    return post(INFER, infer(rng, shape=[1, 4], data=data), kind="wrong data")


def bad_literal(rng: random.Random) -> Message:
    literal = rng.choice(
        [
            "NaN",
            "Infinity",
            "-Infinity",
            "nan",
            "1e999",
            "-1e400",
            "01",
            "+1",
            ".5",
            "1.",
            "0x10",
            "1_000",
            "'1'",
            "--1",
            "9" * 400,
            "9" * 5000,
            "tru",
            "undefined",
            "1e",
            "\uff11",
            "/*1*/1",
        ]
    )
    body = infer(rng, shape=[1, 4], data=[8888, 2, 3, 4]).replace(b"8888", literal.encode())
    return post(rng.choice((INFER, "/v2/models/iris/versions/1/infer")), body, kind="literals JSON does not have")


def nested(rng: random.Random) -> Message:
    depth = rng.choice([65, 500, 1000, 5000, 100_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
    deep = opening * depth + b"1" + (closing * depth if rng.random() < 0.7 else b"")
    route = rng.choice((INFER, *NATIVE))
    if route == INFER:
        where = rng.choice([b'"?"', b'{"name":"X","shape":[1,4],"datatype":"FP32","data":"?"}'])
        body = b'{"inputs":[%b]}' % where.replace(b'"?"', deep)
    else:
        body = b'{"%b":%b}' % (rng.choice([b"X", b"texts", b"words", b"text", b"data"]), deep)
    # What is sent to ``size`` without a content type is bytes, and any bytes will do.
    return post(route, body, "content-type: application/json", kind="deep nesting")


def bad_text(rng: random.Random) -> Message:
    bad = rng.choice(
        [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\\ud800", b"\\udc00\\ud800", b"\\ux", b"\\", b"\x00", b"\n"]
    )
    body = infer(rng).replace(b'"X"', b'"X%b"' % bad)
    if rng.random() < 0.3:
        return post("/models/words/lengths", b'{"texts":["a%b"]}' % bad, kind="text that is none")
    return post(INFER, body, kind="text that is none")


def not_json(rng: random.Random) -> Message:
    body = infer(rng)
    wrapped = rng.choice(
        [
            b"\xef\xbb\xbf" + body,
            body.decode().encode("utf-16"),
            body + body,
            body + b"\x00",
            b"",
            b" " * 50,
            b"[" + body,
            b"inputs=1&x=2",
            b"<xml/>",
            b"null",
            b"true",
            b"5",
            b'"x"',
            b"[]",
            b"{}",
            b'{"inputs":{}}',
            b'{"inputs":null}',
            b'{"inputs":[]}',
            b'{"inputs":[null]}',
            b'{"inputs":[[]]}',
            b'{"Inputs":[]}',
            body[1:],
            body[:-1] + b",}",
        ]
    )
    return post(INFER, wrapped, kind="not the JSON asked for")


def wrong_inputs(rng: random.Random) -> Message:
    good = tensor(rng)
    inputs = rng.choice(
        [
            [good, good],
            [{**good, "name": "x"}],
            [{**good, "name": "X" * 10_000}],
            [],
            [good] * 200,
            [{k: v for k, v in good.items() if k != rng.choice(["name", "shape", "datatype", "data"])}],
        ]
    )
    body = dumps({"inputs": inputs})
    return post(
        INFER, body, kind="wrong inputs", check=status(400) if body != dumps({"inputs": [good]}) else status(200)
    )


def wrong_outputs(rng: random.Random) -> Message:
    asked: Any = rng.choice(
        [
            [{"name": "no"}],
            [{"name": "label"}] * 1000,
            [{}],
            [None],
            "label",
            {"name": "label"},
            [["label"]],
            1,
            [{"name": 1}],
        ]
    )
    return post(INFER, dumps({"inputs": [tensor(rng)], "outputs": asked}), kind="wrong outputs")


def wrong_rest(rng: random.Random) -> Message:
    rest: Json = rng.choice(
        [{"id": 1}, {"id": ["a"]}, {"parameters": []}, {"parameters": "x"}, {"parameters": 1}, {"id": {"a": "b"}}]
    )
    return post(INFER, dumps({"inputs": [tensor(rng)], **rest}), kind="wrong id or parameters")


def repeated_keys(rng: random.Random) -> Message:
    """Of equal keys the last counts, so this one is good in the end."""
    good = infer(rng)
    return post(INFER, b'{"id":"a","inputs":[],"id":"b",' + good[1:], kind="repeated keys", check=status(200))


def wrong_media(rng: random.Random) -> Message:
    header = rng.choice(
        [
            "content-type: application/octet-stream",
            "content-type: multipart/form-data; boundary=x",
            "content-encoding: gzip",
            "content-encoding: deflate, gzip",
            "inference-header-content-length: 10",
            "inference-header-content-length: -1",
            "Content-Encoding: \xff",
            "content-type: Application/Octet-Stream ;q=1",
        ]
    )
    return post(INFER, infer(rng), header, kind="content by another name", check=status(200, 400, 415))


def native(rng: random.Random) -> Message:
    path = rng.choice(NATIVE)
    value: Any = rng.choice(
        [
            None,
            1,
            -1.5,
            True,
            "x",
            [],
            {},
            [None],
            [1],
            [[]],
            [["a"]],
            {"a": []},
            [True],
            10**30,
            ["a", 1],
            [{}],
            "é" * 100,
        ]
    )
    key = rng.choice(["texts", "words", "text", "data", "X", "x", "", "separator", "\x00"])
    body = rng.choice(
        [dumps({key: value}), dumps(value), dumps({key: value, "extra": value}), dumps({key: value})[:-1]]
    )
    return post(path, body, kind="native routes, wrong arguments", check=status(200, 400))


def large(rng: random.Random) -> Message:
    """A megabyte or so of nothing useful."""
    count = rng.choice([1000, 20_000, 100_000])
    body = rng.choice(
        [
            infer(rng, shape=[count, 3], data=[0] * count),
            dumps({"inputs": [1] * count}),
            dumps({str(i): i for i in range(count)}),
            dumps({"inputs": [{**tensor(rng), "name": "n" * count * 5}]}),
            b'{"inputs":"' + b"\\u0000" * count + b'"}',
            dumps({"texts": [0] * count}),
            dumps({"X": [[0, 0, 0]] * (count // 10)}),
            b" " * count * 5,
            b"[" * count,
        ]
    )
    return post(rng.choice((INFER, "/models/words/lengths", PREDICT)), body, kind="large bodies")


def mutated(rng: random.Random) -> Message:
    body = bytearray(infer(rng))
    for _ in range(rng.randint(1, 5)):
        where = rng.randrange(len(body))
        kind = rng.randrange(4)
        if kind == 0:
            body[where] = rng.randrange(256)
        elif kind == 1:
            del body[where]
        elif kind == 2:
            body[where:where] = rng.choice([b"[", b"]", b"{", b"}", b'"', b",", b"0", b"e", b"-", b"null", b"\\"])
        else:
            body[where:where] = body[where : where + rng.randint(1, 20)]
    # Some mutations change a digit, and are as good as before; a digit more in an exponent gives another good number.
    return post(INFER, bytes(body), kind="mutated", check=status(200, 400))


BODIES: dict[Callable[[random.Random], Message], int] = {
    truncated: 6,
    garbage: 6,
    wrong_type: 10,
    wrong_shape: 10,
    wrong_data: 8,
    bad_literal: 6,
    nested: 4,
    bad_text: 4,
    not_json: 6,
    wrong_inputs: 3,
    wrong_outputs: 3,
    wrong_rest: 2,
    repeated_keys: 2,
    wrong_media: 3,
    native: 10,
    large: 1,
    mutated: 16,
}
"""Each kind of body and how often it comes."""
