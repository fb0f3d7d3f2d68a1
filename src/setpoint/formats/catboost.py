"""CatBoost models, saved in the library's own binary form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from setpoint.core import InvalidConfiguration, ModelError
from setpoint.engines import EngineOptions, boosters, one_line
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.booster import Source, pack_booster
from setpoint.formats.forest import Thresholds
from setpoint.formats.onnx import drop_zip_maps
from setpoint.formats.peek import first_bytes

_MAGIC = b"CBM1"


class CatboostFormat:
    """What ``save_model`` writes."""

    name = "catboost"

    def recognises(self, source: Path) -> bool:
        """Whether the first bytes are the library's mark."""
        return first_bytes(source).startswith(_MAGIC)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Let the library write ONNX where it can, and prove it; see ``pack_booster``.

        Raises:
            MissingExtra: catboost is not installed.
            InvalidConfiguration: it cannot be loaded, takes features that are not served, or nothing runs through it.
        """
        from setpoint.engines import catboost as engine

        try:
            executable = engine.load(source, EngineOptions())
        except ModelError as error:
            raise InvalidConfiguration(error.message) from error
        graph, why_not = _graph(executable, workdir / "exported.onnx")
        thresholds = _thresholds(executable)
        return pack_booster(
            Source(self.name, ("catboost",), source, executable, ".cbm", thresholds, graph, why_not), options, workdir
        )


def _thresholds(executable: Any) -> Thresholds:
    if executable.categorical:
        return {}
    borders = executable.booster.get_borders()
    return {int(column): np.array(values, np.float32) for column, values in borders.items() if len(values)}


def _graph(executable: Any, place: Path) -> tuple[bytes | None, str]:
    """The library's own export with our names, or why there is none."""
    import onnx

    if executable.categorical:
        return None, f"categorical features ({', '.join(executable.categorical[:5])}) have no ONNX form"
    try:
        executable.booster.save_model(str(place), format="onnx")
        model = onnx.load_model(place)
    except Exception as error:  # the library's own class; it refuses what it cannot say
        return None, f"it cannot be exported: {one_line(error, 150)}"
    finally:
        place.unlink(missing_ok=True)
    drop_zip_maps(model)
    del model.metadata_props[:]  # training's whole configuration, folders of the trainer's machine included
    _rename(model, executable.task)
    if not executable.task.labels and not executable.task.width:
        _flatten(model)
    return model.SerializeToString(deterministic=True), ""


def _flatten(model: Any) -> None:
    """One number per row comes with an axis of its own; the library's own ``predict`` gives it without."""
    import onnx

    model.graph.node[-1].output[0] = "numbers"
    model.graph.initializer.append(onnx.helper.make_tensor("flat", onnx.TensorProto.INT64, [1], [-1]))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["numbers", "flat"], [boosters.PREDICTION]))
    if not any(opset.domain == "" for opset in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("", 13))


def _rename(model: Any, task: boosters.Task) -> None:
    wanted = (boosters.LABEL, boosters.PROBABILITIES) if task.labels else (boosters.PREDICTION,)
    old = [model.graph.input[0].name, *(output.name for output in model.graph.output)]
    names = dict(zip(old, (boosters.INPUT, *wanted), strict=False))
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
