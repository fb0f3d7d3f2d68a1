"""The tree of errors is one, and its leaves can be told apart."""

from setpoint.core import MissingExtra, SetpointError
from setpoint.core import errors as module


def leaves(root: type[SetpointError] = SetpointError) -> list[type[SetpointError]]:
    below = [leaf for child in root.__subclasses__() for leaf in leaves(child)]
    return below or [root]


def test_every_leaf_has_a_kind_of_its_own() -> None:
    kinds = [leaf.kind for leaf in leaves() if leaf.__module__ == module.__name__]
    assert len(kinds) == len(set(kinds))
    assert all(kind.replace("_", "").isalpha() and kind.islower() for kind in kinds)


def test_the_drawn_tree_names_every_class() -> None:
    drawn = module.__doc__ or ""
    for leaf in leaves():
        if leaf.__module__ == module.__name__:
            assert f"── {leaf.__name__} " in drawn, leaf


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtra("skops", "sklearn", "packing a.skops")
    assert str(error) == "packing a.skops needs skops, which is not installed: pip install 'setpoint[sklearn]'"
