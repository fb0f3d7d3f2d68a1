"""References, how a person names a bundle: ``iris``, ``iris:3``, ``iris:champion``, ``iris@sha256:…``."""

from __future__ import annotations

import re

import msgspec

from setpoint.core import InvalidConfiguration

NAME_LENGTH_LIMIT = 128
RESERVED_NAMES = frozenset({"stats"})  # GET /v2/models/stats lists statistics of all models
SHORTEST_DIGEST = 6  # hex digits; as many as tables print at least

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_ALIAS = re.compile(r"[a-z]([a-z0-9._-]*[a-z0-9])?")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_DIGEST = re.compile(rf"[0-9a-f]{{{SHORTEST_DIGEST},64}}")
_NAME_RULE = "letters a-z, digits, and . _ - between them"


class Reference(msgspec.Struct, frozen=True):
    """A parsed reference. At most one of version, alias and digest is given; none means the newest version.

    Attributes:
        name: of the model.
        version: 0 when not given.
        alias: empty when not given.
        digest: hex digits after ``sha256:``, possibly only the first few; empty when not given.
    """

    name: str
    version: int = 0
    alias: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference; ``str()`` gives it back.

        Raises:
            InvalidConfiguration: the text is not one; the message says which part.
        """
        name, at, digest = text.partition("@")
        if at:
            algorithm, _, hexadecimal = digest.partition(":")
            if algorithm != "sha256" or not _DIGEST.fullmatch(hexadecimal):
                raise InvalidConfiguration(
                    f"reference {text!r}: expected NAME@sha256: and {SHORTEST_DIGEST} to 64 hex digits"
                )
            return cls(check_name(name), digest=hexadecimal)
        name, colon, tag = text.partition(":")
        check_name(name)
        if not colon:
            return cls(name)
        if _VERSION.fullmatch(tag):
            return cls(name, version=int(tag))
        return cls(name, alias=check_alias(tag))

    def __str__(self) -> str:
        if self.digest:
            return f"{self.name}@sha256:{self.digest}"
        tag = self.alias or (str(self.version) if self.version else "")
        return f"{self.name}:{tag}" if tag else self.name


def check_name(name: str) -> str:
    """Return ``name`` when a model may be called so.

    Raises:
        InvalidConfiguration: it may not; the message says why.
    """
    if name in RESERVED_NAMES:
        raise InvalidConfiguration(f"model name {name!r} is taken by the server's own routes; choose another")
    if len(name) > NAME_LENGTH_LIMIT:
        raise InvalidConfiguration(f"model name has {len(name)} characters, at most {NAME_LENGTH_LIMIT} are allowed")
    if not _NAME.fullmatch(name):
        raise InvalidConfiguration(f"model name {name!r} is not valid: expected {_NAME_RULE}")
    return name


def check_alias(alias: str) -> str:
    """Return ``alias`` when a version may be called so; an alias starts with a letter, so it is never a version.

    Raises:
        InvalidConfiguration: it may not.
    """
    if len(alias) > NAME_LENGTH_LIMIT or not _ALIAS.fullmatch(alias):
        raise InvalidConfiguration(
            f"alias {alias[:NAME_LENGTH_LIMIT]!r} is not valid: expected a letter, then {_NAME_RULE}"
            " (a version is a number such as 3)"
        )
    return alias


def name_from(text: str) -> str:
    """Turn any text, such as a file's stem, into a valid model name."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:NAME_LENGTH_LIMIT].strip("._-")
    return "model" if not name else f"{name}-model" if name in RESERVED_NAMES else name
