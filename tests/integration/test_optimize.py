"""Optimising in real workers: liars are caught, makers that fail are passed over, what is stored is served."""

import json
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import setpoint as sp
from setpoint.cli.main import main
from setpoint.core import InvalidConfiguration, Objective
from setpoint.machine import engine_fingerprint, read_machine
from setpoint.optimize import Optimizer, Request
from setpoint.optimize.measuring import Rules
from setpoint.registry import EVIDENCE, Registry, pack_source

QUICK = Rules(rounds_least=2, rounds_most=2)
DROP = Objective.parse("p99<=1s, drop<=1%")
OPSET = [helper.make_opsetid("", 17)]


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray, LogisticRegression]:
    """The images as rows of 64 values from 0 to 16, their labels, and a classifier fitted to a third of them."""
    images, labels = load_digits(return_X_y=True)
    return images.astype(np.float32), labels, LogisticRegression(max_iter=300, C=0.02).fit(images[:600], labels[:600])


@pytest.fixture
def classifier(tmp_path: Path, digits) -> Path:
    """The classifier as ONNX: one product and a softmax."""
    _, _, fitted = digits
    constants = [("w", fitted.coef_.T.astype(np.float32)), ("b", fitted.intercept_.astype(np.float32))]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("x", 64), ("probabilities", 10))
    ]
    initializers = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants]
    graph = helper.make_graph(nodes, "digits", value[:1], value[1:], initializers)
    path = tmp_path / "digits.onnx"
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=8), path)
    return path


@pytest.fixture
def labelled(tmp_path: Path, digits) -> Path:
    """What the classifier was not fitted to, with the true labels."""
    images, labels, _ = digits
    path = tmp_path / "labelled.npz"
    np.savez(path, x=images[600:], label=labels[600:])
    return path


LIARS = '''
"""Makers of another distribution."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from setpoint.optimize.makers import Made


class Saturating:
    """8-bit weights as a processor without VNNI multiplies them: pairs of products, summed in 16 bits that overflow."""

    trains = False

    def __init__(self, name="saturating", largest=127):
        self.name, self.largest = name, largest

    def make(self, job):
        model = onnx.load_model(job.model)
        given = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        scale = np.abs(given["w"]).max(axis=0) / self.largest
        weights = np.clip(np.round(given["w"] / scale), -self.largest, self.largest).reshape(1, 32, 2, 10)
        constants = {
            "to_8_bits": 255 / 16, "zero": 0, "most": 255, "lowest": -32768, "highest": 32767, "b": given["b"],
            "weights": weights, "back": scale * 16 / 255,
        }
        shapes = {"pairs": [0, 32, 2, 1], "axis_2": [2], "axis_1": [1]}
        nodes = [
            helper.make_node(kind, inputs, [output], **more)
            for kind, inputs, output, more in [
                ("Mul", ["x", "to_8_bits"], "scaled", {}),
                ("Round", ["scaled"], "rounded", {}),
                ("Clip", ["rounded", "zero", "most"], "bytes", {}),
                ("Reshape", ["bytes", "pairs"], "paired", {}),
                ("Mul", ["paired", "weights"], "products", {}),
                ("ReduceSum", ["products", "axis_2"], "sums", {"keepdims": 0}),
                ("Clip", ["sums", "lowest", "highest"], "saturated", {}),
                ("ReduceSum", ["saturated", "axis_1"], "whole", {"keepdims": 0}),
                ("Mul", ["whole", "back"], "restored", {}),
                ("Add", ["restored", "b"], "scores", {}),
                ("Softmax", ["scores"], "probabilities", {"axis": 1}),
            ]
        ]
        tensors = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()]
        tensors += [numpy_helper.from_array(np.asarray(v, np.int64), k) for k, v in shapes.items()]
        graph = helper.make_graph(nodes, "liar", model.graph.input, model.graph.output, tensors)
        path = Path(job.workdir) / "made.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return [Made(self.name, "int8", path, note="answers off by 0.0%")]


def seven_bits():
    return Saturating("seven-bits", 63)


class Truncated:
    """Half of what goes in is taken away, and nothing makes up for it."""

    name, trains = "truncated", False

    def make(self, job):
        model = onnx.load_model(job.model)
        weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
        array = numpy_helper.to_array(weights).copy()
        array[::2] = 0
        weights.CopyFrom(numpy_helper.from_array(array, "w"))
        path = Path(job.workdir) / "made.onnx"
        onnx.save(model, path)
        return [Made(self.name, "fp32", path, note="answers off by 0.0%", same=True)]


class Failing:
    name, trains = "failing", False

    def make(self, job):
        raise RuntimeError("this graph has no heart")


class Crashing:
    name, trains = "crashing", False

    def make(self, job):
        import os

        os.abort()
'''


@pytest.fixture
def makers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that offers makers."""
    site = tmp_path / "site"
    (site / "liars-1.0.dist-info").mkdir(parents=True)
    (site / "liars.py").write_text(textwrap.dedent(LIARS))
    (site / "liars-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: liars\nVersion: 1.0\n")
    (site / "liars-1.0.dist-info" / "entry_points.txt").write_text(
        "[setpoint.makers]\nsaturating = liars:Saturating\nseven-bits = liars:seven_bits\n"
        "truncated = liars:Truncated\nfailing = liars:Failing\ncrashing = liars:Crashing\n"
    )
    monkeypatch.syspath_prepend(str(site))


def optimized(model: Path, data: Path | None, tmp_path: Path, makers: tuple[str, ...], **request):
    """Pack and optimise on one core; returns what was found and the bundle stored."""
    registry = Registry(tmp_path / "home")
    bundle, _ = pack_source(model, name="digits", registry=registry)
    workdir = tmp_path / "work"
    workdir.mkdir(parents=True)
    asked = Request(**{"objective": DROP, "data": data, "makers": makers, **request})
    machine = msgspec.structs.replace(read_machine(), cores=1)
    study, packed = Optimizer(bundle, registry.folder(bundle), workdir, asked, machine=machine, rules=QUICK).run()
    return study, registry.add(packed, "digits")[0]


def test_a_saturating_variant_is_caught_whatever_its_maker_says(classifier, labelled, makers, tmp_path) -> None:
    study, stored = optimized(classifier, labelled, tmp_path, ("saturating", "truncated", "seven-bits"))
    entries = {entry.variant.name: entry for entry in study.entries}
    honest = entries["seven-bits"]
    for liar in (entries["saturating"], entries["truncated"]):
        assert liar.note == "answers off by 0.0%"
        assert liar.verdict.loss.low > 0.0, "it certainly loses"
        assert liar.dropped.startswith("may lose ")
        assert all(variant.name != liar.variant.name for variant in stored.manifest.variants)
    assert honest.verdict.loss.high < 0.01, "the same arithmetic with room to spare is within the floor"
    assert honest.variant.accuracy > 0.99
    assert "more than 1 %" not in honest.dropped


def test_makers_that_fail_or_crash_are_reported_and_end_nothing(classifier, labelled, makers, tmp_path) -> None:
    study, _ = optimized(classifier, labelled, tmp_path, ("failing", "crashing", "int8-dynamic"))
    reasons = {skipped.maker: skipped.reason for skipped in study.skipped}
    assert reasons["failing"] == "RuntimeError: this graph has no heart"
    assert reasons["crashing"] == "it was ended by signal 6"
    assert "int8-dynamic" in reasons, "640 weights are none to speak of"
    assert [entry.variant.name for entry in study.entries] == ["fp32"]


def test_what_is_stored_states_what_was_measured_and_is_served(
    classifier, labelled, makers, tmp_path, home, serve, digits
) -> None:
    study, stored = optimized(classifier, labelled, tmp_path, ("seven-bits",))
    assert stored.version == 2
    assert {profile.variant for profile in stored.manifest.profiles} == {v.name for v in stored.manifest.variants}
    assert {profile.hardware for profile in stored.manifest.profiles} == {engine_fingerprint("onnxruntime")}
    assert {profile.threads for profile in stored.manifest.profiles} == {1}
    assert stored.manifest.variants[0].name == "fp32", "the original comes first"
    evidence = json.loads((Registry(tmp_path / "home").folder(stored) / EVIDENCE).read_text())
    assert evidence["entries"][1]["verdict"]["loss"]["rows"] == study.entries[1].verdict.loss.rows
    grid = evidence["grid"]
    assert grid["points"] in (7, 14), "one variant or two, one layout, sizes from 1 to 64"
    assert 0 < grid["measured"] <= grid["points"] - grid["predicted"]
    node = serve("digits")
    images, _, fitted = digits
    answer = node.call("digits/predict", x=images[:2].tolist()).json
    got = np.array(answer["probabilities"])
    np.testing.assert_allclose(got, fitted.predict_proba(images[:2]), atol=1e-3)


def test_optimising_again_begins_with_the_original(classifier, labelled, makers, tmp_path) -> None:
    optimized(classifier, labelled, tmp_path, ("seven-bits",))
    registry = Registry(tmp_path / "home")
    bundle = registry.resolve("digits")
    workdir = tmp_path / "again"
    workdir.mkdir()
    machine = msgspec.structs.replace(read_machine(), cores=1)
    again = Optimizer(
        bundle,
        registry.folder(bundle),
        workdir,
        Request(DROP, labelled, makers=("seven-bits",)),
        machine=machine,
        rules=QUICK,
    )
    study, packed = again.run()
    assert [entry.variant.name for entry in study.entries] == ["fp32", "seven-bits"]
    assert registry.add(packed, "digits")[0].version == 3


def test_what_was_made_before_is_not_made_again(classifier, labelled, makers, tmp_path, monkeypatch) -> None:
    cache = tmp_path / "cache"
    first, _ = optimized(classifier, labelled, tmp_path / "a", ("seven-bits",), cache=cache)
    monkeypatch.setattr("setpoint.optimize.optimizer.make", lambda name, *_: pytest.fail(f"{name} was asked again"))
    second, stored = optimized(classifier, labelled, tmp_path / "b", ("seven-bits",), cache=cache)
    assert [entry.verdict for entry in first.entries] == [entry.verdict for entry in second.entries]
    assert [entry.size_bytes for entry in first.entries] == [entry.size_bytes for entry in second.entries]
    assert stored.version == 2


def test_without_data_nothing_is_promised(classifier, makers, tmp_path) -> None:
    study, stored = optimized(classifier, None, tmp_path, ("seven-bits", "truncated"))
    assert not study.promised
    assert [variant.name for variant in stored.manifest.variants] == ["fp32"], "the objective limits the loss"
    dropped = {entry.variant.name: entry.dropped for entry in study.entries}
    assert dropped["truncated"], "that it calls itself the same arithmetic does not make it so"
    assert study.warnings[0] == "no data was given: variants were compared on made-up rows, and no accuracy is promised"


def test_without_data_a_variant_serves_only_where_no_loss_is_limited_or_made_up_rows_are_accepted(
    classifier, makers, tmp_path
) -> None:
    free, stored = optimized(classifier, None, tmp_path / "free", ("seven-bits",), objective=None)
    kept = {entry.variant.name: entry for entry in free.entries if entry.kept}
    for variant in stored.manifest.variants[1:]:
        assert kept[variant.name].variant.accuracy > 0.0, "its agreement is shown"
        assert variant.accuracy == 0.0, "no objective that limits the loss takes it"
    taken, _ = optimized(classifier, None, tmp_path / "taken", ("seven-bits", "truncated"), accept_made_up=True)
    entries = {entry.variant.name: entry for entry in taken.entries}
    assert taken.accepted
    assert all(entry.promised for entry in entries.values())
    assert entries["seven-bits"].verdict.loss.rows > 1000, "fewer would say nothing of a per cent"
    assert entries["truncated"].dropped.startswith("may lose ")


def test_the_same_arithmetic_with_the_same_answers_serves_without_data(classifier, tmp_path) -> None:
    pytest.importorskip("openvino")
    study, _ = optimized(classifier, None, tmp_path, ("openvino",))
    same = next(entry for entry in study.entries if entry.variant.name == "openvino-fp32")
    assert same.promised
    assert same.stored.accuracy == 1.0


def test_a_python_class_has_no_variants(tmp_path) -> None:
    source = tmp_path / "echo.py"
    says = "    @sp.endpoint\n    def say(self, text: str) -> str:\n        return text\n"
    source.write_text(f"import setpoint as sp\n\n\nclass Echo(sp.Model):\n{says}")
    registry = Registry(tmp_path / "home")
    bundle, _ = pack_source(source, registry=registry)
    with pytest.raises(InvalidConfiguration, match="is a Python class; variants are made of models that are graphs"):
        Optimizer(bundle, registry.folder(bundle), tmp_path, Request())


def test_the_command_prints_the_study_stores_it_and_draws_it(classifier, labelled, home, tmp_path, capsys) -> None:
    picture = tmp_path / "front.html"
    arguments = ["optimize", str(classifier), "--data", str(labelled), "--objective", "p99<=5s, drop<=1%"]
    code = main([*arguments, "--budget", "4s", "--json", "--picture", str(picture)])
    record = json.loads(capsys.readouterr().out)
    assert code == 0
    assert record["stored"] == "digits:2"
    assert record["chosen"]["rate_per_s"] > 0
    assert record["answer"]
    assert picture.read_text().startswith("<!doctype html>")
    assert main(["inspect", "digits"]) == 0
    page = capsys.readouterr().out
    assert "PROFILE" in page
    assert "optimize.json" in page


@pytest.mark.parametrize(
    "asked",
    [
        ("--objective", "p99<=5s, drop<=1%"),
        ("--objective", "p99<=5s", "--accept-made-up"),
        (),
    ],
    ids=["promised", "accepted", "without an objective"],
)
def test_the_command_that_it_names_next_serves_what_was_found(classifier, home, capsys, asked) -> None:
    assert main(["optimize", str(classifier), "--budget", "2s", *asked]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " " in line.strip())
    program, *arguments = shlex.split(lines["next"])
    assert program == "setpoint"
    registry = Registry(home)
    stored = registry.resolve("digits")
    assert lines["stored"].split()[0] == stored.reference
    command = [sys.executable, "-P", "-m", "setpoint", *arguments, "--port", "0", "--json", "--until-stdin-closes"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        announced = process.stdout.readline()
        _, told = process.communicate()
    (model,) = json.loads(announced)["models"]
    assert model["digest"] == stored.digest
    assert "optimise" not in told, "it would have been found anew"
    if not asked:
        chosen = json.loads((registry.folder(stored) / EVIDENCE).read_text())["chosen"]
        assert (model["workers"], model["threads"]) == (chosen["workers"], chosen["threads"])
        assert f"--variant {chosen['variant']} " in lines["next"], "or the most accurate one would answer"


def test_from_python_it_is_optimised_where_that_is_asked_for(classifier, home) -> None:
    with sp.serve(classifier, objective="p99<=5s, drop<=1%", optimize=True, budget_s=2) as service:
        assert [(each.name, each.version) for each in service.client.models()] == [("digits", "2")]
    assert not home.exists(), "it leaves nothing in the user's registry"


def test_bench_shows_the_worker_beside_the_bare_engine(classifier, home, capsys) -> None:
    assert main(["bench", str(classifier), "--threads", "1", "--budget", "1s", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["model"] == "digits:1"
    sizes = [row["alone"]["rows"] for row in record["rows"]]
    assert sizes[0] == 1
    for row in record["rows"]:
        assert row["worker"]["rows"] == row["through"]["rows"] == row["alone"]["rows"]
        assert row["through"]["p50_ms"] > row["worker"]["p50_ms"] > 0, "there and back takes its time"
