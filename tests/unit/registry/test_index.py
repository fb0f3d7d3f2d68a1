"""The index as a state machine: versions only grow, aliases move, other tools' entries stay."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from setpoint.core import BundleNotFound, CorruptBundle, InvalidConfiguration
from setpoint.registry import Reference
from setpoint.registry.index import Index
from setpoint.registry.oci import ANNOTATION_REF, MEDIA_MANIFEST, Descriptor


def digest(content: int) -> str:
    return f"sha256:{content:064x}"


def index_of(*contents: int, name: str = "iris") -> Index:
    index = Index()
    for content in contents:
        index = index.with_version(name, digest(content), 1, "2026-11-22T00:00:00Z")[0]
    return index


class IndexMachine(RuleBasedStateMachine):
    """The index beside a plain dictionary model of it, written and read again after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index()
        self.versions: dict[str, list[str]] = {}
        self.aliases: dict[tuple[str, str], int] = {}

    @rule(name=st.sampled_from(["iris", "wine"]), content=st.integers(0, 5))
    def add(self, name: str, content: int) -> None:
        known = self.versions.setdefault(name, [])
        self.index, version, created = self.index.with_version(name, digest(content), 10, "2026-11-22T00:00:00Z")
        assert created is (digest(content) not in known)
        if created:
            known.append(digest(content))
        assert version == known.index(digest(content)) + 1

    @precondition(lambda self: self.versions)
    @rule(data=st.data(), alias=st.sampled_from(["champion", "challenger"]))
    def move_alias(self, data: st.DataObject, alias: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.versions)))
        version = data.draw(st.integers(1, len(self.versions[name])))
        self.index = self.index.with_alias(name, alias, version)
        self.aliases[name, alias] = version

    @precondition(lambda self: self.aliases)
    @rule(data=st.data())
    def remove_alias(self, data: st.DataObject) -> None:
        name, alias = data.draw(st.sampled_from(sorted(self.aliases)))
        self.index = self.index.without_alias(name, alias)
        del self.aliases[name, alias]

    @invariant()
    def answers_as_the_model_does(self) -> None:
        self.index = Index.from_json(self.index.to_json())
        assert self.index.names() == tuple(sorted(self.versions))
        for name, known in self.versions.items():
            assert [entry.digest for entry in self.index.versions(name).values()] == known
            assert self.index.find(Reference(name)) == len(known)
            for version, content in enumerate(known, start=1):
                assert self.index.find(Reference(name, version=version)) == version
                assert self.index.find(Reference(name, digest=content.removeprefix("sha256:"))) == version
        for (name, alias), version in self.aliases.items():
            assert self.index.find(Reference(name, alias=alias)) == version


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_a_version_number_is_never_given_twice() -> None:
    index = index_of(1, 2)
    emptied = msgspec.structs.replace(index, manifests=())  # as if somebody had taken the tags away
    assert emptied.with_version("iris", digest(3), 1, "")[1] == 3


def test_entries_of_other_tools_are_kept_as_they_are() -> None:
    foreign = Descriptor(
        MEDIA_MANIFEST, digest(9), 7, annotations={ANNOTATION_REF: "Some/Image:1"}, platform={"os": "linux"}
    )
    index = Index(manifests=(foreign,))
    changed = index.with_version("iris", digest(1), 1, "")[0].with_alias("iris", "champion", 1)
    assert foreign in Index.from_json(changed.to_json()).manifests
    assert changed.names() == ("iris",)


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        (Reference("irsi"), "did you mean iris"),
        (Reference("zebra"), "there are: iris"),
        (Reference("iris", version=9), "it has: 1, 2"),
        (Reference("iris", alias="champoin"), "did you mean iris:champion"),
        (Reference("iris", digest="ffffff"), "no version with a digest that starts with sha256:ffffff"),
        (Reference("iris", digest="000000"), r"versions \[1, 2\] with a digest"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(reference: Reference, complaint: str) -> None:
    index = index_of(1, 2).with_alias("iris", "champion", 1)
    with pytest.raises(BundleNotFound, match=complaint):
        index.find(reference)


def test_an_empty_registry_says_how_to_fill_it() -> None:
    with pytest.raises(BundleNotFound, match="setpoint pack PATH"):
        Index().find(Reference("iris"))


def test_an_alias_is_never_a_number() -> None:
    with pytest.raises(InvalidConfiguration, match="a version is a number"):
        index_of(1).with_alias("iris", "2", 1)


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b'{"manifests": 3}'])
def test_a_damaged_index_is_named(document: bytes) -> None:
    with pytest.raises(CorruptBundle, match=r"index\.json"):
        Index.from_json(document)
