"""Models for real homes: safetensors folders, drawn from a seed.

Owns their bytes. Nothing here does arithmetic on weights that are merged.
"""

import random
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

CHUNKS: Final = {"large": (640, 1024), "small": (32, 1024)}
"""Shapes of the largest tensor: of three chunks, so that a fetch can be cut amid it; and of
one, for links that carry little."""
SMALL: Final = (16, 256)
SMALLS: Final = 3


def write_model(folder: Path, seed: int, *, large: bool) -> Path:
    """Write model number `seed`; number 0 is the base, and the others are of its shapes."""
    rng = random.Random(seed)
    shapes = {f"layer.{number}.weight": SMALL for number in range(SMALLS)}
    shapes["embed.weight"] = CHUNKS["large" if large else "small"]
    folder.mkdir(parents=True)
    # Words whose exponent is that of 0.5 to 1: finite numbers, whatever the seed draws.
    tensors = {
        name: (
            np.frombuffer(rng.randbytes(4 * shape[0] * shape[1]), "<u4") & 0x807FFFFF
            | 0x3F000000
        )
        .astype("<u4")
        .view("<f4")
        .reshape(shape)
        for name, shape in sorted(shapes.items())
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "small"}\n')
    return folder
