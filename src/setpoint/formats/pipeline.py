"""A folder with ``pipeline.json``: a graph and what is declared to go before and after it; no Python of the user's."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from setpoint.authoring import Pipeline, UserModule, describe, read_pipeline
from setpoint.core import InvalidConfiguration, Lineage, ModelError, ModelManifest, Variant
from setpoint.engines import EngineOptions, engine, load_onnx
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.fusing import try_fusing
from setpoint.formats.onnx import external_weights, is_model
from setpoint.formats.tensor_model import source_digest

PIPELINE_FILE = "pipeline.json"
CLASS_NAME = "Pipeline"
_MODULE = '''"""A graph for {task}, with what pipeline.json declares around it. Plain Python: read it, change it."""

import setpoint as sp


class {name}(sp.PipelineModel, pipeline="{file}"):
    """{task}."""

    model = sp.uses("{model}")
'''
_TOKENIZER = '    tokenizer = sp.file("{tokenizer}")\n'


class PipelineFormat:
    """``pipeline.json``, the graph it names and, for texts, the tokenizer."""

    name = "pipeline"

    def recognises(self, source: Path) -> bool:
        """Whether it is a folder with a ``pipeline.json``, or that file."""
        return (source / PIPELINE_FILE).is_file() or (source.is_file() and source.name == PIPELINE_FILE)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Check what is declared against the graph, by asking it once.

        Raises:
            InvalidConfiguration: a file is missing, or the graph and what is declared do not go together.
        """
        folder = source if source.is_dir() else source.parent
        pipeline = read_pipeline(folder / PIPELINE_FILE)
        graph = _inside(folder, pipeline.model)
        if not is_model(graph):
            raise InvalidConfiguration(f"{graph} is not an ONNX model")
        files = {PIPELINE_FILE: folder / PIPELINE_FILE, pipeline.model: graph}
        files |= {
            (Path(pipeline.model).parent / name).as_posix(): file for name, file in external_weights(graph).items()
        }
        if pipeline.text is not None:
            files[pipeline.text.tokenizer] = _inside(folder, pipeline.text.tokenizer)
        tools = {"onnxruntime": importlib.metadata.version("onnxruntime")}
        lineage = Lineage(self.name, source_digest(folder), tools)
        return pack_pipeline(pipeline, files, lineage, workdir, folder.resolve().name)


def pack_pipeline(
    pipeline: Pipeline, files: dict[str, Path], lineage: Lineage, workdir: Path, name: str
) -> PackedModel:
    """Make a bundle of a pipeline and its files, and ask it once as a worker would.

    Args:
        pipeline: as declared.
        files: path in the bundle → file; ``pipeline.json`` among them.
        lineage: where it came from; what was seen is added to its checks.
        workdir: for files that are made.
        name: suggested.

    Raises:
        InvalidConfiguration: the graph and what is declared do not go together.
    """
    if pipeline.fused:
        raise InvalidConfiguration(f"{PIPELINE_FILE}: fused is what packing finds out; leave it away")
    place = workdir / "bundle"
    text = _MODULE.format(task=pipeline.task, name=CLASS_NAME, file=PIPELINE_FILE, model=pipeline.model)
    if pipeline.text is not None:
        text += _TOKENIZER.format(tokenizer=pipeline.text.tokenizer)
    _lay_out(place, files, text)
    loaded = UserModule(place / "model.py")
    try:
        endpoints, schemas = describe(loaded.model_class(CLASS_NAME))
    finally:
        loaded.close()
    checks = [*lineage.checks, _tried(place, pipeline, endpoints[0].name)]
    twin = workdir / "fused"
    _lay_out(twin, {path: file for path, file in files.items() if path not in (pipeline.model, PIPELINE_FILE)}, text)
    (twin / pipeline.model).parent.mkdir(parents=True, exist_ok=True)
    outcome = try_fusing(pipeline, place, twin, endpoints[0].name, CLASS_NAME)
    checks.append(outcome.told)
    if outcome.graph is not None:
        files = {**files, pipeline.model: twin / pipeline.model, PIPELINE_FILE: twin / PIPELINE_FILE}
    lineage = Lineage(lineage.format, lineage.source_digest, lineage.tools, tuple(checks))
    variant = Variant(name="python", engine="python", artifact="model.py", entry=CLASS_NAME)
    manifest = ModelManifest(endpoints, (variant,), lineage, schemas)
    return PackedModel(manifest, dict(sorted({**files, "model.py": place / "model.py"}.items())), name)


def _lay_out(place: Path, files: dict[str, Path], text: str) -> None:
    place.mkdir()
    for path, file in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).symlink_to(file.resolve())
    (place / "model.py").write_text(text)


def _tried(place: Path, pipeline: Pipeline, endpoint: str) -> str:
    """Ask for one answer, and for two together.

    Raises:
        InvalidConfiguration: there is none.
    """
    import base64
    import io

    import msgspec

    try:
        executable = engine("python").load(place / "model.py", CLASS_NAME, EngineOptions())
    except ModelError as error:
        raise InvalidConfiguration(error.message) from error
    if pipeline.text is not None:
        rows, what = ["A short text.", "And a longer one, of several words, in one batch."], "texts"
    else:
        from PIL import Image

        rows, what = [], "images"
        for size in ((64, 48), (37, 90)):
            buffer = io.BytesIO()
            Image.new("RGB", size, (200, 120, 40)).save(buffer, "PNG")
            rows.append(base64.b64encode(buffer.getvalue()).decode())
    try:
        for asked in (rows[:1], rows):
            (answer,) = executable.call(endpoint, [msgspec.json.encode({what: asked})])  # type: ignore[attr-defined]
            if not answer.ok:
                raise InvalidConfiguration(f"the pipeline gives no answer: {answer.message}")
    finally:
        executable.close()
    return f"{pipeline.task}: answers {what} alone and together"


def graph_outputs(graph: Path) -> dict[str, tuple[int | str | None, ...]]:
    """Names and axes of a graph's outputs.

    Raises:
        InvalidConfiguration: it cannot be loaded.
    """
    try:
        executable = load_onnx(graph, EngineOptions(), quiet=True)
    except ModelError as error:
        raise InvalidConfiguration(error.message) from error
    try:
        return {tensor.name: tensor.axes for tensor in executable.outputs}
    finally:
        executable.close()


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise InvalidConfiguration(f"{folder / PIPELINE_FILE}: {name!r} lies outside its folder")
    if not path.is_file():
        raise InvalidConfiguration(f"{folder / PIPELINE_FILE}: there is no {name!r} beside it")
    return path
