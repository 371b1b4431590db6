"""Which tensors go to which file: one file, or shards with an index.

Owns the names of weight files, how tensors are dealt out to them, and the index. Does not
own the layout inside one file (`header`), nor writing (`writer`). Equal tensors and an
equal size of shards give equal files.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from crdtmerge.digest import blob_id_of
from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import INDEX_SUFFIX, MODEL_FILE
from crdtmerge.formats.header import Layout, lay_out
from crdtmerge.formats.index import SHARDS_MAX
from crdtmerge.manifest import ITEM_BYTES

SHARD_BYTES: Final = 5 * 10**9
"""How many bytes of tensors go to a file, where nothing else is asked for."""
INDEX_FILE: Final = "model" + INDEX_SUFFIX

Described: TypeAlias = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape of a tensor."""


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """All weight files of a model by name; `index` is empty where there is but one."""

    files: Mapping[str, Layout]
    index: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of all files, the index too."""
        return sum(layout.size for layout in self.files.values()) + len(self.index)

    @property
    def stamp(self) -> bytes:
        """What tells it from other layouts: two outputs of one stamp can share files."""
        named = [(name.encode(), laid.header) for name, laid in self.files.items()]
        return blob_id_of(b"".join(part for pair in sorted(named) for part in pair))


def lay_out_file(name: str, entries: Iterable[Described]) -> ModelLayout:
    """Return the layout of tensors in one file of that name.

    Raises:
        BadInputError: a name of a tensor is given twice, or reserved by the format.
    """
    return ModelLayout({name: lay_out(entries)})


def lay_out_model(
    entries: Iterable[Described], shard_bytes: int = SHARD_BYTES
) -> ModelLayout:
    """Return the layout of a model, in files of at most `shard_bytes` of tensors.

    Tensors are dealt out in the order of their names, as the common loaders' own writers
    do it; one that is larger than that has a file to itself.

    Raises:
        BadInputError: there would be too many files, a name of a tensor is given twice,
            or reserved by the format.
    """
    dealt = _deal(sorted(entries), shard_bytes)
    if len(dealt) == 1:
        return lay_out_file(MODEL_FILE, dealt[0])
    if len(dealt) > SHARDS_MAX:
        message = f"files of {shard_bytes} bytes would be {len(dealt)}, above the limit"
        hint = "give a larger --shard-size"
        raise BadInputError(f"{message} of {SHARDS_MAX}", hint=hint)
    files: dict[str, Layout] = {}
    placed: dict[str, str] = {}
    for number, shard in enumerate(dealt, start=1):
        file = f"model-{number:05}-of-{len(dealt):05}.safetensors"
        files[file] = lay_out(shard)
        for name, _, _ in shard:
            if name in placed:
                message = f"a model cannot be written with the tensor {name!r} twice"
                raise BadInputError(message)
            placed[name] = file
    return ModelLayout(files, _index(files, placed))


def _deal(entries: Sequence[Described], limit: int) -> list[list[Described]]:
    """Return the entries shard by shard: at least one, if there is no tensor at all."""
    shards: list[list[Described]] = [[]]
    size = 0
    for entry in entries:
        more = math.prod(entry[2]) * ITEM_BYTES[entry[1]]
        if size and size + more > limit:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += more
    return shards


def _index(files: Mapping[str, Layout], placed: Mapping[str, str]) -> bytes:
    """Return the text of the index, in the form that `save_pretrained` writes."""
    total = sum(sum(layout.sizes.values()) for layout in files.values())
    value = {"metadata": {"total_size": total}, "weight_map": dict(placed)}
    return (json.dumps(value, sort_keys=True, indent=2) + "\n").encode()
