"""What is done with files that users give: read where they lie, and looked at.

Owns the reads of the targets whose refusals are `USER`, and of those that are never an
error. One folder serves a whole process: its files are written over for each input.
"""

import atexit
import io
import json
import shutil
import tempfile
import zipfile
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

from crdtmerge.errors import (
    BadInputError,
    EncodingError,
    MalformedRecordError,
    MalformedTicketError,
    VerificationError,
)
from crdtmerge.formats.adapter import fitted, layers, read_adapter
from crdtmerge.formats.chat_template import with_template
from crdtmerge.formats.folder import read_folder
from crdtmerge.formats.header import StoredTensor, lay_out, read_header
from crdtmerge.formats.licences import licence_of
from crdtmerge.formats.mergekit import Configuration, read_configuration
from crdtmerge.formats.mergekit_stack import Cut, Layout, Span
from crdtmerge.formats.model_config import ModelConfig
from crdtmerge.formats.pickled import read_pickled
from crdtmerge.formats.recipe_file import read_recipe_file
from crdtmerge.formats.stacking import stacked_config
from crdtmerge.formats.tokenizer import Vocabulary, read_vocabulary
from crdtmerge.formats.tokenizer_output import check_given_ids, output_files
from crdtmerge.formats.toml_text import parse_toml
from crdtmerge.formats.vocabulary import Member, merged, row_map
from crdtmerge.formats.yaml_text import Plain, parse_yaml
from crdtmerge.formats.zipped import read_records
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.resolve.parse import _resolution, parse_resolution
from crdtmerge.resolve.verify import read_resolution as read_resolution_of
from crdtmerge.sizes import size_of
from nodes.archive.form import (
    decode_header,
    decode_records,
    encode_records,
    read_entry_head,
)
from nodes.archive.reading import Archive
from nodes.passphrase import from_file
from nodes.ticket import PREFIX, decode_ticket
from tests.fuzz.sums import ticket_of
from tests.fuzz.target import LENGTH, USER, Refusals, either


@cache
def scratch() -> Path:
    """Return the folder of this process: in memory where the system has such a place."""
    memory = Path("/dev/shm")
    made = tempfile.mkdtemp(
        prefix="crdtmerge-fuzz-", dir=memory if memory.is_dir() else None
    )
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def written(name: str, data: bytes) -> Path:
    """Return the path of a file that holds `data`."""
    path = scratch() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


TICKETS: Final[Refusals] = (MalformedTicketError,)


def text_of(data: bytes) -> str:
    """Return text as a command line or a file has it: what is no UTF-8 is escaped."""
    return data.decode(errors="surrogateescape")


# --- tickets, sizes, passphrases, archives ----------------------------------------------


def read_ticket(data: bytes) -> None:
    """Read a ticket as it stands, and as if its checksum were right."""

    def read(text: str) -> None:
        ticket = decode_ticket(text)
        assert decode_ticket(ticket.encode()) == ticket
        assert ticket.encode().startswith(PREFIX)

    either(TICKETS, lambda: read(text_of(data)), lambda: read(ticket_of(data)))


def read_size(data: bytes) -> None:
    """Read a size as people write it."""
    assert size_of(text_of(data)) >= 0


def read_passphrase(data: bytes) -> None:
    """Read the file of a passphrase."""
    path = written("passphrase", data)
    path.chmod(0o600)
    assert from_file(path).secret


def read_archive_header(data: bytes) -> None:
    """Read the header of a space as one file."""
    assert decode_header(data).encode() == data


def read_archive_entry(data: bytes) -> None:
    """Read the head of an entry, the rest of a block being zeros."""
    name, size = read_entry_head(data[:512].ljust(512, b"\0"))
    assert name
    assert size >= 0


def read_archive_records(data: bytes) -> None:
    """Read an entry of records."""
    assert encode_records(decode_records(data)) == data


def read_archive(data: bytes) -> None:
    """Read a space as one file, entry by entry."""
    with Archive(written("space.tar", data)) as archive:
        for batch in archive.records():
            assert isinstance(batch, list)
        for entry in archive.blobs().values():
            assert entry.offset + entry.size <= archive.size
            archive.read(entry, 1 << 20)


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


# --- what people write ------------------------------------------------------------------


def check_plain(value: Plain) -> None:
    """Check that a value is of the plain kinds alone."""
    if isinstance(value, list):
        for item in value:
            check_plain(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            assert isinstance(key, str)
            key.encode()
            check_plain(item)
    elif isinstance(value, str):
        value.encode()


def read_yaml(data: bytes) -> None:
    """Read YAML: what comes out can be written down as UTF-8."""
    check_plain(parse_yaml(text_of(data)))


def read_toml(data: bytes) -> None:
    """Read TOML."""
    check_plain(parse_toml(text_of(data)))


def read_recipe_yaml(data: bytes) -> None:
    """Read a recipe file in YAML."""
    read_recipe_file(written("recipe.yaml", data))


def read_recipe_toml(data: bytes) -> None:
    """Read a recipe file in TOML."""
    read_recipe_file(written("recipe.toml", data))


NAMES = ["model.layers.0.mlp.weight", "model.layers.1.mlp.weight", "head"]


def read_mergekit(data: bytes) -> None:
    """Read a configuration of mergekit, and the recipe that it asks for."""
    found = read_configuration(written("merge.yml", data))
    if not isinstance(found, Configuration):
        found = found.laid_out(dict.fromkeys(found.places, NAMES))
    contents = [bytes([i % 256]) * 32 for i in range(len(found.models))]
    assert len(found.recipe_for(contents, NAMES).digest) == 32
    assert found.first in found.places


def read_resolution(data: bytes) -> None:
    """Read a `resolution.json` as it stands, and as if its digests were right."""
    folder = written("resolved/resolution.json", data).parent
    again = with_right_digests(data)
    assert parse_resolution(again).to_json() == again
    with suppress(VerificationError):
        assert read_resolution_of(folder).to_json() == again


def with_right_digests(data: bytes) -> str:
    """Return the text that a resolution would have, were its digests those of the rest."""
    try:
        return _resolution(json.loads(data)).to_json()
    except (ValueError, RecursionError, EncodingError, MalformedRecordError) as e:
        raise BadInputError("none") from e


def read_licence(data: bytes) -> None:
    """Read the licence that a model card states: what it cannot read states nothing."""
    found = licence_of(written("card/README.md", data).parent)
    assert len(found.identifier) <= 200
    f"{found.identifier}{found.name}{found.link}".encode()
