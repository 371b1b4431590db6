"""Adapters of the small models in `tests.homes`, written as PEFT writes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Tensors = dict[str, NDArray[Any]]

PREFIX = "base_model.model."
CONFIG: Mapping[str, object] = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["layer"],
    "base_model_name_or_path": "ann/base",
}


def factors(seed: int = 0) -> Tensors:
    """A pair for `layer.weight`, which is (17, 5) in the base."""
    generator = np.random.default_rng(seed)
    return {
        f"{PREFIX}layer.lora_A.weight": generator.standard_normal((2, 5), np.float32),
        f"{PREFIX}layer.lora_B.weight": generator.standard_normal((17, 2), np.float32),
    }


def write_adapter(
    folder: Path, tensors: Tensors | None = None, **config: object
) -> Path:
    """Write an adapter folder as PEFT does."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    given = factors() if tensors is None else tensors
    save_file(given, folder / "adapter_model.safetensors")
    return folder
