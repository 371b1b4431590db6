"""The configuration of a model, `config.json`: what a merge changes in it, and why.

Owns which of its words speak of the dtype, and of quantised weights. Does not own the
other files beside the weights (`companions`). Whatever a merge does not change keeps its
bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from crdtmerge.errors import BadInputError
from crdtmerge.formats.json_text import json_bytes

CONFIG_FILE: Final = "config.json"
QUANTISATION: Final = "quantization_config"

_DTYPE_KEYS: Final = ("torch_dtype", "dtype")
_INNER: Final = "_config"
"""How the keys end under which a model of several parts keeps theirs."""
_TORCH_NAMES: Final = {
    "F64": "float64",
    "F32": "float32",
    "BF16": "bfloat16",
    "F16": "float16",
}
"""What the loaders compute in. 8-bit floats are none of these: transformers refuses to load
a model under such a name, and casts the weights to the base's dtype under that."""
_PACKED_DTYPES: Final = frozenset(
    {"I32", "I16", "I8", "U32", "U16", "U8", "F8_E4M3", "F8_E5M2"}
)
"""What quantised weights are kept in; buffers of indices are I64 or BOOL."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A `config.json`: its bytes, and what they say if they are a JSON object."""

    text: bytes
    value: dict[str, object] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the configuration; what is no JSON object says nothing."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return cls(text)
        return cls(text, value) if isinstance(value, dict) else cls(text)

    @property
    def architecture(self) -> str:
        """The class of the model, empty if none is named."""
        match self.value.get("architectures"):
            case [str(name), *_] if name.isascii() and name.isidentifier():
                return name
            case _:
                return ""

    @property
    def is_quantised(self) -> bool:
        """Tell whether it says that the weights are quantised."""
        return bool(self.value.get(QUANTISATION))

    def check_weights(self, dtypes: Iterable[str]) -> None:
        """Refuse weights that mean nothing apart from the scales beside them.

        Raises:
            BadInputError: it says that they are quantised, and these dtypes do not deny it.
        """
        packed = sorted(_PACKED_DTYPES & set(dtypes))
        if self.is_quantised and packed:
            message = (
                f"the base is quantised: {CONFIG_FILE} has a {QUANTISATION}, and there are"
                f" {packed[0]} tensors, whose values mean nothing apart from their scales"
            )
            hint = "dequantise the models first (to BF16, say), and merge those"
            raise BadInputError(message, hint=hint)

    def for_output(self, dtype: str) -> bytes:
        """Return the text for a merged model of float tensors.

        A `dtype` other than empty is that of all of them, and takes the place of what was
        said, if loaders compute in it. A quantisation is left out: the weights are plain
        floats.
        """
        value = {k: v for k, v in self.value.items() if k != QUANTISATION}
        if dtype in _TORCH_NAMES:
            value = _with_dtype(value, _TORCH_NAMES[dtype])
        if value == self.value:
            return self.text
        return json_bytes(value)


def _with_dtype(value: dict[str, object], name: str) -> dict[str, object]:
    """Return a configuration, and those in it, with another dtype where one is said."""
    found = dict(value)
    for key, item in value.items():
        if key in _DTYPE_KEYS and item is not None:
            found[key] = name
        elif key.endswith(_INNER) and isinstance(item, dict):
            found[key] = _with_dtype(item, name)
    return found
