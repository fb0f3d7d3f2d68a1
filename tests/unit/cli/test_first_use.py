"""When what was found by an earlier optimisation still holds, and when a model is not optimised on its own."""

from pathlib import Path

import msgspec
import pytest

from setpoint.cli.config_keys import FirstUse
from setpoint.cli.first_use import Evidence, covers, measured_here, optimized
from setpoint.core import (
    Endpoint,
    InvalidConfiguration,
    LatencyPoint,
    Lineage,
    ModelManifest,
    Objective,
    Profile,
    Signature,
    TensorSpec,
    Variant,
)
from setpoint.formats import PackedModel
from setpoint.machine import engine_fingerprint
from setpoint.node import ModelConfig
from setpoint.registry import EVIDENCE, Bundle, Registry

THEN = Evidence("p99<=20ms, drop<=1%", 0.99, promised=True, data_digest="sha256:then")
NOT_JUDGED = msgspec.structs.replace(THEN, promised=False, data_digest="")
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 1)),), batched=True)


def holds(evidence: Evidence, objective: str, data_digest: str = "", *, accept: bool = False) -> bool:
    return covers(evidence, Objective.parse(objective), data_digest, accept_made_up=accept)


@pytest.mark.parametrize("objective", ["p99<=20ms, drop<=1%", "p99<=10ms, drop<=1%", "p99<=20ms, drop<=0.2%"])
def test_what_is_stricter_than_then_holds(objective: str) -> None:
    assert holds(THEN, objective)


@pytest.mark.parametrize("objective", ["p99<=50ms, drop<=1%", "p99<=20ms, drop<=2%", "drop<=1%", "p99<=20ms"])
def test_what_is_laxer_than_then_is_found_anew(objective: str) -> None:
    assert not holds(THEN, objective)


def test_what_was_found_without_a_bound_holds_for_every_bound() -> None:
    assert holds(msgspec.structs.replace(THEN, objective=""), "p99<=2s, drop<=0.5%")


def test_other_data_judge_anew_and_no_data_leave_it() -> None:
    assert holds(THEN, "p99<=20ms, drop<=1%", "sha256:then")
    assert not holds(THEN, "p99<=20ms, drop<=1%", "sha256:now")
    assert not holds(NOT_JUDGED, "p99<=20ms, drop<=1%", "sha256:now")


def test_what_was_accepted_on_made_up_rows_is_not_used_by_who_does_not_accept_them() -> None:
    accepted = msgspec.structs.replace(NOT_JUDGED, accepted=True)
    assert holds(accepted, "p99<=20ms, drop<=1%", accept=True)
    assert not holds(accepted, "p99<=20ms, drop<=1%")
    assert not holds(NOT_JUDGED, "p99<=20ms, drop<=1%", accept=True)
    assert holds(NOT_JUDGED, "p99<=20ms, drop<=1%")


def test_what_was_stopped_early_is_not_kept_to() -> None:
    assert not holds(msgspec.structs.replace(THEN, stopped=True), "p99<=20ms, drop<=1%")


def bundle(*profiles: Profile, engine: str = "onnxruntime", artifact: str = "model.onnx") -> Bundle:
    endpoint = Endpoint("predict", (), {}, batch_rows=8, signature=SIGNATURE)
    manifest = ModelManifest((endpoint,), (Variant("fp32", engine, artifact),), Lineage("onnx", ""), profiles=profiles)
    return Bundle("model", 1, "sha256:0", manifest, (), (), "")


def profile(hardware: str) -> Profile:
    return Profile("fp32", 1, hardware, (LatencyPoint(1, 1.0, 1.0, 1.0, 10),), 0, 0.0, 0.0)


def test_what_was_measured_on_another_processor_or_with_other_libraries_does_not_count() -> None:
    here = engine_fingerprint("onnxruntime")
    assert measured_here(bundle(profile(here)), "cpu")
    assert not measured_here(bundle(profile(here.replace("numpy", "numpy 1.0, once numpy"))), "cpu")
    assert not measured_here(bundle(profile(here)), "cuda")
    assert not measured_here(bundle(), "cpu")


def asked(
    tmp_path: Path, found: Bundle, objective: str | None, source: str = "model", terms: FirstUse | None = None
) -> tuple[Bundle, list[str]]:
    """Nothing here may be optimised: that would start a process, which finds no such model."""
    said: list[str] = []
    model = ModelConfig(found, tmp_path, objective=Objective.parse(objective) if objective else None)
    registry = Registry(tmp_path / "home")
    served = optimized(model, source, terms or FirstUse(), registry, lambda label, text: said.append(text), -1)
    return served, said


@pytest.mark.parametrize("objective", [None, "p99<=20ms"])
def test_an_objective_that_allows_no_loss_optimises_nothing(tmp_path: Path, objective: str | None) -> None:
    assert asked(tmp_path, bundle(), objective) == (bundle(), [])


def test_who_refuses_is_heeded(tmp_path: Path) -> None:
    assert asked(tmp_path, bundle(), "p99<=20ms, drop<=1%", terms=FirstUse(optimize=False)) == (bundle(), [])


@pytest.mark.parametrize(
    ("found", "source", "reason"),
    [
        (bundle(engine="python", artifact="model.py"), "model", "variants are made of graphs, not of Python classes"),
        (bundle(engine="litert", artifact="model.tflite"), "model", "without --data nothing is known"),
        (bundle(), "model:1", "this version was asked for by name; setpoint optimize model:1 makes another"),
    ],
)
def test_what_is_not_optimised_on_its_own_is_served_with_the_reason(
    tmp_path: Path, found: Bundle, source: str, reason: str
) -> None:
    served, said = asked(tmp_path, found, "p99<=20ms, drop<=1%", source)
    assert served is found
    assert len(said) == 1
    assert reason in said[0]


def test_data_without_a_loss_to_allow_or_that_do_not_exist_are_a_mistake(tmp_path: Path) -> None:
    absent = FirstUse(data=tmp_path / "absent.npz")
    with pytest.raises(InvalidConfiguration, match=r"absent\.npz: expected an \.npz file with examples"):
        asked(tmp_path, bundle(), "p99<=20ms, drop<=1%", terms=absent)
    (tmp_path / "absent.npz").touch()
    with pytest.raises(InvalidConfiguration, match="only an objective that says what may be lost takes any"):
        asked(tmp_path, bundle(), "p99<=20ms", terms=absent)


def stored(registry: Registry, folder: Path, found: Bundle, evidence: Evidence | None = None) -> Bundle:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"the same file")
    files = {"model.onnx": folder / "model.onnx"}
    if evidence is not None:
        files[EVIDENCE] = folder / EVIDENCE
        files[EVIDENCE].write_bytes(msgspec.json.encode(evidence))
    return registry.add(PackedModel(found.manifest, files, "model"), "model")[0]


def test_what_was_found_serves_in_place_of_its_original_but_not_of_a_version_that_was_named(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "home")
    original = stored(registry, tmp_path / "packed", bundle())
    found = stored(registry, tmp_path / "found", bundle(profile(engine_fingerprint("onnxruntime"))), THEN)
    served, said = asked(tmp_path, original, "p99<=20ms, drop<=1%")
    assert served.version == found.version == 2
    assert said == ["before: model:2, with fp32"]
    served, said = asked(tmp_path, original, "p99<=20ms, drop<=1%", "model:1")
    assert served is original, "or nobody could go back to it"
    assert "this version was asked for by name" in said[0]
    assert asked(tmp_path, found, "p99<=20ms, drop<=1%", "model:2") == (found, [])
