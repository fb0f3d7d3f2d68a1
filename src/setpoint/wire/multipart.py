"""multipart/form-data: a body into its parts. Pure.

The whole body is in memory already, so parts are found by searching for the delimiter and are views of it: nothing is
copied, and no byte is looked at by Python.

Source: RFC 7578 (form-data), RFC 2046 section 5.1 (multipart), RFC 2045 section 5.1 (parameters of a header).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from setpoint.core import InvalidRequest, RequestTooLarge

PARTS_LIMIT = 1024
"""Parts of one form; as many rows as a batch may have."""
HEADER_LIMIT_BYTES = 8192
"""Headers of one part together."""
HEADER_COUNT_LIMIT = 16
"""Headers of one part."""
NAME_LIMIT_CHARACTERS = 200
"""Of a field."""
_PADDING_LIMIT_BYTES = 256
_SHOWN = 60
_BOUNDARY = re.compile(rb';\s*boundary\s*=\s*(?:"([^"\r\n]+)"|([^\s;"]+))', re.IGNORECASE)
_BOUNDARY_TEXT = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}):[ \t]*([^\r\n\0]*)")
_PARAMETER = re.compile(rb';[ \t]*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))[ \t]*')
_WIRE_ENCODINGS = (b"", b"7bit", b"8bit", b"binary")


class Part(msgspec.Struct, frozen=True, gc=False):
    """One field of a form, or one of several with its name.

    Attributes:
        name: of the field.
        data: a view of the body.
    """

    name: str
    data: memoryview


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a Content-Type header states.

    Raises:
        InvalidRequest: none, or one that RFC 2046 does not allow.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidRequest("a form whose Content-Type has no boundary; let the client write that header")
    boundary = found[1] or found[2]
    if _BOUNDARY_TEXT.fullmatch(boundary) is None:
        raise InvalidRequest(
            f"the form's boundary {_shown(boundary)} is none: 1 to 70 letters, digits and '()+_,-./:=?"
        )
    return boundary


def parts_of(body: bytes, boundary: bytes) -> Iterator[Part]:
    """The parts of a form, in their order.

    Raises:
        InvalidRequest: the body is no such form; says what is wrong with it, and where.
        RequestTooLarge: more parts or headers than a limit.
    """
    view = memoryview(body)
    opening, delimiter = b"--" + boundary, b"\r\n--" + boundary
    if body.startswith(opening):
        place = len(opening)
    else:  # RFC 2046 lets text stand before the first part, which nobody reads
        before = body.find(delimiter)
        if before < 0:
            raise InvalidRequest(f"the form has no part: its body holds no line --{_shown(boundary)[1:-1]}")
        place = before + len(delimiter)
    number = 0
    while True:
        start = _behind_delimiter(body, place, number)
        if start < 0:
            return
        number += 1
        if number > PARTS_LIMIT:
            raise RequestTooLarge(f"the form has more than {PARTS_LIMIT} parts, which is the limit")
        name, content = _head(body, start, number)
        # The delimiter may follow the head at once: an empty part's own line end is the delimiter's.
        end = body.find(delimiter, content - 2)
        if end < 0:
            raise InvalidRequest(f"part {number} of the form ({name!r}) has no end: the body was cut short")
        yield Part(name, view[content : max(end, content)])
        place = end + len(delimiter)


def _behind_delimiter(body: bytes, place: int, number: int) -> int:
    """Where the next part's headers begin; -1 behind the last part."""
    if body.startswith(b"--", place):
        return -1
    line_end = body.find(b"\r\n", place, place + _PADDING_LIMIT_BYTES)
    if line_end < 0 or body[place:line_end].strip(b" \t"):
        raise InvalidRequest(
            f"the form's boundary is followed by {_shown(body[place : place + 8])} behind part {number};"
            " expected the end of the line, or -- behind the last part"
        )
    return line_end + 2


def _head(body: bytes, start: int, number: int) -> tuple[str, int]:
    """The name of a part, and where its content begins.

    The end of the last header's line is also the first half of the empty line that ends the head.
    """
    end = body.find(b"\r\n\r\n", start, start + HEADER_LIMIT_BYTES + 4)
    if body.startswith(b"\r\n", start):
        raise InvalidRequest(f"part {number} of the form has no Content-Disposition header with its name")
    if end < 0:
        if len(body) - start > HEADER_LIMIT_BYTES:
            raise RequestTooLarge(
                f"part {number} of the form has headers of more than {HEADER_LIMIT_BYTES} bytes", header=True
            )
        raise InvalidRequest(f"part {number} of the form ends within its headers")
    lines = body[start:end].split(b"\r\n", HEADER_COUNT_LIMIT)
    if len(lines) > HEADER_COUNT_LIMIT:
        raise RequestTooLarge(f"part {number} of the form has more than {HEADER_COUNT_LIMIT} headers", header=True)
    name: str | None = None
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise InvalidRequest(f"part {number} of the form has a header that is none: {_shown(line)}")
        field = header[1].lower()
        if field == b"content-disposition":
            if name is not None:
                raise InvalidRequest(f"part {number} of the form has two Content-Disposition headers")
            name = _name(header[2], number)
        elif field == b"content-transfer-encoding" and header[2].strip().lower() not in _WIRE_ENCODINGS:
            raise InvalidRequest(
                f"part {number} of the form is in {_shown(header[2])}; send the bytes as they are (RFC 7578, 4.7)"
            )
    if name is None:
        raise InvalidRequest(f"part {number} of the form has no Content-Disposition header with its name")
    return name, end + 4


def _name(disposition: bytes, number: int) -> str:
    kind, _, rest = disposition.partition(b";")
    if kind.strip().lower() != b"form-data":
        raise InvalidRequest(f"part {number} of the form is {_shown(kind)}; expected Content-Disposition: form-data")
    place, found = 0, None
    rest = b";" + rest if rest.strip() else b""
    while place < len(rest):
        parameter = _PARAMETER.match(rest, place)
        if parameter is None:
            raise InvalidRequest(
                f"part {number} of the form: its Content-Disposition cannot be read from {_shown(rest[place:])} on"
            )
        if parameter[1].lower() == b"name":
            if found is not None:
                raise InvalidRequest(f"part {number} of the form has two names")
            quoted = parameter[2]
            found = re.sub(rb"\\(.)", rb"\1", quoted) if quoted is not None else parameter[3]
        place = parameter.end()
    if not found:
        raise InvalidRequest(f"part {number} of the form has no name")
    try:
        name = found.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"part {number} of the form has a name that is not UTF-8: {_shown(found)}") from None
    if len(name) > NAME_LIMIT_CHARACTERS:
        raise RequestTooLarge(f"part {number} of the form has a name of more than {NAME_LIMIT_CHARACTERS} characters")
    return name


def _shown(text: bytes) -> str:
    """Bytes of a stranger's, as they may stand in a message."""
    return repr(bytes(text[:_SHOWN]).decode("latin-1"))
