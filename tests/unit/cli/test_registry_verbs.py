"""``models``, ``inspect`` and ``alias`` show and change what the registry holds."""

import json
from collections.abc import Callable

from setpoint.cli.references import complete_reference, complete_reference_or_path
from setpoint.registry import Bundle, Registry

Run = Callable[..., tuple[int, str, str]]
Add = Callable[[str, bytes], Bundle]


def test_an_empty_registry_says_how_to_fill_it(run: Run) -> None:
    code, out, err = run("models")
    assert (code, out) == (0, "")
    assert "setpoint pack PATH" in err
    assert run("models", "--json")[1].strip() == "[]"


def test_models_lists_every_version_with_its_signature(run: Run, add: Add) -> None:
    add("iris", b"one")
    second = add("iris", b"two")
    code, out, _ = run("models")
    header, first_row, second_row = out.splitlines()
    assert code == 0
    assert header.split()[:2] == ["MODEL", "ALIASES"]
    assert first_row.startswith("iris:1  ")
    assert second_row.startswith("iris:2  ")
    assert second.digest[:19] in second_row
    assert "x FP32[-1, 4] → label INT64[-1]" in second_row


def test_models_as_json(run: Run, add: Add) -> None:
    bundle = add("iris", b"one")
    (record,) = json.loads(run("models", "--json")[1])
    assert record["reference"] == "iris:1"
    assert record["digest"] == bundle.digest
    assert record["signature"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert record["endpoints"] == ["predict"]


def test_alias_moves_in_one_command(run: Run, add: Add, registry: Registry) -> None:
    add("iris", b"one")
    add("iris", b"two")
    assert run("alias", "iris:1", "champion")[0] == 0
    assert registry.resolve("iris:champion").version == 1
    code, out, _ = run("alias", "iris:2", "champion")
    assert code == 0
    assert out.startswith("iris:champion is iris:2")
    assert registry.resolve("iris:champion").version == 2


def test_alias_of_a_version_that_is_not_there_changes_nothing(run: Run, add: Add, registry: Registry) -> None:
    add("iris", b"one")
    run("alias", "iris:1", "champion")
    code, _, err = run("alias", "iris:7", "champion")
    assert code == 2
    assert "iris" in err
    assert registry.resolve("iris:champion").version == 1


def test_inspect_shows_signature_sizes_and_lineage(run: Run, add: Add) -> None:
    bundle = add("iris", b"some bytes")
    code, out, _ = run("inspect", "iris")
    assert code == 0
    for expected in (
        f"iris:1  {bundle.digest}",
        "onnx sha256:0000",
        "onnx 1.0",
        "rows together are the rows alone",
        "x FP32[-1, 4]",
        "label INT64[-1]",
        "at most 64",
        "model.onnx",
        "10 B",
    ):
        assert expected in out


def test_inspect_as_json_holds_the_whole_manifest(run: Run, add: Add) -> None:
    bundle = add("iris", b"one")
    record = json.loads(run("inspect", "iris@" + bundle.digest, "--json")[1])
    assert record["manifest"]["variants"][0]["engine"] == "onnxruntime"
    assert {file["path"] for file in record["files"]} == {"model.onnx", "setpoint.json"}


def test_inspect_verify_finds_changed_bytes(run: Run, add: Add, registry: Registry) -> None:
    bundle = add("iris", b"one")
    assert run("inspect", "iris", "--verify")[0] == 0
    digest = next(file.digest for file in bundle.files if file.path == "model.onnx")
    blob = registry.root / "blobs" / "sha256" / digest.removeprefix("sha256:")
    blob.chmod(0o644)
    blob.write_bytes(b"two")
    code, _, err = run("inspect", "iris", "--verify")
    assert code == 1
    assert "model.onnx was changed" in err


def test_inspect_example_is_a_request_body(run: Run, add: Add) -> None:
    add("iris", b"one")
    body = json.loads(run("inspect", "iris", "--example", "predict")[1])
    assert body == {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0.5, 0.5, 0.5, 0.5]}]}
    code, _, err = run("inspect", "iris", "--example", "embed")
    assert code == 2
    assert "expected one of: predict" in err


def test_an_unknown_model_is_misuse_in_one_line(run: Run, add: Add) -> None:
    add("iris", b"one")
    code, _, err = run("inspect", "irsi")
    assert (code, err.count("\n")) == (2, 1)
    assert "iris" in err


def test_names_complete_and_after_a_colon_versions_and_aliases(add: Add, registry: Registry) -> None:
    add("iris", b"one")
    add("ranker", b"two")
    registry.set_alias("iris", "champion", 1)
    assert [item.value for item in complete_reference(None, None, "")] == ["iris", "ranker"]
    assert [item.value for item in complete_reference(None, None, "r")] == ["ranker"]
    assert [item.value for item in complete_reference(None, None, "iris:")] == ["iris:1", "iris:champion"]
    assert [(item.value, item.type) for item in complete_reference_or_path(None, None, "./mo")] == [("./mo", "file")]


def test_a_damaged_registry_completes_nothing_instead_of_failing(add: Add, registry: Registry) -> None:
    add("iris", b"one")
    (registry.root / "index.json").write_text("{")
    assert complete_reference(None, None, "") == []
