"""Exported programs, TorchScript, and what only looks like one."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from setpoint.core import InvalidConfiguration, ModelError, UntrustedFile

FREE = torch.export.Dim.DYNAMIC


class Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 3)

    def forward(self, rows: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        answer = self.linear(rows) * scale[:, None]
        return answer, answer.argmax(1)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    exported = torch.export.export(
        Scaled().eval(), (torch.randn(3, 6), torch.ones(3)), dynamic_shapes=({0: FREE}, {0: FREE})
    )
    torch.export.save(exported, str(tmp_path / "scaled.pt2"))
    return tmp_path / "scaled.pt2"


def test_an_exported_program_becomes_onnx_with_a_free_batch_axis(program: Path, pack, load) -> None:
    packed = pack(program)
    assert packed.manifest.variants[0].engine == "onnxruntime", packed.manifest.lineage.checks
    takes, gives = "rows FP32[-1, 6], scale FP32[-1]", "output_0 FP32[-1, 3], output_1 INT64[-1]"
    assert str(packed.manifest.signature).startswith(f"{takes} → {gives}")
    assert packed.manifest.signature.batched
    rows, scale = np.random.default_rng(0).standard_normal((7, 6)).astype(np.float32), np.ones(7, np.float32)
    answers = load(packed).run({"rows": rows, "scale": scale})
    expected = torch.export.load(str(program)).module(check_guards=False)(
        torch.from_numpy(rows), torch.from_numpy(scale)
    )
    np.testing.assert_allclose(answers["output_0"], expected[0].detach().numpy(), atol=1e-5)
    assert answers["output_1"].tolist() == expected[1].tolist()


def test_nothing_of_the_trainers_files_stays_in_the_graph(program: Path, pack) -> None:
    (artifact,) = pack(program).files.values()
    assert __file__.encode() not in artifact.read_bytes()


def test_the_same_program_gives_the_same_bundle(program: Path, pack) -> None:
    first = pack(program)
    (artifact,) = first.files.values()
    content = artifact.read_bytes()
    assert pack(program).manifest.to_json() == first.manifest.to_json()
    assert artifact.read_bytes() == content


def test_a_wrong_graph_is_caught_and_torch_serves_the_program(
    program: Path, pack, load, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    from setpoint.formats import torch_export

    real = torch_export._strip

    def plant(model: onnx.ModelProto) -> None:
        real(model)
        weight = next(
            one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT and len(one.dims)
        )
        wrong = onnx.numpy_helper.to_array(weight).copy()
        wrong.flat[0] += 0.05
        weight.CopyFrom(onnx.numpy_helper.from_array(wrong, weight.name))

    monkeypatch.setattr(torch_export, "_strip", plant)
    packed = pack(program)
    variant = packed.manifest.variants[0]
    assert (variant.engine, variant.artifact) == ("torch", "model.pt2")
    assert any("differs from it" in check for check in packed.manifest.lineage.checks)
    rows = np.ones((1, 6), np.float32)  # one row, though the exporter assumed two
    answers = load(packed).run({"rows": rows, "scale": np.ones(1, np.float32)})
    assert answers["output_0"].shape == (1, 3)


def test_torchscript_is_served_on_the_rows_given(tmp_path: Path, pack, load) -> None:
    module = Scaled().eval()
    path = tmp_path / "scaled.pt"
    torch.jit.save(torch.jit.script(module), str(path))
    with pytest.raises(InvalidConfiguration, match="is TorchScript, which does not say what shapes it takes"):
        pack(path)
    rows = {
        "rows": np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32),
        "scale": np.ones(4, np.float32),
    }
    packed = pack(path, sample=rows)
    assert packed.manifest.signature.batched
    executable = load(packed)
    expected = module(torch.from_numpy(rows["rows"]), torch.from_numpy(rows["scale"]))
    np.testing.assert_allclose(executable.run(rows)["output_0"], expected[0].detach().numpy(), atol=1e-6)
    with pytest.raises(ModelError, match="the model failed"):
        executable.run(rows | {"rows": np.ones((4, 5), np.float32)})


pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Payload:
    def __reduce__(self):
        return os.system, ("touch /tmp/setpoint-was-here",)


def rewritten(program: Path, change) -> Path:
    """The archive with entries changed: ``change(name, content)`` gives the new content."""
    target = program.with_name("hostile.pt2")
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(target, "w") as made:
        for name in source.namelist():
            made.writestr(name, change(name, source.read(name)))
    return target


def hostile_pickle(name: str, content: bytes) -> bytes:
    if not name.endswith("sample_inputs/model.pt"):
        return content
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload()))
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


def hostile_call(name: str, content: bytes) -> bytes:
    if not name.endswith("models/model.json"):
        return content
    graph = json.loads(content)
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"
    return json.dumps(graph).encode()


def hostile_size(name: str, content: bytes) -> bytes:
    return content.replace(b"Symbol('", b"__import__('os').system('true') or Symbol('")


def hostile_object(name: str, content: bytes) -> bytes:
    if not name.endswith("model_constants_config.json"):
        return content
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    return json.dumps({"config": {"x": entry}}).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (hostile_pickle, "holds a pickle that makes a"),
        (hostile_call, "calls 'torch.os.system'"),
        (hostile_size, "has a size written as"),
        (hostile_object, "holds"),
    ],
)
def test_a_program_that_could_run_code_is_refused_before_torch_sees_it(
    program: Path, pack, monkeypatch: pytest.MonkeyPatch, change, said: str
) -> None:
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("torch was asked to load it"))
    with pytest.raises(UntrustedFile, match=said):
        pack(rewritten(program, change))
    assert not Path("/tmp/setpoint-was-here").exists()


def test_half_a_program_is_refused_in_a_sentence(program: Path, pack, tmp_path: Path) -> None:
    short = rewritten(program, lambda name, content: content[: len(content) // 2])
    with pytest.raises(InvalidConfiguration) as caught:
        pack(short)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_archive_that_unpacks_without_end_is_refused(program: Path, pack) -> None:
    bomb = program.with_name("bomb.pt2")
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made:
        for name in source.namelist():
            made.writestr(name, source.read(name))
        made.writestr("scaled/data/weights/weight_99", bytes(256 << 20))
    with pytest.raises(InvalidConfiguration, match="would unpack to 268,"):
        pack(bomb)
