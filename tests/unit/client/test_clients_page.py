"""docs/clients.md: what its Python says can be written."""

import ast
import re
from pathlib import Path

from setpoint.client import AsyncClient, Client

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "clients.md").read_text()


def test_its_examples_are_python() -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        ast.parse(example)


def test_what_it_calls_is_there() -> None:
    for name in re.findall(r"client\.(\w+)\(", PAGE.partition("## The Python client")[2]):
        assert callable(getattr(Client, name))
        assert callable(getattr(AsyncClient, name))


def test_both_clients_offer_the_same() -> None:
    public = {name for name in vars(Client) if not name.startswith("_")}
    assert public == {name for name in vars(AsyncClient) if not name.startswith("_")}
