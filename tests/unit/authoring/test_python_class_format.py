"""Packing a Python class: what is recognised, which files come along, what is refused and why."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from setpoint.core import InvalidConfiguration
from setpoint.engines import EngineOptions
from setpoint.engines.python import PythonEngine
from setpoint.formats import PackOptions, write_function
from setpoint.formats.python_class import PythonClassFormat, kebab_case

FORMAT = PythonClassFormat()
SIMPLE = """
    import setpoint as sp

    class Shout(sp.Model):
        @sp.endpoint
        def shout(self, text: str) -> str:
            return text.upper()
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def write_doubler(path: Path, *, external: bool = False) -> Path:
    """y = 2x, the 2 in a file beside the model if asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    two = numpy_helper.from_array(np.full((3,), 2, np.float32), "two")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "doubler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [two],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save_model(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


def pack(source: Path, workdir: Path, entry: str = "") -> tuple[dict[str, Path], object]:
    packed = FORMAT.pack(source, PackOptions(entry=entry), workdir)
    return packed.files, packed.manifest


@pytest.mark.parametrize(
    "text",
    [
        SIMPLE,
        "import setpoint\nclass A(setpoint.Model): pass",
        "from setpoint import Model\nclass A(Model): pass",
        "from setpoint import Model as M\nclass A(object, M): pass",
        "from setpoint import *\nclass A(Model): pass",
        "from mine import Base\nimport setpoint as sp\nclass A(Base):\n    @sp.endpoint\n    def f(self): pass",
        "import setpoint as sp\nif True:\n    class A(sp.Model): pass",
        "import setpoint as sp\nclass A(sp.Model):\n    def broken(",
    ],
)
def test_files_that_define_a_model_are_recognised(tmp_path: Path, text: str) -> None:
    assert FORMAT.recognises(write(tmp_path, "a.py", text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "class Model: pass\nclass A(Model): pass"),
        ("a.py", "import setpoint as sp\nclass A: pass"),
        ("a.py", "from keras import Model\nclass A(Model): pass"),
        ("a.py", "# import setpoint as sp\nclass A(sp.Model): pass"),
        ("a.py", "def broken("),
        ("a.py", ""),
        ("a.txt", textwrap.dedent(SIMPLE)),
    ],
)
def test_other_files_are_not(tmp_path: Path, name: str, text: str) -> None:
    assert not FORMAT.recognises(write(tmp_path, name, text))
    assert not FORMAT.recognises(tmp_path)


def test_recognising_runs_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.py", f"import setpoint as sp\nopen({str(tmp_path / 'ran')!r}, 'w')\nclass A(sp.Model): pass")
    assert FORMAT.recognises(tmp_path / "a.py")
    assert FORMAT.recognises(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_file_brings_along_what_it_declares_and_imports(tmp_path: Path) -> None:
    source, workdir = tmp_path / "source", tmp_path / "work"
    workdir.mkdir()
    write_doubler(source / "nets" / "double.onnx", external=True)
    write(source, "vocab.txt", "a")
    write(source, "data/deep/x.bin", "x")
    write(source, "data/.hidden", "x")
    write(source, "helper_mod.py", "from package_mod.part import thing\nfrom package_mod import other")
    write(source, "package_mod/__init__.py", "")
    write(source, "package_mod/part.py", "from . import other\nthing = 1")
    write(source, "package_mod/other.py", "import helper_mod")
    write(source, "package_mod/unused.py", "")
    write(source, "unrelated.py", "")
    path = write(
        source,
        "doubler.py",
        """
        import helper_mod
        import json
        import numpy as np
        import setpoint as sp

        class DoubleIt(sp.Model):
            network = sp.uses("nets/double.onnx")
            vocabulary = sp.file("vocab.txt")
            data = sp.file("data")

            def load(self, ctx: sp.Context) -> None:
                assert self.vocabulary.read_text() == "a"
                assert (self.data / "deep" / "x.bin").exists()

            @sp.endpoint(batch=8)
            def double(self, rows: list[sp.Tensor[np.float32, 3]]) -> list[sp.Tensor[np.float32, 3]]:
                return self.network(x=np.stack(rows))["y"]
        """,
    )
    packed = FORMAT.pack(path, PackOptions(), workdir)
    assert set(packed.files) == {
        "doubler.py",
        "helper_mod.py",
        "package_mod/__init__.py",
        "package_mod/part.py",
        "package_mod/other.py",
        "nets/double.onnx",
        "nets/weights.bin",
        "vocab.txt",
        "data/deep/x.bin",
        "setpoint-requirements.txt",
    }
    manifest = packed.manifest
    assert packed.suggested_name == "double-it"
    assert (manifest.variants[0].artifact, manifest.variants[0].entry) == ("doubler.py", "DoubleIt")
    assert manifest.lineage.tools == {"numpy": np.__version__}
    assert manifest.lineage.checks == ("nets/double.onnx: x FP32[-1, 3] → y FP32[-1, 3]",)
    assert str(manifest.signature) == "rows FP32[-1, 3] → output FP32[-1, 3]"
    assert not list(source.rglob("__pycache__"))

    bundle = tmp_path / "bundle"
    for name, file in packed.files.items():
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes(file.read_bytes())
    executable = PythonEngine().load(bundle / "doubler.py", "DoubleIt", EngineOptions())
    try:
        rows = np.arange(60, dtype=np.float32).reshape(20, 3)  # more rows than one batch may hold
        np.testing.assert_array_equal(executable.run({"rows": rows})["output"], rows * 2)
        assert executable.call("double", [b'{"rows":[[1,2,3]]}'])[0].body == b"[[2.0,4.0,6.0]]"
    finally:
        executable.close()


def test_packing_twice_gives_the_same_manifest(tmp_path: Path) -> None:
    path = write(tmp_path, "shout.py", SIMPLE)
    first, second = pack(path, tmp_path)[1], pack(path, tmp_path)[1]
    assert first == second
    write(tmp_path, "shout.py", textwrap.dedent(SIMPLE) + "# changed")
    assert pack(path, tmp_path)[1] != first


def test_a_folder_brings_everything_but_caches_and_hidden_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (".git/x", "__pycache__/a.pyc", "a.pyc", ".env", "venv/pyvenv.cfg", "notes/readme.md", "setpoint.json"):
        write(source, name, "")
    write(source, "other.py", SIMPLE.replace("Shout", "Other"))
    write(source, "model.py", SIMPLE)
    files, _ = pack(source, tmp_path)
    assert set(files) == {"model.py", "other.py", "notes/readme.md"}


def test_a_folder_without_model_py_needs_exactly_one_file_with_a_model(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source, "shout.py", SIMPLE)
    write(source, "notmodel.py", "x = 1")
    assert pack(source, tmp_path)[1].variants[0].artifact == "shout.py"  # type: ignore[attr-defined]
    write(source, "whisper.py", SIMPLE.replace("Shout", "Whisper"))
    with pytest.raises(InvalidConfiguration, match=r"found shout.py, whisper.py; call it model.py"):
        pack(source, tmp_path)
    assert pack(source, tmp_path, entry="Whisper")[1].variants[0].artifact == "whisper.py"  # type: ignore[attr-defined]


def test_of_several_classes_one_must_be_said(tmp_path: Path) -> None:
    both = textwrap.dedent(SIMPLE) + textwrap.dedent(SIMPLE).replace("Shout", "Whisper")
    path = write(tmp_path, "two.py", both)
    with pytest.raises(InvalidConfiguration, match=r"two.py defines several models, Shout, Whisper; say which"):
        pack(path, tmp_path)
    assert pack(path, tmp_path, entry="Whisper")[1].variants[0].entry == "Whisper"  # type: ignore[attr-defined]
    with pytest.raises(InvalidConfiguration, match="no model 'Other'"):
        pack(path, tmp_path, entry="Other")


DECLARING = """
    import setpoint as sp

    class Uses(sp.Model):
        part = {declaration}

        @sp.endpoint
        def run(self, x: int) -> int:
            return x
"""


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("sp.uses('absent.onnx')", "Uses.part: there is no absent.onnx"),
        ("sp.file('absent.txt')", "Uses.part: there is no absent.txt"),
        ("sp.uses('text.txt')", "text.txt is not an ONNX model"),
        ("sp.file('link.txt')", "link.txt is a link out of"),
        ("sp.file('linked')", "linked is a link out of"),
        ("sp.file('folder')", "is a link out of its folder"),
        ("sp.file('../up')", "inside the class's folder"),
    ],
)
def test_declared_files_must_lie_in_the_folder(tmp_path: Path, declaration: str, message: str) -> None:
    source = tmp_path / "source"
    write(tmp_path, "outside/secret.txt", "secret")
    write(source, "text.txt", "text")
    write(source, "folder/inner.txt", "text")
    (source / "link.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (source / "linked").symlink_to(tmp_path / "outside")
    (source / "folder" / "link.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    with pytest.raises(InvalidConfiguration, match=message):
        pack(write(source, "model.py", DECLARING.format(declaration=declaration)), tmp_path)


def test_a_mistake_in_the_source_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"importing a.py failed at a.py:2: SyntaxError"):
        pack(write(tmp_path, "a.py", "import setpoint as sp\nclass A(sp.Model:"), tmp_path)
    with pytest.raises(InvalidConfiguration, match=r"importing b.py failed at b.py:4: NameError: name 'nothing'"):
        pack(write(tmp_path, "b.py", "import setpoint as sp\nclass B(sp.Model):\n    x = 1\nnothing"), tmp_path)


def test_a_model_that_cannot_be_described_is_refused_by_argument(tmp_path: Path) -> None:
    path = write(tmp_path, "a.py", SIMPLE.replace("text: str", "text"))
    with pytest.raises(InvalidConfiguration, match=r"Shout.shout: argument 'text' needs an annotation"):
        pack(path, tmp_path)


FUNCTION_SCRIPT = """
    import dataclasses, sys, typing
    from pathlib import Path
    import msgspec
    import numpy as np
    import setpoint as sp
    from setpoint.formats import write_function

    class Base(msgspec.Struct, rename="camel"):
        first_name: str
        marks: list[int] = []

        def total(self) -> int:
            return sum(self.marks)

    class Person(Base, kw_only=True):
        age: int

    @dataclasses.dataclass
    class Scale:
        by: float
        plus: list[float] = dataclasses.field(default_factory=list)

    FACTOR = 2

    def judge(person: Person, scale: Scale, row: sp.Tensor["float32", 3]) -> dict[str, float]:
        twin = Person(person.first_name, person.marks, age=person.age)
        return {"total": twin.total() * FACTOR, "age": twin.age * scale.by, "sum": float(np.sum(row))}

    write_function(judge, Path(sys.argv[1]))
    write_function(judge, Path(sys.argv[1]))  # the second time msgspec has left its caches on the types
"""


def test_a_function_of_a_script_is_served_with_its_own_types(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    script = write(tmp_path, "script.py", FUNCTION_SCRIPT)
    subprocess.run([sys.executable, script, source], check=True)  # so that its types are __main__'s, as in a notebook
    assert FORMAT.recognises(source)
    packed = FORMAT.pack(source, PackOptions(), tmp_path)
    assert set(packed.files) == {"model.py", "function.pkl", "setpoint-requirements.txt"}
    assert packed.suggested_name == "judge"
    assert {"cloudpickle", "numpy"} <= set(packed.manifest.lineage.tools)
    executable = PythonEngine().load(source / "model.py", "Judge", EngineOptions())
    try:
        person = {"firstName": "Ada", "marks": [1, 2], "age": 36}
        body = {"person": person, "scale": {"by": 0.5}, "row": [1, 2, 3]}
        (answer,) = executable.call("judge", [json.dumps(body).encode()])
        assert json.loads(answer.body) == {"total": 6, "age": 18.0, "sum": 6.0}, answer.message
        del person["age"]
        (answer,) = executable.call("judge", [json.dumps(body).encode()])
        assert answer.message == "missing 'age' in person"
    finally:
        executable.close()


def test_a_function_that_cannot_be_pickled_is_refused_with_the_way_out(tmp_path: Path) -> None:
    handle = iter([1])
    lock = __import__("threading").Lock()

    def stuck(x: int) -> int:
        with lock:
            return x + len(list(handle))

    with pytest.raises(InvalidConfiguration, match=r"'stuck' cannot be pickled .*put it into a file"):
        write_function(stuck, tmp_path)


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("Magika", "magika"),
        ("ONNXEmbedder2", "onnx-embedder2"),
        ("MyBERTModel", "my-bert-model"),
        ("_A_b", "a-b"),
        ("Ä", "model"),
    ],
)
def test_names_are_suggested_in_lower_case(class_name: str, name: str) -> None:
    assert kebab_case(class_name) == name
