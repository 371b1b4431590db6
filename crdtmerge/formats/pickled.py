"""Models as PyTorch saves them (`.bin`, `.pt`, `.pth`): where the bytes of tensors lie.

Owns the way through torch, and which tensors can be read in place. Does not own the zip
archive (`zipped`), nor which files make up a model (`folder`).

A pickle is a program. torch alone reads it, in its mode that builds tensors and nothing
else (`weights_only`), and that never sees the user's file: it is given an archive with the
same pickle and *empty* records, to load for the device `meta`, on which tensors have no
bytes. Of each storage torch then tells at which record it begins, and thereby which record
of the file it is. So no byte of a tensor is read, copied or unpickled; tensors are mapped
later, like those of a safetensors file. Those that share a storage lie at one place.
"""

import io
import math
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.header import AGAIN, StoredTensor, check_name
from crdtmerge.formats.zipped import (
    DATA,
    MAGIC,
    PICKLE,
    Record,
    Records,
    data_offset,
    read_records,
)
from crdtmerge.manifest import DIMENSIONS_MAX, ITEM_BYTES

if TYPE_CHECKING:
    import torch

CONVERT: Final = "load it with transformers or torch, and `save_pretrained` the model"
INSTALL: Final = (
    "`pip install 'crdtmerge[pytorch]'` (torch 2.12 or later), or save the model as"
    " safetensors where torch is: `save_pretrained` does so"
)
TORCH_MIN: Final = (2, 12)
REASON_CHARACTERS_MAX: Final = 200

_FOLDER: Final = "archive/"
_BARE: Final = b"\x80"
"""How every pickle begins; before 1.6 torch wrote several, one after the other."""
_DTYPES: Final = {
    "float64": "F64",
    "float32": "F32",
    "bfloat16": "BF16",
    "float16": "F16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


def read_pickled(path: Path) -> tuple[StoredTensor, ...]:
    """Return the tensors of a PyTorch file, by the order of its pickle.

    Raises:
        BadInputError: it is damaged; holds anything but tensors by name; was written by
            torch before 1.6; a tensor in it is no plain array; or torch is not installed.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError as e:
        raise BadInputError(f"cannot read {path.name}: {e.strerror}") from e
    if start.startswith(_BARE):
        message = f"{path.name} has the form of torch before 1.6, or is a bare pickle:"
        message += " its tensors cannot be read in place"
        raise BadInputError(message, hint=CONVERT)
    if start != MAGIC:
        message = f"{path.name} is no PyTorch file, or a damaged one"
        raise BadInputError(message, hint=AGAIN)
    records = read_records(path)
    skeleton = _skeleton(records)
    found = _unpickled(path, skeleton.file)
    return tuple(
        _stored(records, skeleton, name, value) for name, value in found.items()
    )


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """A file's pickle with empty records: in it a record's place tells its key."""

    file: io.BytesIO
    keys: Mapping[int, str]


def _skeleton(records: Records) -> _Skeleton:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (
            (PICKLE, records.pickle),
            ("version", b"3\n"),
            ("byteorder", b"little"),
            *((DATA + key, b"") for key in records.data),
        ):
            archive.writestr(zipfile.ZipInfo(_FOLDER + name), data)
        infos = archive.infolist()
    start = len(_FOLDER + DATA)
    keys = {
        data_offset(file, info): info.filename[start:]
        for info in infos
        if info.filename.startswith(_FOLDER + DATA)
    }
    file.seek(0)
    return _Skeleton(file, keys)


def _unpickled(path: Path, file: io.BytesIO) -> dict[object, object]:
    """Return what the pickle makes, of tensors without bytes."""
    torch = _torch(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own ways
            found: object = torch.load(file, map_location="meta", weights_only=True)
    except Exception as e:
        message = f"{path.name} was refused by torch's weights-only loading: {_said(e)}"
        hint = "nothing of it was run; only a file that holds tensors alone is read"
        raise BadInputError(message, hint=hint) from e
    if not isinstance(found, dict):
        message = f"{path.name} holds a {type(found).__name__}, not tensors by name"
        raise BadInputError(message, hint=CONVERT)
    return found


def _torch(path: Path) -> ModuleType:
    """Return torch, if it is here and tells where storages lie."""
    try:
        import torch
    except ImportError as e:
        message = f"{path.name} is a PyTorch file: only torch can read it,"
        raise BadInputError(f"{message} which is missing", hint=INSTALL) from e
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < TORCH_MIN:
        message = f"{path.name} is a PyTorch file, and torch {torch.__version__} is"
        raise BadInputError(f"{message} too old to read it in place", hint=INSTALL)
    return torch


def _said(error: Exception) -> str:
    """Return the line of torch's message that says what is wrong, of a sane length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    said = (telling or lines or [type(error).__name__])[0]
    return "".join(c for c in said if c.isprintable())[:REASON_CHARACTERS_MAX]


def _stored(
    records: Records, skeleton: _Skeleton, name: object, value: object
) -> StoredTensor:
    """Return where a tensor of the file lies."""
    import torch

    path = records.path
    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        message = f"{path.name} holds {name!r}, which is a {type(value).__name__}"
        if isinstance(value, dict):
            hint = f"save what is in it by itself: `torch.load(...)[{name!r}]`"
        else:
            hint = CONVERT
        raise BadInputError(f"{message} and no tensor", hint=hint)
    check_name(path, name)
    dtype = _DTYPES.get(str(value.dtype).removeprefix("torch."))
    if dtype is None or value.dim() > DIMENSIONS_MAX:
        message = f"tensor {name!r} in {path.name} is {value.dtype}, of {value.dim()}"
        message += " dimensions, which is not supported"
        raise BadInputError(message, hint=f"supported are {', '.join(ITEM_BYTES)}")
    if not _is_plain(value):
        message = f"tensor {name!r} in {path.name} is a view with strides, or sparse,"
        message += " so its bytes do not lie there in order"
        raise BadInputError(message, hint=CONVERT)
    shape = tuple(int(n) for n in value.shape)
    size = math.prod(shape) * ITEM_BYTES[dtype]
    begin = int(value.storage_offset()) * ITEM_BYTES[dtype] if size else 0
    record = _record(records, skeleton, value)
    if record is None or not 0 <= begin <= begin + size <= record.size:
        message = f"{path.name} is damaged: tensor {name!r} has no record, or one of"
        raise BadInputError(f"{message} another size", hint=AGAIN)
    offset = record.offset + begin
    return StoredTensor(name, dtype, shape, path, offset, size, records.state)


def _is_plain(value: "torch.Tensor") -> bool:
    """Tell whether the bytes of a tensor are its items, row after row."""
    import torch

    return (
        value.layout == torch.strided
        and not value.is_quantized
        and not value.is_conj()
        and not value.is_neg()
        and value.is_contiguous()
    )


def _record(
    records: Records, skeleton: _Skeleton, value: "torch.Tensor"
) -> Record | None:
    """Return the record of a tensor's storage, if there is one of its size.

    SUBTLE: a shape beyond the storage makes torch enlarge it, as it has no bytes here.
    """
    storage: Any = value.untyped_storage()
    place: int = getattr(storage, "_checkpoint_offset", -1)
    record = records.data.get(skeleton.keys.get(place, ""))
    return record if record and record.size == storage.nbytes() else None
