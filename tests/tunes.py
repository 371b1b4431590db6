"""A base and fine-tunes of it that are large enough to be packed.

Owns models whose tensors span several chunks and move as little as training moves them.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

SHAPES = {"layer.weight": (700, 512), "head.weight": (256, 128), "head.bias": (256,)}
MOVE = np.float32(1e-4)

Weights = dict[str, NDArray[np.float32]]


def base_weights(seed: int = 0) -> Weights:
    """Return the weights of a base: as large as those of real layers."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * 0.05).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def tuned_weights(base: Weights, seed: int) -> Weights:
    """Return weights that moved by about a five-hundredth."""
    rng = np.random.default_rng(seed)
    return {
        name: value + rng.standard_normal(value.shape).astype(np.float32) * MOVE
        for name, value in base.items()
    }


def write_weights(folder: Path, weights: Weights) -> Path:
    """Write a model folder."""
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "small"}\n')
    return folder
