"""Attacks below the body: methods, paths, headers, framing, packets, and clients that go away."""

from __future__ import annotations

import random
from collections.abc import Callable

from hostile.attacks import Attack, Broken, Check, Conversation, Leave, Message, refused, status
from hostile.bodies import BODIES, INFER, NATIVE, infer, large, post

METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "M-SEARCH", "LINK", "QUERY")
PATHS = ("/v2", "/v2/models/iris", INFER, "/metrics", "/docs", "/v2/health/ready", *NATIVE)


def plain(method: str, target: str, *headers: str, kind: str, check: Check) -> Message:
    """A request without a body."""
    lines = [f"{method} {target} HTTP/1.1", "host: node", *headers, "", ""]
    return Message(kind, "\r\n".join(lines).encode("latin-1"), check, method.encode())


def wrong_verb(rng: random.Random) -> Message:
    method, path = rng.choice(METHODS), rng.choice(PATHS)
    serves = method in ("GET", "HEAD") and not path.endswith(("infer", *NATIVE))
    return plain(method, path, kind="wrong verbs", check=status(200) if serves else status(405))


def post_where_there_is_none(rng: random.Random) -> Message:
    return post(rng.choice(("/v2", "/metrics", "/docs", "/")), infer(rng), kind="wrong verbs", check=status(405))


def odd_path(rng: random.Random) -> Message:
    target = rng.choice(
        [
            "//v2",
            "/v2/../metrics",
            "/v2/%2e%2e/metrics",
            "/v2%2fmodels%2firis",
            "/%00",
            "/v2/models/iris%00",
            "/v2/models/%ff%fe",
            "/v2/models/..%2f..%2fetc%2fpasswd",
            "/%",
            "/%zz",
            "/%2",
            "/v2/models/iris;x=1",
            "/V2",
            "*",
            "http://other.test/none",
            "/v2/models/" + "%41" * 3000,
            "/" + "a" * rng.choice([10, 1000, 20_000]),
            "/" * rng.choice([3, 500]),
            "/v2/models/iris/versions/99/infer",
            "/v2/models/nobody/infer",
            "/models/iris/nothing",
            "/models//predict",
            "/v2/models/<script>",
            "/?" + "x" * 5000,
            "/.git/config",
            "/v2/models/${jndi:ldap}",
            "/none#/v2",
        ]
    )
    known = target.startswith("/?")
    return plain("GET", target, kind="odd paths", check=status(307) if known else status(400, 404))


def odd_but_right_path(rng: random.Random) -> Message:
    target = rng.choice(
        [
            "/v2/",
            "/v2?x=1",
            "/%76%32",
            "http://other.test/v2",
            "/v2?" + "x" * 9000,
            "/v2/models/%69ris",
            "/v2?%00",
            "/v2?a#b",
        ]
    )
    return plain("GET", target, kind="odd but right paths", check=status(200))


def many_headers(rng: random.Random) -> Message:
    count, size = rng.choice([(50, 10), (100, 100), (127, 5), (3, 8000)])
    headers = [f"x-{index}: {'v' * size}" for index in range(count)]
    return plain("GET", "/v2", *headers, kind="many headers", check=status(200))


def too_many_headers(rng: random.Random) -> Broken:
    count, size = rng.choice([(128, 5), (5000, 10), (500, 500), (3, 40_000), (1, 300_000)])
    head = "GET /v2 HTTP/1.1\r\nhost: node\r\n" + "".join(f"x-{i}: {'v' * size}\r\n" for i in range(count))
    ended = count == 128 or rng.random() < 0.5  # too many are few bytes, and counted at the end
    return Broken("header floods", head.encode() + (b"\r\n" if ended else b""), status(431), answers=1)


def too_long_target(rng: random.Random) -> Broken:
    target = "/" + rng.choice(["a", "%41", "?", "/"]) * rng.choice([33_000, 100_000])
    return Broken("header floods", f"GET {target} HTTP/1.1\r\nhost: node\r\n\r\n".encode(), status(431), answers=1)


def odd_header(rng: random.Random) -> Message:
    header = rng.choice(
        [
            "Connection: keep-alive, , ,",
            "connection: te",
            "expect: 100-continue",
            "Expect: something-else",
            "accept-encoding: gzip",
            "x: \xff\xfe",
            "host: other",
            "cookie: " + "c" * 4000,
            "Content-Type: ",
            "content-type: \xff",
            "range: bytes=0-1",
            "te: trailers",
            "transfer-encoding-x: chunked",
            "x-forwarded-for: 127.0.0.1",
            "Content-Type: application/json; charset=utf-16",
            "if-match: *",
            "Upgrade: h2c",
            "Connection: Upgrade\r\nUpgrade: h2c",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x",
        ]
    )
    return post(INFER, infer(rng), header, kind="odd headers", check=status(200))


_HEAD = f"POST {INFER} HTTP/1.1\r\nhost: node\r\n".encode()
_SMUGGLED = b"GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n"


def smuggling(rng: random.Random) -> Broken:
    """Two readings of one message. The node must choose neither: refuse, and read nothing behind it."""
    head = rng.choice(
        [
            b"content-length: 4\r\ncontent-length: 44\r\n",
            b"content-length: 4\r\ncontent-length: 4\r\n",
            b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
            b"transfer-encoding: chunked\r\ncontent-length: 4\r\n",
            b"transfer-encoding: chunked, identity\r\n",
            b"transfer-encoding: xchunked\r\n",
            b"transfer-encoding: chunked\x0b\r\n",
            b"transfer-encoding : chunked\r\n",
            b" transfer-encoding: chunked\r\n",
            b"x: y\r\n transfer-encoding: chunked\r\n",
            b"transfer-encoding:\tchunked\r\ncontent-length: 4\r\n",
            b"content-length: 4, 4\r\n",
            b"content-length: +4\r\n",
            b"content-length: 4 4\r\n",
            b"content-length: 0x4\r\n",
            b"content-length: -4\r\n",
            b"content-length: 4\n\r\n",
            b"content-length: \r\n",
            b"content-length: 99999999999999999999999\r\n",
            b"x\x00: y\r\n",
            b"x: \x00\r\n",
            b": y\r\n",
            b"x: y\rz: a\r\n",
            b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
            b"Content-Length : 4\r\n",
            b"nocolon\r\n",
        ]
    )
    return Broken("request smuggling", _HEAD + head + b"\r\n0\r\n\r\n" + _SMUGGLED, refused, answers=1)


def bad_chunks(rng: random.Random) -> Broken:
    chunks = rng.choice(
        [
            b"z\r\n",
            b"-1\r\n\r\n",
            b"ffffffffffffffffff\r\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"1\na\n0\n\n",
            b"0x1\r\na\r\n",
            b" 1\r\na\r\n",
            b"1 \r\na\r\n",
            b"\r\n",
            b"1\r\na0\r\n\r\n",
            b"2\r\n{}\r\n\r\n",
            b"0\r\nbad trailer\r\n\r\n",
            b"0\r\n: x\r\n\r\n",
            b"1;\x00\r\na\r\n",
        ]
    )
    return Broken("bad chunks", _HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"\r\n", refused)


def endless_trailer(rng: random.Random) -> Broken:
    start = rng.choice([b"0\r\nx: ", b"1;x=", b"1\r\n{\r\n0\r\nx: "])
    # More than the node reads at once (256 KiB): what comes in one read with a piece of the body is not counted.
    payload = _HEAD + b"transfer-encoding: chunked\r\n\r\n" + start + b"v" * 400_000
    return Broken("endless trailers and chunk extensions", payload, status(431), answers=1)


def huge_body(rng: random.Random) -> Broken:
    declared = rng.choice([64 * 2**20 + 1, 10**9, 10**12, 10**18, 2**63 - 1])
    payload = _HEAD + b"content-length: %d\r\n\r\n" % declared + infer(rng)
    return Broken("huge declared bodies", payload, status(413), answers=1)


def no_http(rng: random.Random) -> Broken:
    payload = rng.choice(
        [
            rng.randbytes(rng.choice([1, 10, 1000])),
            b"\x16\x03\x01\x00\xee\x01\x00",
            b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
            b"GET /v2\r\n\r\n",
            b"GET /v2 HTTP/2.0\r\n\r\n",
            b"GET /v2 HTTP/1.2\r\n\r\n",
            b"get /v2 HTTP/1.1\r\n\r\n",
            b"BREW /v2 HTTP/1.1\r\n\r\n",
            b"HELO x\r\n",
            b"GET v2 HTTP/1.1\r\n\r\n",
            b"GET /v2 HTTP/1.1\nhost: x\n\n",
            b"GET /a b HTTP/1.1\r\n\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"\x00" * 100,
            b"\r\n" * 100,
            b"G",
            b"GET /v2 HTTP/1.1\r\nhost",
            "GET /é HTTP/1.1\r\n\r\n".encode(),
        ]
    )
    return Broken("no HTTP", payload, refused)


def mutated_http(rng: random.Random) -> Broken:
    body = infer(rng)
    payload = bytearray(_HEAD + b"content-length: %d\r\nx-some: header\r\n\r\n" % len(body) + body)
    end = payload.index(b"\r\n\r\n") + 4
    for _ in range(rng.randint(1, 4)):
        where = rng.randrange(end)
        change = rng.randrange(3)
        if change == 0:
            payload[where] = rng.randrange(256)
        elif change == 1:
            del payload[where]
        else:
            payload[where:where] = rng.choice([b"\r\n", b" ", b"\t", b":", b"\x00", b"9", b"\r", b"\n", b"%", b"/"])
    return Broken("mutated HTTP", bytes(payload), status(200, 400, 404, 405, 413, 415))


def cut_off(rng: random.Random) -> Broken:
    message = rng.choice([infer(rng), None])
    payload = _SMUGGLED if message is None else _HEAD + b"content-length: %d\r\n\r\n" % len(message) + message
    return Broken("half-closed connections", payload[: rng.randrange(1, len(payload))], answers=0)


def gone(rng: random.Random) -> Leave:
    body = infer(rng)
    payload = (_HEAD + b"content-length: %d\r\n\r\n" % len(body) + body) * rng.choice([1, 1, 10])
    if rng.random() < 0.5:
        payload = payload[: rng.randrange(1, len(payload) + 1)]
    return Leave("clients that leave", payload, reset=rng.random() < 0.5, after_s=rng.choice([0, 0, 0.001, 0.01]))


def _random_message(rng: random.Random) -> Message:
    kinds = [kind for kind in BODIES if kind is not large]
    return rng.choices(kinds, [BODIES[kind] for kind in kinds])[0](rng)


def pipelined(rng: random.Random) -> Conversation:
    """Good and bad requests ahead of their answers, in packets cut anywhere."""
    messages = tuple(
        rng.choice([_random_message, wrong_verb, odd_path, odd_header])(rng) for _ in range(rng.choice([2, 5, 20, 150]))
    )
    total = sum(len(message.payload) for message in messages)
    cuts = tuple(sorted(rng.randrange(total) for _ in range(rng.randint(0, 5))))
    return Conversation("pipelined", messages, cuts, rng.choice([0, 0, 0.001]))


def slow(rng: random.Random) -> Conversation:
    """A request that comes a few bytes at a time, and then is good or bad as any other."""
    message = rng.choice([odd_header(rng), truncated_slowly(rng)])
    cuts = tuple(sorted(rng.sample(range(1, len(message.payload)), 12)))
    return Conversation("slow senders", (message,), cuts, rng.choice([0.001, 0.01]))


def truncated_slowly(rng: random.Random) -> Message:
    return post(INFER, infer(rng)[:-3], kind="slow senders")


TRANSPORT: dict[Callable[[random.Random], Attack], int] = {
    wrong_verb: 5,
    post_where_there_is_none: 1,
    odd_path: 6,
    odd_but_right_path: 3,
    many_headers: 2,
    too_many_headers: 1,
    too_long_target: 1,
    odd_header: 5,
    smuggling: 6,
    bad_chunks: 4,
    endless_trailer: 1,
    huge_body: 3,
    no_http: 5,
    mutated_http: 8,
    cut_off: 4,
    gone: 5,
    pipelined: 2,
    slow: 2,
}
"""Each kind of attack and how often it comes."""
