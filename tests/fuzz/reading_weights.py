"""What is done with models' own files: weights, and the JSON beside them.

Owns the reads of the targets of weights, adapters, tokenizers and configurations. Does not
own where files lie (`scratch`).
"""

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path

from crdtmerge.codec import Value, decode
from crdtmerge.errors import (
    BadInputError,
    EncodingError,
)
from crdtmerge.formats.adapter import fitted, layers, read_adapter
from crdtmerge.formats.chat_template import with_template
from crdtmerge.formats.folder import read_folder
from crdtmerge.formats.header import StoredTensor, lay_out, read_header
from crdtmerge.formats.mergekit_stack import Cut, Layout, Span
from crdtmerge.formats.model_config import ModelConfig
from crdtmerge.formats.pickled import read_pickled
from crdtmerge.formats.stacking import stacked_config
from crdtmerge.formats.tokenizer import Vocabulary, read_vocabulary
from crdtmerge.formats.tokenizer_output import check_given_ids, output_files
from crdtmerge.formats.vocabulary import Member, merged, row_map
from crdtmerge.formats.zipped import read_records
from crdtmerge.manifest import Manifest, TensorEntry
from tests.fuzz.scratch import scratch, written
from tests.fuzz.target import LENGTH, USER, either

# --- weights ----------------------------------------------------------------------------


def check_places(tensors: tuple[StoredTensor, ...], size: int) -> None:
    """Check that tensors lie within a file, and have the bytes of their shapes."""
    assert all(0 <= t.offset <= t.offset + t.size <= size for t in tensors)
    assert len({t.name for t in tensors}) == len(tensors)


def read_safetensors(data: bytes) -> None:
    """Read the header of a safetensors file, also with its length made right."""
    text = data[8:].rstrip(b"\0")
    right = len(text).to_bytes(8, "little") + text + bytes(16)

    def read(content: bytes) -> None:
        path = written("x.safetensors", content)
        tensors = read_header(path)
        check_places(tensors, len(content))
        places = sorted((t.offset, t.offset + t.size) for t in tensors)
        assert all(one[1] <= two[0] for one, two in pairwise(places))

    either(USER, lambda: read(data), lambda: read(right))


def read_index(data: bytes) -> None:
    """Read the index of a model in two shards."""
    for name, key in (("a.safetensors", "a"), ("b.safetensors", "b")):
        layout = lay_out([(key, "F32", (2,))])
        written(f"sharded/{name}", layout.header + bytes(8))
    index = written("sharded/model.safetensors.index.json", data)
    assert {t.path.parent for t in read_folder(index.parent).tensors} == {index.parent}


def read_zip(data: bytes) -> None:
    """Read where the records of a PyTorch file lie."""
    found = read_records(written("x.pt", data))
    assert all(
        0 <= r.offset <= r.end <= len(data) for r in found.data.values() if r.size
    )


def read_zip_entries(data: bytes) -> None:
    """Read a PyTorch file whose directory lies, of [name, bytes, method, flags, by, size].

    `by` is how far from its place an entry is said to begin; a size of -1 is the true one.
    """
    out = io.BytesIO()
    try:
        match decode(data, len(data)):
            case [*entries]:
                _write_zip(out, entries)
            case _:
                raise BadInputError("no entries")
    except (EncodingError, struct.error, ValueError, OverflowError) as e:
        raise BadInputError("no such zip file can be written") from e
    content = out.getvalue()
    found = read_records(written("z.pt", content))
    assert all(
        0 <= r.offset <= r.end <= len(content) for r in found.data.values() if r.size
    )


def _write_zip(out: io.BytesIO, entries: Iterable[Value]) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # a name may come twice
        for entry in entries:
            match entry:
                case [
                    str(name), bytes(held), int(method), int(flags), int(by), int(size),
                ]:  # fmt: skip
                    archive.writestr(zipfile.ZipInfo(name), held)
                case _:
                    raise BadInputError("no entry")
            info = archive.filelist[-1]
            info.compress_type, info.flag_bits = method & 0xFFFF, flags & 0xFFFF
            info.header_offset = max(0, info.header_offset + by)
            if size >= 0:
                info.file_size = info.compress_size = size


def read_pickle(data: bytes) -> None:
    """Read the tensors of a PyTorch file whose pickle this is, with two records."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, record in (
            ("data.pkl", data),
            ("byteorder", b"little"),
            ("data/0", bytes(24)),
            ("data/1", bytes(8)),
        ):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), record)
    content = out.getvalue()
    check_places(read_pickled(written("y.pt", content)), len(content))


# --- JSON beside the weights ------------------------------------------------------------

ONE = Path("one")
STACK = Layout(
    (
        Cut("first", 1, (Span("one", ONE, 0),)),
        Cut("second", 2, (None,), Span("one", ONE, 1)),
    ),
    {},
)


def read_model_config(data: bytes) -> None:
    """Read a `config.json`: what is none says nothing."""
    config = ModelConfig.parse(data)
    assert ModelConfig.parse(config.for_output("BF16")).architecture == (
        config.architecture
    )
    config.for_output("")
    config.check_weights(["F32", "I8"])
    stacked_config(STACK, {ONE: data}, ONE)


ADAPTED = (
    ("base_model.model.layers.0.q.lora_A.weight", "F32", (2, 3)),
    ("base_model.model.layers.0.q.lora_B.weight", "F32", (4, 2)),
)
BASE = Manifest(
    "base",
    b"",
    (TensorEntry("layers.0.q.weight", "F32", (4, 3), bytes(32)),),  # type: ignore[arg-type]
)


def read_adapter_config(data: bytes) -> None:
    """Read an adapter whose `adapter_config.json` this is, and fit it to its base."""
    layout = lay_out(ADAPTED)
    weights = layout.header + bytes(layout.size - len(layout.header))
    written("adapter/adapter_model.safetensors", weights)
    adapter = read_adapter(written("adapter/adapter_config.json", data).parent)
    assert layers(fitted(adapter, BASE), BASE).keys() == {"layers.0.q.weight"}


def read_adapter_names(data: bytes) -> None:
    """Read an adapter whose tensors these are: [[name, shape], ...] in JSON."""
    try:
        listed = [(name, "F32", (*shape,)) for name, shape in json.loads(data)]
        small = all(
            type(n) is int and 0 <= n < 9 for _, _, shape in listed for n in shape
        )
        layout = lay_out(listed) if small else None
    except (ValueError, TypeError, RecursionError) as e:
        raise BadInputError("no list of names and shapes") from e
    if layout is None or layout.size > LENGTH:
        raise BadInputError("too large for this target")
    weights = layout.header + bytes(layout.size - len(layout.header))
    written("named/adapter_model.safetensors", weights)
    config = b'{"peft_type": "LORA", "r": 2}'
    adapter = read_adapter(written("named/adapter_config.json", config).parent)
    assert layers(fitted(adapter, BASE), BASE)


def read_token_ids(data: bytes) -> None:
    """Read a `config.json` that names tokens by number, where these change."""
    path = written("numbered/config.json", data)
    theirs = Member("it", other_vocabulary(), 2)
    (scratch() / "numbered/tokenizer.json").write_bytes(
        b'{"model": {"type": "BPE", "vocab": {"z": 0, "q": 1}, "merges": []}}'
    )
    found = read_vocabulary(path.parent)
    assert found is not None
    ours = Member("we", found, 2)
    for members in ((ours, theirs), (theirs, ours)):
        output = merged(members, 0, union=True)
        files = output_files({path.name: path}, members, output, 1)
        made = files.get(path.name)
        assert isinstance(made, Path) or isinstance(json.loads(made or b"{}"), dict)


def read_chat_template(data: bytes) -> None:
    """Read the chat template in a `tokenizer_config.json`."""
    path = written("tokenizer_config.json", data)
    made = with_template({path.name: path}, "auto", [{path.name: path}])
    assert isinstance(made["chat_template.jinja"], bytes)


def read_tokenizer(data: bytes) -> None:
    """Read a `tokenizer.json`, and make a union of it with another."""
    path = written("speaker/tokenizer.json", data)
    (path.parent / "config.json").write_bytes(b'{"vocab_size": 4, "eos_token_id": 1}')
    found = read_vocabulary(path.parent)
    assert found is not None
    check_given_ids(found)
    ours = Member("it", found, 4)
    theirs = Member("other", other_vocabulary(), 4)
    for members in ((ours, theirs), (theirs, ours)):
        output = merged(members, 0, union=True)
        row_map(members, 1, output, None, {})
        output_files({}, members, output, 0)


@cache
def other_vocabulary() -> Vocabulary:
    """Return the vocabulary that others are joined with."""
    text = b'{"model": {"type": "BPE", "vocab": {"a": 0, "z": 1}, "merges": []}}'
    found = read_vocabulary(written("other/tokenizer.json", text).parent)
    assert found is not None
    return found


def read_vocab(data: bytes) -> None:
    """Read a `vocab.json` with its `added_tokens.json`, a zero byte between them."""
    first, _, second = data.partition(b"\0")
    folder = written("older/vocab.json", first).parent
    written("older/added_tokens.json", second or b"{}")
    found = read_vocabulary(folder)
    assert found is not None
    assert found.size <= max(found.ids.values(), default=-1) + 1
