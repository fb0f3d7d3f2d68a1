"""The admin token, from a file or the environment. It never stands in a setting, so that nothing shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from setpoint.core import InvalidConfiguration

VARIABLE = "SETPOINT_ADMIN_TOKEN"
_LEAST_CHARACTERS = 16


def read_admin_token(file: Path | None, environment: Mapping[str, str]) -> str:
    """The token that whoever loads and unloads models must show; empty where nobody may.

    Args:
        file: with the token alone; goes before the environment.
        environment: of the process.

    Raises:
        InvalidConfiguration: the file cannot be read, or the token is too short to be one.
    """
    if file is None:
        token, origin = environment.get(VARIABLE, "").strip(), VARIABLE
        if not token:
            return ""
    else:
        try:
            token, origin = file.read_text().strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidConfiguration(f"--admin-token-file {file}: {error}") from None
    if len(token) < _LEAST_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidConfiguration(
            f"{origin}: an admin token is at least {_LEAST_CHARACTERS} printable characters without blanks; "
            "openssl rand -hex 32 makes one"
        )
    return token
