"""V2 tensors through a class, and loading: the context, declared files, failures with their remedy."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from setpoint.core import ConfigurationError, InternalError, InvalidConfiguration, InvalidRequest, ModelError
from setpoint.engines import EngineOptions, engine
from setpoint.engines.python import PythonEngine, PythonExecutable

Load = Callable[..., PythonExecutable]


def texts(*values: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([value.encode() for value in values], object)


def test_the_first_endpoint_that_tensors_suffice_for_answers_v2(load: Load) -> None:
    executable = load("""
        @sp.endpoint
        def structured(self, text: dict[str, int]) -> int:
            return 1

        @sp.endpoint(batch=2)
        def vectors(self, texts: list[str], weights: list[float]) -> list[sp.Tensor["float32", 2]]:
            assert len(texts) <= 2
            return [np.full(2, len(t) * w, np.float32) for t, w in zip(texts, weights)]
    """)
    outputs = executable.run({"texts": texts("a", "bb", "ccc"), "weights": np.array([1.0, 2.0, 3.0])})
    assert outputs["output"].dtype == np.float32
    assert outputs["output"].tolist() == [[1, 1], [4, 4], [9, 9]]
    empty = executable.run({"texts": texts(), "weights": np.zeros(0)})
    assert empty["output"].shape == (0, 2)


def test_records_give_one_tensor_per_field_and_defaults_are_kept(load: Load) -> None:
    executable = load(
        """
        @sp.endpoint
        def judge(self, text: str, style: Literal["a", "b"] = "a") -> Judged:
            return Judged(text + style, len(text))
    """,
        before="""
        class Judged(msgspec.Struct):
            text: str
            size: int
    """,
    )
    outputs = executable.run({"text": texts("xyz")})
    assert {name: array.tolist() for name, array in outputs.items()} == {"text": [b"xyza"], "size": [3]}


def test_whose_fault_a_failed_v2_request_was(load: Load) -> None:
    executable = load("""
        @sp.endpoint(batch=8)
        def run(self, texts: list[str], other: list[int]) -> list[sp.Tensor["float32", 2]]:
            if texts == ["fail"]:
                raise ValueError("broken")
            if texts == ["refuse"]:
                raise sp.InvalidInput("not that")
            return [np.zeros(3, np.float32) for _ in texts]
    """)
    one = np.ones(1, np.int64)
    with pytest.raises(ModelError, match=r"M.run failed: ValueError: broken"):
        executable.run({"texts": texts("fail"), "other": one})
    with pytest.raises(InvalidRequest, match="not that"):
        executable.run({"texts": texts("refuse"), "other": one})
    with pytest.raises(ModelError, match=r"M.run: output 'output': expected shape \[-1, 2\], got \[1, 3\]"):
        executable.run({"texts": texts("x"), "other": one})
    with pytest.raises(InvalidRequest, match="UTF-8"):
        executable.run({"texts": np.array([b"\xff"], object), "other": one})
    with pytest.raises(InvalidRequest, match="missing input 'other'"):
        executable.run({"texts": texts("x")})
    with pytest.raises(InvalidRequest, match="one element per row"):
        executable.run({"texts": texts("x", "y"), "other": one})


def test_a_class_without_tensor_form_answers_no_v2(load: Load) -> None:
    executable = load("""
        @sp.endpoint
        def run(self, x: dict[str, int]) -> int:
            return 1
    """)
    with pytest.raises(InternalError):
        executable.run({})


def test_a_model_learns_where_it_runs_and_is_closed(load: Load, tmp_path: Path) -> None:
    executable = load(
        """
        def load(self, ctx):
            self.ctx = ctx

        def close(self):
            (self.ctx.folder / "closed").write_text("yes")

        @sp.endpoint
        def where(self) -> list[str]:
            return [str(self.ctx.folder), str(self.ctx.threads), str(self.ctx.worker)]
    """,
        worker=3,
        threads=2,
    )
    assert executable.call("where", [b""])[0].body == f'["{tmp_path.resolve()}","2","3"]'.encode()
    assert [endpoint.name for endpoint in executable.endpoints] == ["where"]
    assert executable.memory_bytes() >= 0
    executable.close()
    assert (tmp_path / "closed").exists()


def test_the_engine_is_found_by_name() -> None:
    assert isinstance(engine("python"), PythonEngine)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (
            "def load(self, ctx): raise OSError('no disk')",
            ModelError,
            r"M.load\(\) failed at model0.py:9: OSError: no disk",
        ),
        ("def __init__(self): raise OSError('no disk')", ModelError, "making a M failed"),
        ("def load(self, ctx): import absent_library", ConfigurationError, "'absent_library' is not installed here"),
        ("part = sp.file('absent.txt')", InvalidConfiguration, "M.part: absent.txt is not in"),
        ("def load(self, ctx): raise sp.InvalidInput('odd')", InvalidRequest, "odd"),
    ],
)
def test_what_fails_while_loading_is_told_in_one_line(
    load: Load, body: str, kind: type[Exception], message: str
) -> None:
    endpoint = "@sp.endpoint\ndef run(self) -> int: return 1"
    with pytest.raises(kind, match=message) as caught:
        load(f"{body}\n{endpoint}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_model_is_refused_and_what_was_loaded_is_freed(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    text = """
        import setpoint as sp

        class M(sp.Model):
            part = sp.uses("bad.onnx")

            @sp.endpoint
            def run(self) -> int:
                return 1
    """
    (tmp_path / "model.py").write_text(textwrap.dedent(text))
    with pytest.raises(ModelError, match=r"bad.onnx cannot be loaded"):
        PythonEngine().load(tmp_path / "model.py", "M", EngineOptions())
    with pytest.raises(InvalidConfiguration, match="no model 'Other'"):
        PythonEngine().load(tmp_path / "model.py", "Other", EngineOptions())


def test_images_without_pillow_name_the_extra(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'setpoint\[images\]'"):
        load("@sp.endpoint\ndef run(self, pictures: list[sp.Image]) -> int: return 1")
