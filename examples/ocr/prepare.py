"""Before detection: an image of any size becomes what the network takes."""

from __future__ import annotations

import numpy as np
from pictures import resized

import setpoint as sp

SHORTER_SIDE = 736  # what the detector was tuned for; smaller images are enlarged
LONGER_SIDE = 2000
MULTIPLE = 32


class Prepare(sp.Model):
    """Sizes and scales one image."""

    @sp.endpoint
    def prepare(self, image: sp.Tensor[np.uint8, None, None, 3]) -> sp.Tensor[np.float32, 1, 3, None, None]:
        """RGB of any size → what the detector takes: sides of 32 pixels each, values -1 to 1."""
        height, width = image.shape[:2]
        if min(height, width) < 4 or max(height, width) > 20 * min(height, width):
            raise sp.InvalidInput(f"expected sides of 4 pixels or more, and 20:1 at most; got {width}×{height} pixels")
        ratio = min(max(1.0, SHORTER_SIDE / min(height, width)), LONGER_SIDE / max(height, width))
        sides = [max(MULTIPLE, round(int(side * ratio) / MULTIPLE) * MULTIPLE) for side in (height, width)]
        scaled = resized(image, *sides) / 127.5 - 1
        return np.ascontiguousarray(scaled[..., ::-1].transpose(2, 0, 1)[None], np.float32)  # it learnt on BGR
