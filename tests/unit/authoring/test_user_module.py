"""A user's module is imported under a name of its own, with its siblings, and leaves nothing behind."""

import sys
import textwrap
from pathlib import Path

import pytest

import setpoint as sp
from setpoint.authoring import UserModule, declared_files
from setpoint.authoring.requirements import (
    REQUIREMENTS_FILE,
    Requirement,
    differences,
    read_requirements,
    requirements_of,
    write_requirements,
)
from setpoint.core import ConfigurationError, InvalidConfiguration, ModelError

MODEL = """
    import setpoint as sp
    {imports}

    class Answer(sp.Model):
        @sp.endpoint
        def give(self) -> str:
            {body}
"""


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def test_two_bundles_may_have_siblings_of_one_name(tmp_path: Path) -> None:
    modules = []
    for word in ("first", "second"):
        write(tmp_path / word, "sibling_of_test.py", f"WORD = {word!r}")
        text = MODEL.format(imports="import sibling_of_test", body="return sibling_of_test.WORD")
        modules.append(UserModule(write(tmp_path / word, "model.py", text)))
    try:
        answers = [module.model_class("Answer")().give() for module in modules]  # type: ignore[attr-defined]
    finally:
        for module in modules:
            module.close()
    assert answers == ["first", "second"]


def test_a_sibling_can_be_imported_as_late_as_in_an_endpoint(tmp_path: Path) -> None:
    write(tmp_path, "late_sibling.py", "WORD = 'late'")
    text = MODEL.format(imports="", body="import late_sibling; return late_sibling.WORD")
    module = UserModule(write(tmp_path, "model.py", text))
    try:
        assert module.model_class("Answer")().give() == "late"  # type: ignore[attr-defined]
    finally:
        module.close()


def test_closing_leaves_neither_modules_nor_paths(tmp_path: Path) -> None:
    paths, modules = list(sys.path), set(sys.modules)
    write(tmp_path, "short_lived.py", "")
    UserModule(write(tmp_path, "model.py", MODEL.format(imports="import short_lived", body="return ''"))).close()
    assert sys.path == paths
    assert set(sys.modules) == modules


def test_a_failed_import_leaves_nothing_either(tmp_path: Path) -> None:
    paths, modules = list(sys.path), set(sys.modules)
    with pytest.raises(ModelError):
        UserModule(write(tmp_path, "model.py", "1 / 0"))
    assert sys.path == paths
    assert set(sys.modules) == modules


def test_a_failing_module_is_told_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"importing model.py failed at model.py:3: ZeroDivisionError: division by zero"
    ):
        UserModule(write(tmp_path, "model.py", "\n\n1 / 0"))
    with pytest.raises(ModelError, match=r"at model.py:2: SyntaxError"):
        UserModule(write(tmp_path, "model.py", "\ndef"))
    with pytest.raises(ModelError, match="SystemExit"):
        UserModule(write(tmp_path, "model.py", "raise SystemExit(3)"))


def test_a_missing_library_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, "model.py", "import no_such_library_here.part")
    with pytest.raises(ConfigurationError, match=r"'no_such_library_here' is not installed here: pip install"):
        UserModule(path)
    write_requirements((Requirement("nosuch-dist", "1.2.3", ("no_such_library_here",)),), tmp_path)
    with pytest.raises(ConfigurationError, match=r"packed with nosuch-dist==1.2.3: pip install 'nosuch-dist==1.2.3'"):
        UserModule(path)


def test_other_versions_are_reported_when_loading(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_requirements((Requirement("numpy", "0.0.1", ("numpy",)),), tmp_path)
    UserModule(write(tmp_path, "model.py", "import numpy")).close()
    assert "packed with numpy==0.0.1" in caplog.text


def test_the_models_of_a_module_are_those_it_defines_with_an_endpoint(tmp_path: Path) -> None:
    write(tmp_path, "other_models.py", MODEL.format(imports="", body="return ''").replace("Answer", "Imported"))
    text = MODEL.format(imports="from other_models import Imported", body="return ''")
    module = UserModule(write(tmp_path, "model.py", text + "\n    class Base(sp.Model): pass\n"))
    try:
        assert list(module.model_classes()) == ["Answer"]
        with pytest.raises(InvalidConfiguration, match="no model 'Other'; its models: Answer"):
            module.model_class("Other")
    finally:
        module.close()


def test_requirements_are_written_for_pip_and_read_back(tmp_path: Path) -> None:
    found = requirements_of({"PIL", "numpy", "json", "setpoint", "not_installed_at_all"})
    assert [requirement.distribution for requirement in found] == ["numpy", "pillow"]
    path = write_requirements(found, tmp_path)
    assert path.name == REQUIREMENTS_FILE
    assert f"pillow=={found[1].version}  # import PIL\n" in path.read_text()
    assert read_requirements(tmp_path) == found
    assert differences(found) == []
    assert "not installed" in differences([Requirement("nosuch-dist", "1", ())])[0]


class Declaring(sp.Model):
    encoder = sp.uses("parts/./encoder.onnx")
    vocabulary = sp.file("vocab.txt")
    replaced = sp.file("a.txt")


class Derived(Declaring):
    replaced = sp.file("b.txt")
    vocabulary = None  # type: ignore[assignment]


def test_declarations_are_found_with_their_bases() -> None:
    assert {name: found.path for name, found in declared_files(Derived).items()} == {
        "encoder": "parts/encoder.onnx",
        "replaced": "b.txt",
    }


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b", "", ".", "a\\b"])
def test_declared_paths_stay_inside_the_folder(path: str) -> None:
    for declare in (sp.uses, sp.file):
        with pytest.raises(InvalidConfiguration, match="inside the class's folder"):
            declare(path)


def test_files_are_not_there_before_loading_but_a_test_can_give_its_own() -> None:
    model = Declaring()
    with pytest.raises(ModelError, match=r"Declaring.encoder \(parts/encoder.onnx\) is there once a worker"):
        _ = model.encoder
    model.vocabulary = Path("mine.txt")  # type: ignore[assignment]
    assert model.vocabulary == Path("mine.txt")
