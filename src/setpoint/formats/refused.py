"""Files that are known for what they are and not served: the refusal says what they are and what to do."""

from __future__ import annotations

import re
from pathlib import Path

from setpoint.core import InvalidConfiguration
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.peek import first_bytes

_GGUF = b"GGUF"
_PMML = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<(?:\w+:)?PMML[\s>]", re.DOTALL)


class GgufFormat:
    """GGUF: a language model of llama.cpp's kind."""

    name = "gguf"

    def recognises(self, source: Path) -> bool:
        """Whether the first bytes are GGUF's mark."""
        return first_bytes(source).startswith(_GGUF)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Refuse it.

        Raises:
            InvalidConfiguration: always.
        """
        raise InvalidConfiguration(
            f"{source} is GGUF, a language model: it needs the language-model engine, which this Setpoint has not"
        )


class PmmlFormat:
    """PMML: models as XML."""

    name = "pmml"

    def recognises(self, source: Path) -> bool:
        """Whether the XML's root is PMML."""
        return _PMML.match(first_bytes(source)) is not None

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Refuse it.

        Raises:
            InvalidConfiguration: always.
        """
        raise InvalidConfiguration(
            f"{source} is PMML, which is not served: no well-kept library reads it. Where it was exported from, export"
            " ONNX, or save the model itself (skops, XGBoost, LightGBM)"
        )
