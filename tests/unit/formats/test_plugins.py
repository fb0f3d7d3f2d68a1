"""Another distribution adds a format or an engine without touching ours; a broken one is told and passed over."""

import logging
import sys
import tomllib
from pathlib import Path

import pytest

from setpoint import engines, formats
from setpoint.core import InvalidConfiguration, UnknownFormat
from setpoint.formats import recognise

PYPROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
MODULE = """
from pathlib import Path

class TextFormat:
    name = "text"

    def recognises(self, source):
        return source.read_bytes().startswith(b"text")

    def pack(self, source, options, workdir):
        raise NotImplementedError

class ShakyFormat(TextFormat):
    name = "shaky"

    def recognises(self, source):
        raise RuntimeError("I fell over")

class Nothing:
    pass

class Upside:
    name = "upside"

    def load(self, artifact, entry, options):
        return ("loaded", artifact, entry)
"""


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``distribution(entry_points.txt)`` is installed, as far as Python can tell."""

    def install(entry_points: str) -> None:
        place = tmp_path / "site"
        (place / "textual-2.1.dist-info").mkdir(parents=True)
        (place / "textual-2.1.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: textual\nVersion: 2.1\n"
        )
        (place / "textual-2.1.dist-info" / "entry_points.txt").write_text(entry_points)
        (place / "textual_formats.py").write_text(MODULE)
        monkeypatch.syspath_prepend(str(place))

    yield install
    sys.modules.pop("textual_formats", None)


def test_ours_are_registered_as_others_are() -> None:
    points = PYPROJECT["project"]["entry-points"]
    assert points["setpoint.formats"] == formats.BUILT_IN
    assert points["setpoint.engines"] == engines.BUILT_IN


def test_another_distribution_may_offer_a_format(distribution, tmp_path: Path) -> None:
    distribution("[setpoint.formats]\ntext = textual_formats:TextFormat\n")
    path = tmp_path / "file"
    path.write_bytes(b"text of mine")
    assert recognise(path).name == "text"


def test_broken_formats_are_told_and_passed_over(
    distribution, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distribution(
        "[setpoint.formats]\n"
        "absent = no_such_module:Format\n"
        "hollow = textual_formats:Nothing\n"
        "shaky = textual_formats:ShakyFormat\n"
        "text = textual_formats:TextFormat\n"
    )
    path = tmp_path / "file"
    path.write_bytes(b"text of mine")
    with caplog.at_level(logging.WARNING, "setpoint.formats"):
        assert recognise(path).name == "text"
    assert [record.getMessage().partition(" and is passed over")[0] for record in caplog.records] == [
        "the format 'absent' of textual 2.1 cannot be loaded",
        "the format 'hollow' of textual 2.1 has no name, recognises, pack",
        f"the format 'shaky' failed to look at {path}",
    ]


def test_a_broken_plugin_is_told_to_whoever_packs(
    distribution, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distribution("[setpoint.formats]\nabsent = no_such_module:Format\n")
    path = tmp_path / "notes.txt"
    path.write_text("nothing to see")
    with pytest.raises(UnknownFormat):
        formats.pack_isolated(path, formats.PackOptions(), tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        "the format 'absent' of textual 2.1 cannot be loaded and is passed over"
        " (ModuleNotFoundError: No module named 'no_such_module')"
    ]


def test_another_distribution_may_offer_an_engine(distribution) -> None:
    distribution("[setpoint.engines]\nupside = textual_formats:Upside\nabsent = no_such_module:Engine\n")
    assert engines.engine("upside").name == "upside"
    with pytest.raises(InvalidConfiguration, match=r"no engine 'absent'; .*textual 2\.1 cannot be loaded"):
        engines.engine("absent")
    with pytest.raises(InvalidConfiguration, match=r"no engine 'nobody'; expected one of onnxruntime, "):
        engines.engine("nobody")
