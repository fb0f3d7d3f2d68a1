"""Thousands of attacks on one node, with good requests among them whose answers are checked."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hostile.attacks import Attack, Broken, Check, Conversation, Leave, Message
from hostile.bodies import BODIES, INFER, large, post
from hostile.http2 import HTTP2, Frames, Reader, Streams, streams
from hostile.models import Iris
from hostile.responses import Incomplete, MalformedResponse, Response, read_response, read_responses
from hostile.transport import TRANSPORT

_ANSWER_LIMIT_S = 30.0
_CLOSE_LIMIT_S = 10.0
_COMPLAINTS_KEPT_OF_A_KIND = 3


@dataclass
class Tally:
    """What happened.

    Attributes:
        sent: requests (or what was meant to look like some) by kind; ``hostile`` is all but the good ones.
        statuses: responses by status.
        good: good requests whose answers were right.
        wrong: what went wrong, by kind of attack.
        complaints: in words, the first three of each kind.
    """

    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    good: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    @property
    def hostile(self) -> int:
        return self.sent.total() - self.sent["good"]

    def add(self, other: Tally) -> None:
        """Count what happened elsewhere, too."""
        self.sent += other.sent
        self.statuses += other.statuses
        self.good += other.good
        self.wrong += other.wrong
        self.complaints += other.complaints

    def complain(self, kind: str, what: str, payload: bytes) -> None:
        self.wrong[kind] += 1
        if self.wrong[kind] <= _COMPLAINTS_KEPT_OF_A_KIND:
            shown = payload if len(payload) <= 400 else payload[:300] + b" ... " + payload[-100:]
            self.complaints.append(f"{kind}: {what}\n    sent {len(payload)} bytes: {shown!r}")


def good_request(rng: random.Random, iris: Iris) -> Message:
    """Rows of the data set; the answer must be scikit-learn's."""
    chosen = iris.choose(rng)
    data = iris.rows[chosen].astype(float)
    values = data.tolist() if rng.random() < 0.5 else data.reshape(-1).tolist()
    tensor = {"name": "X", "shape": [len(chosen), 4], "datatype": "FP32", "data": values}
    body = json.dumps({"id": "good", "inputs": [tensor]}).encode()

    def check(response: Response) -> str:
        if response.status != 200:
            return f"status {response.status}: {response.body[:300]!r}"
        return iris.complaint(response.json, chosen)

    return post(INFER, body, kind="good", check=check)


def attacks(rng: random.Random, iris: Iris, requests: int, small: bool = False) -> Iterator[Attack | Streams | Frames]:
    """A mixture of everything, until so many hostile requests were made; good ones come on top, one to four of them.

    ``small`` leaves out the bodies of a megabyte: what the heap keeps of those hides what leaks of the others.
    """
    made = 0
    bodies = {kind: weight for kind, weight in BODIES.items() if not small or kind is not large}
    while made < requests:
        roll = rng.random()
        if roll < 0.2:
            attack: Attack | Streams | Frames = good_request(rng, iris)
        elif roll < 0.65:
            attack = rng.choices(list(bodies), list(bodies.values()))[0](rng)
        elif roll < 0.9:
            attack = rng.choices(list(TRANSPORT), list(TRANSPORT.values()))[0](rng)
        else:
            attack = rng.choices(list(HTTP2), list(HTTP2.values()))[0](rng)
        if isinstance(attack, Conversation):
            made += len(attack.messages) - 1
            attack = Conversation(attack.kind, _with_good_ones(attack.messages, rng, iris), attack.cuts, attack.pause_s)
        elif isinstance(attack, Streams):
            made += len(attack.messages) - 1
            attack = streams(_with_good_ones(attack.messages, rng, iris))
        made += 0 if roll < 0.2 else 1
        yield attack


def _with_good_ones(asked: tuple[Message, ...], rng: random.Random, iris: Iris) -> tuple[Message, ...]:
    messages = []
    for message in asked:
        messages.append(message)
        if rng.random() < 0.3:
            messages.append(good_request(rng, iris))
    return tuple(messages)


class Connection:
    """A plain connection that keeps what it read ahead."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.unread = b""

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, payload: bytes, cuts: tuple[int, ...] = (), pause_s: float = 0.0) -> None:
        for start, end in zip((0, *cuts), (*cuts, len(payload)), strict=True):
            self.writer.write(payload[start:end])
            if cuts:
                await asyncio.sleep(pause_s)
        await self.writer.drain()

    async def read(self, method: bytes) -> Response:
        """One response.

        Raises:
            MalformedResponse: it is not HTTP, or the node closed before it was whole.
        """
        while True:
            try:
                response, used = read_response(self.unread, method)
            except Incomplete:
                more = await asyncio.wait_for(self.reader.read(1 << 16), _ANSWER_LIMIT_S)
                if not more:
                    raise MalformedResponse(f"the node closed instead of answering; it said {self.unread!r}") from None
                self.unread += more
            else:
                self.unread = self.unread[used:]
                return response

    async def read_to_end(self) -> bytes:
        """All until the node closes."""

        async def rest() -> bytes:
            parts = []
            try:
                while more := await self.reader.read(1 << 16):
                    parts.append(more)
            except ConnectionError:
                parts.append(b"")  # what was read before the reset stands
            return b"".join(parts)

        return self.unread + await asyncio.wait_for(rest(), _CLOSE_LIMIT_S)

    def close(self, reset: bool = False) -> None:
        if reset:
            connected: socket.socket = self.writer.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort() if reset else self.writer.close()


class Attacker:
    """One client that attacks and asks in turn, on a connection that it keeps as long as the node does."""

    def __init__(self, port: int, tally: Tally) -> None:
        self._port = port
        self._tally = tally
        self._kept: Connection | None = None

    async def attack(self, attack: Attack | Streams | Frames) -> None:
        messages = attack.messages if isinstance(attack, Conversation) else (attack,)
        payload = b"".join(message.payload for message in messages)
        try:
            if isinstance(attack, Message):
                await self._ask((attack,), payload)
            elif isinstance(attack, Conversation):
                await self._ask(attack.messages, payload, attack.cuts, attack.pause_s)
            elif isinstance(attack, Streams):
                await self._stream(attack)
            elif isinstance(attack, Frames):
                await self._flood(attack)
            elif isinstance(attack, Broken):
                await self._break(attack)
            else:
                await self._leave(attack)
        except (MalformedResponse, TimeoutError, OSError) as error:
            self._tally.complain(attack.kind, f"{type(error).__name__}: {error}", payload)
            self._drop()

    async def _ask(
        self, messages: tuple[Message, ...], payload: bytes, cuts: tuple[int, ...] = (), pause_s: float = 0.0
    ) -> None:
        if self._kept is None:
            self._kept = await Connection.open(self._port)
        connection = self._kept
        sending = asyncio.create_task(connection.send(payload, cuts, pause_s))
        try:
            for message in messages:
                self._judge(message.kind, await connection.read(message.method), message.check, message.payload)
        finally:
            sending.cancel() if not sending.done() else None
            await asyncio.gather(sending, return_exceptions=True)

    def _judge(self, kind: str, response: Response, check: Check, payload: bytes) -> None:
        self._tally.sent[kind] += 1
        self._tally.statuses[response.status] += 1
        complaint = check(response)
        if response.closes and not complaint:
            complaint = "a good message ended the connection"
        if complaint:
            self._tally.complain(kind, complaint, payload)
        elif kind == "good":
            self._tally.good += 1
        if response.closes:
            self._drop()

    async def _break(self, attack: Broken) -> None:
        connection = await Connection.open(self._port)
        try:
            try:
                await connection.send(attack.payload, attack.cuts, attack.pause_s)
                connection.writer.write_eof()
            except ConnectionError:
                pass  # refused before all was sent: what it says is read below
            responses = read_responses(await connection.read_to_end(), attack.methods)
        finally:
            connection.close()
        self._tally.sent[attack.kind] += 1
        self._tally.statuses.update(response.status for response in responses)
        complaints = [complaint for response in responses if (complaint := attack.allowed(response))]
        if attack.answers is not None and len(responses) != attack.answers:
            complaints.append(f"{len(responses)} responses, expected {attack.answers}")
        if complaints:
            self._tally.complain(attack.kind, "; ".join(complaints), attack.payload)

    async def _stream(self, attack: Streams) -> None:
        """Ask all at once over HTTP/2; each answer must be that of HTTP/1.1."""
        connection, reader = await Connection.open(self._port), Reader()
        sending = asyncio.create_task(connection.send(attack.payload))
        try:
            while len(reader.ended) < len(attack.messages):
                data = await asyncio.wait_for(connection.reader.read(1 << 16), _ANSWER_LIMIT_S)
                if not data:
                    raise MalformedResponse(f"the node closed; {len(reader.ended)} streams had ended")
                reader.feed(data)
        finally:
            sending.cancel() if not sending.done() else None
            await asyncio.gather(sending, return_exceptions=True)
            connection.close()
        for index, message in enumerate(attack.messages):
            self._judge(message.kind, reader.ended[1 + 2 * index], message.check, message.payload)

    async def _flood(self, attack: Frames) -> None:
        """Send, half-close, and read to the end: whole frames, and no server error."""
        connection, reader = await Connection.open(self._port), Reader()
        try:
            try:
                await connection.send(attack.payload, attack.cuts)
                connection.writer.write_eof()
            except OSError:
                pass
            reader.feed(await connection.read_to_end())
        finally:
            connection.close()
        self._tally.sent[attack.kind] += 1
        self._tally.statuses.update(response.status for response in reader.ended.values())
        if any(response.status >= 500 for response in reader.ended.values()):
            self._tally.complain(attack.kind, f"{reader.ended}", attack.payload)

    async def _leave(self, attack: Leave) -> None:
        connection = await Connection.open(self._port)
        await connection.send(attack.payload)
        await asyncio.sleep(attack.after_s)
        connection.close(attack.reset)
        self._tally.sent[attack.kind] += 1

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def close(self) -> None:
        self._drop()


async def campaign(
    port: int, iris: Iris, requests: int, seed: int, *, small: bool = False, attackers: int = 16
) -> Tally:
    """Attack a node with so many hostile requests (or a few more); returns what happened."""
    tally = Tally()
    source = attacks(random.Random(seed), iris, requests, small)

    async def go(attacker: Attacker) -> None:
        for attack in source:
            await attacker.attack(attack)
        attacker.close()

    await asyncio.gather(*(go(Attacker(port, tally)) for _ in range(attackers)))
    return tally
