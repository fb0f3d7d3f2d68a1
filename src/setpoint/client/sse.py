"""Server-sent events, as far as a node sends them. Source: WHATWG HTML, section 9.2."""

from __future__ import annotations

import msgspec

from setpoint.core import ModelError, SetpointError

_EVENT_LIMIT_BYTES = 64 << 20


class EventReader:
    """Puts events together from pieces of a body."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._waiting_bytes = 0
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of each event that is complete now.

        Raises:
            SetpointError: the node sent an event named ``error``, or something that is none.
        """
        self._rest.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > _EVENT_LIMIT_BYTES:
            raise ModelError(f"an event has more than {_EVENT_LIMIT_BYTES} bytes")
        if b"\n" not in piece:
            return []  # a long event is put together once, and not with each piece of it
        lines = b"".join(self._rest).split(b"\n")
        self._rest = [lines.pop()]
        self._waiting_bytes = len(self._rest[0])
        events = []
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"event:"):
                self._name = line[6:].strip().decode("utf-8", "replace")
            elif not line and self._data:
                data = b"\n".join(self._data)
                if self._name == "error":
                    raise _broken_off(data)
                events.append(data)
            if not line:
                self._name, self._data = "", []
        return events


def _broken_off(data: bytes) -> SetpointError:
    try:
        return ModelError(str(msgspec.json.decode(data, type=dict[str, str])["error"]))
    except (msgspec.MsgspecError, KeyError):
        return ModelError(data.decode("utf-8", "replace"))
