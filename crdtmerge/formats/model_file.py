"""One file of a model: which form it has, and reading it by that form.

Owns telling the forms apart, and refusing those that are not read, with the way out. Does
not own the forms (`header`, `pickled`), nor folders (`folder`).
"""

from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.header import StoredTensor, read_header
from crdtmerge.formats.pickled import read_pickled

SAFETENSORS: Final = ".safetensors"
PICKLED: Final = (".bin", ".pt", ".pth")
GGUF: Final = ".gguf"
GGUF_HINT: Final = (
    "convert it with transformers and the package gguf: `AutoModelForCausalLM."
    "from_pretrained(FOLDER, gguf_file=NAME, quantization_config="
    "GgufConfig(dequantize=True)).save_pretrained(OUT)`"
)

_START_BYTES: Final = 64
_ZIP, _PICKLE, _GGUF = b"PK\x03\x04", b"\x80", b"GGUF"
_POINTER: Final = b"version https://git-lfs"


def read_tensors(path: Path) -> tuple[StoredTensor, ...]:
    """Return the tensors of a safetensors or PyTorch file; only its description is read.

    A file named `.safetensors` is read as one; of others the first bytes tell.

    Raises:
        BadInputError: it is damaged, of a form that is not read, or unsafe.
    """
    start = _start(path)
    if start.startswith(_POINTER):
        message = f"{path.name} is a pointer of Git LFS, not the file itself"
        raise BadInputError(message, hint="fetch it with `git lfs pull`")
    if start.startswith(_GGUF):
        raise gguf_refused(path)
    if path.suffix == SAFETENSORS:
        return read_header(path)
    if path.suffix in PICKLED or start.startswith((_ZIP, _PICKLE)):
        return read_pickled(path)
    return read_header(path)


def gguf_refused(path: Path) -> BadInputError:
    """Return the error for a GGUF file, with the way around it."""
    message = f"{path.name} is a GGUF file, whose names and layout are not the model's"
    return BadInputError(message, hint=GGUF_HINT)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_START_BYTES)
    except OSError as e:
        raise BadInputError(f"cannot read {path.name}: {e.strerror}") from e
