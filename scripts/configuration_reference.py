"""Write the tables of docs/configuration.md: python scripts/configuration_reference.py docs/configuration.md."""

from __future__ import annotations

import sys
from pathlib import Path

from setpoint.cli.config_schema import reference

_MARK = "<!-- what follows is made by `make docs` from the records; a test compares -->\n"


def page(text: str) -> str:
    """The page with its tables made anew; what stands above the mark is a person's."""
    return text.partition(_MARK)[0] + _MARK + "\n" + reference()


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
