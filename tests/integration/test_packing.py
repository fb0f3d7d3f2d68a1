"""From a path to a stored bundle: the packing process, determinism across processes, and many writers at once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from setpoint.core import (
    BundleNotFound,
    ConfigurationError,
    InvalidConfiguration,
    ModelManifest,
    UnknownFormat,
    UntrustedFile,
)
from setpoint.engines import EngineOptions, load_executable
from setpoint.formats import PackOptions
from setpoint.registry import Registry, open_model, pack_source

IRIS, SPECIES = load_iris(return_X_y=True)
ECHO = """
import setpoint as sp

class Echo(sp.Model):
    @sp.endpoint
    def echo(self, text: str) -> str:
        return text
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def negation(tmp_path: Path) -> Path:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "negation.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def estimator(tmp_path: Path) -> Path:
    path = tmp_path / "iris.joblib"
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(IRIS, SPECIES), path)
    return path


@pytest.fixture
def python_file(tmp_path: Path) -> Callable[..., Path]:
    """``python_file(before)`` is a model's file that starts with the given statements."""

    def write(before: str = "", name: str = "model.py") -> Path:
        path = tmp_path / "python" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(before + ECHO)
        return path

    return write


def test_a_path_becomes_a_bundle_that_runs(registry: Registry, negation: Path) -> None:
    bundle, created = pack_source(negation, registry=registry)
    assert created
    assert bundle.reference == "negation:1"
    registry.verify(bundle)
    executable = load_executable(bundle.manifest.variants[0], registry.folder(bundle), EngineOptions())
    assert executable.run({"x": np.array([[1, 2]], np.float32)})["y"].tolist() == [[-1.0, -2.0]]
    assert pack_source(negation, registry=registry) == (bundle, False)
    named, created = pack_source(str(negation), name="other", registry=registry)
    assert created
    assert (named.reference, named.digest) == ("other:1", bundle.digest)


def test_an_estimator_becomes_a_bundle_that_answers_as_it_does(registry: Registry, estimator: Path) -> None:
    bundle, _ = pack_source(estimator, options=PackOptions(trust=True), registry=registry)
    executable = load_executable(bundle.manifest.variants[0], registry.folder(bundle), EngineOptions())
    label = executable.run({"X": IRIS.astype(np.float32)})["label"]
    np.testing.assert_array_equal(label, joblib.load(estimator).predict(IRIS))


def test_errors_cross_the_process_as_they_are(registry: Registry, estimator: Path, tmp_path: Path) -> None:
    with pytest.raises(UntrustedFile, match="Add --trust"):
        pack_source(estimator, registry=registry)
    (tmp_path / "notes").write_text("nothing")
    with pytest.raises(UnknownFormat, match="of no format that Setpoint reads"):
        pack_source(tmp_path / "notes", registry=registry)
    with pytest.raises(InvalidConfiguration, match="model name 'No Name'"):
        pack_source(tmp_path / "absent", name="No Name", registry=registry)
    assert registry.list() == []


PACK = """
import sys
from pathlib import Path
from setpoint.formats import PackOptions
from setpoint.registry import Registry, pack_source
bundle, _ = pack_source(Path(sys.argv[1]), options=PackOptions(trust=True), registry=Registry(sys.argv[2]))
frameworks = {"sklearn", "skl2onnx", "skops", "joblib", "onnx", "onnxruntime", "scipy"} & set(sys.modules)
print(bundle.digest, sorted(frameworks))
"""


@pytest.mark.parametrize("source", ["negation", "estimator"])
def test_any_process_packs_the_same_digest_and_keeps_no_framework(
    request: pytest.FixtureRequest, tmp_path: Path, source: str
) -> None:
    path = request.getfixturevalue(source)
    said = set()
    for number, seed in enumerate(("0", "1", "random")):
        result = subprocess.run(
            [sys.executable, "-c", PACK, str(path), str(tmp_path / f"registry-{number}")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(result.stdout)
    (line,) = said
    assert line.startswith("sha256:")
    assert line.rstrip().endswith(" []")


def test_what_libraries_print_does_not_disturb_the_answer(registry: Registry, python_file: Callable[..., Path]) -> None:
    noise = (
        "import os, sys\nprint('hello', flush=True)\nos.write(1, b'{\"type\": \"Done\"}')\nos.system('echo shell')\n"
    )
    bundle, _ = pack_source(python_file(noise), registry=registry)
    assert bundle.manifest.lineage.format == "python"


def test_a_class_is_chosen_by_name(registry: Registry, python_file: Callable[..., Path]) -> None:
    path = python_file("", "two.py")
    path.write_text(ECHO + ECHO.replace("Echo", "Other").replace("import setpoint as sp\n", ""))
    bundle, _ = pack_source(f"{path}:Other", registry=registry)
    assert bundle.manifest.variants[0].entry == "Other"


def test_a_packing_process_that_is_killed_is_reported(registry: Registry, python_file: Callable[..., Path]) -> None:
    path = python_file("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(ConfigurationError, match=r"was ended by SIGKILL \(out of memory\?\)"):
        pack_source(path, registry=registry)


def test_a_file_in_the_current_folder_does_not_stand_in_for_a_library(
    registry: Registry, negation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx.py").write_text("raise SystemExit('not the library')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('not the library')")
    monkeypatch.chdir(tmp_path)
    assert pack_source("negation.onnx", registry=registry)[0].reference == "negation:1"


def test_a_trusted_pickle_finds_the_module_beside_it(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Thing:\n    pass\n")
    path = tmp_path / "thing.pkl"
    path.write_bytes(b"\x80\x04cmine\nThing\n)\x81.")
    with pytest.raises(InvalidConfiguration, match=r"holds a mine\.Thing, expected a scikit-learn estimator"):
        pack_source(path, options=PackOptions(trust=True), registry=registry)


def test_what_a_person_types_is_a_path_or_a_name(
    registry: Registry, negation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = open_model(str(negation), registry=registry)
    assert open_model("negation", registry=registry) == packed
    assert open_model(f"negation@{packed.digest}", registry=registry) == packed
    with pytest.raises(BundleNotFound, match=r"no file or folder 'negatoin' here, and .* did you mean negation"):
        open_model("negatoin", registry=registry)
    with pytest.raises(BundleNotFound, match="neither a file or folder here nor the name of a packed model"):
        open_model("Models/absent.onnx", registry=registry)
    monkeypatch.chdir(tmp_path)
    assert open_model("negation.onnx", name="mine", registry=registry).reference == "mine:1"


WRITER = """
import sys
from pathlib import Path
from setpoint.core import Endpoint, Lineage, ModelManifest, Variant
from setpoint.formats import PackedModel
from setpoint.registry import Registry
registry, source, prefix, count = Registry(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
for number in range(count):
    source.write_bytes((prefix + str(number)).encode() * 20_000)
    variant = Variant("a", "onnxruntime", "m.onnx")
    manifest = ModelManifest((Endpoint("predict", (), {}),), (variant,), Lineage("x", "y"))
    bundle, created = registry.add(PackedModel(manifest, {"m.onnx": source}, "m"), "shared")
    registry.set_alias("shared", "latest", bundle.version)
    registry.folder(bundle)
    print(bundle.version, created, flush=True)
"""


def write_many(registry: Registry, tmp_path: Path, prefix: str, count: int, number: int) -> subprocess.Popen[str]:
    arguments = [str(registry.root), str(tmp_path / f"source-{number}"), prefix, str(count)]
    return subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True)


def test_writers_in_many_processes_never_lose_or_repeat_a_version(registry: Registry, tmp_path: Path) -> None:
    """Two pairs write the same content at the same time; readers look all the while."""
    done = threading.Event()
    problems: list[str] = []

    def read() -> None:
        while not done.is_set():
            try:
                bundles = registry.list()
                versions = [bundle.version for bundle in bundles]
                if versions != list(range(1, len(versions) + 1)):
                    problems.append(f"versions {versions}")
            except Exception as error:
                problems.append(repr(error))
                return

    reader = threading.Thread(target=read)
    reader.start()
    writers = [write_many(registry, tmp_path, "ab"[number % 2], 12, number) for number in range(4)]
    said = [line for writer in writers for line in writer.communicate()[0].splitlines()]
    done.set()
    reader.join()
    assert problems == []
    assert [writer.returncode for writer in writers] == [0] * 4
    created = sorted(int(line.split()[0]) for line in said if line.endswith("True"))
    assert created == list(range(1, 25))
    assert len(said) == 48
    for bundle in registry.list():
        registry.verify(bundle)
        folder = registry.folder(bundle)
        assert {path.name for path in folder.iterdir()} == {"m.onnx", "setpoint.json"}
    assert list((registry.root / "tmp").iterdir()) == []


def test_killing_writers_at_any_moment_leaves_a_whole_registry(registry: Registry, tmp_path: Path) -> None:
    chance = random.Random(7)
    for number in range(8):
        writer = write_many(registry, tmp_path, f"w{number}-", 1000, number)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(chance.random() * 0.1)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        bundles = registry.list()
        assert [bundle.version for bundle in bundles] == list(range(1, len(bundles) + 1))
    assert bundles
    for bundle in bundles:
        registry.verify(bundle)
        assert (registry.folder(bundle) / "m.onnx").stat().st_size > 0
    assert registry.resolve("shared:latest").version <= len(bundles)


def test_the_manifest_in_the_folder_is_the_bundles(registry: Registry, negation: Path) -> None:
    bundle, _ = pack_source(negation, registry=registry)
    stored = (registry.folder(bundle) / "setpoint.json").read_bytes()
    assert stored == bundle.manifest.to_json()
    assert ModelManifest.from_json(stored) == bundle.manifest
    assert onnx.load_model(registry.folder(bundle) / "model.onnx").graph.name == "g"
