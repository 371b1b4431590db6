"""Valid inputs to begin with: what users give beside weights.

Owns the seeds of the targets of `reading_files`. What people write is written here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crdtmerge.codec import Value, encode
from crdtmerge.digest import BlobId, ContentId, blob_id_of
from crdtmerge.manifest import TensorEntry
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.resolve.resolution import (
    Adapted,
    Piece,
    Resolution,
    Source,
    Unread,
    root_without_space,
)
from crdtmerge.sync.messages import SignedBytes
from nodes.archive.form import (
    BaseEntry,
    BaseFile,
    Header,
    blob_name,
    encode_records,
    entry_head,
    padding,
    records_name,
)
from nodes.ticket import Ticket
from tests.merge_configurations import MERGEKITS, smallest
from tests.unit.peers import SPACE
from tests.vectors.formats import RECIPE, history

CONFIGURATIONS: Final = Path(__file__).parent.parent / "mergekit_files"
ID: Final = "3f2a" * 16


# --- tickets, sizes, passphrases, archives ----------------------------------------------


def tickets() -> Iterator[bytes]:
    """Yield payloads of tickets, whose checksum the target adds, and a whole one."""
    base = ContentId(bytes(32))
    addresses = ("192.0.2.1:7421", "[2001:db8::1]:7421")
    ticket = Ticket(SPACE, base, bytes(16), bytes(32), addresses, "a space")
    yield ticket.encode().encode()
    value: list[Value] = [1, SPACE, base, bytes(16), bytes(32), list(addresses)]
    value.append("a space")
    yield encode(value)


def sizes() -> Iterator[bytes]:
    """Yield sizes and weights."""
    yield from (b"500MB", b"20GiB", b"1000000", b"1.5 T", b"0", b".25", b"+1.50")


def passphrases() -> Iterator[bytes]:
    """Yield passphrases in a file."""
    yield from (b"correct horse\n", "é ü\r\n".encode(), b"x")


def archive_headers() -> Iterator[bytes]:
    """Yield the headers of a space with its base, and without."""
    blob = BlobId(bytes(32))
    files = (BaseFile("README.md", 2, blob), BaseFile("config.json", 9, blob))
    yield Header(SPACE, 3, bytes(32), 2, 100).encode()
    yield Header(SPACE, 3, bytes(32), 2, 100, BaseEntry(blob, 7, files)).encode()


def archive_entries() -> Iterator[bytes]:
    """Yield heads of entries, without the zeros that end them."""
    for name, size in ((records_name(0), 700), (blob_name(BlobId(bytes(32))), 1 << 33)):
        yield entry_head(name, size).rstrip(b"\0")


def _records() -> list[SignedBytes]:
    return [SignedBytes(s.record.data, s.signature) for s in history().values()][:2]


def archive_records() -> Iterator[bytes]:
    """Yield an entry of records."""
    yield encode_records(_records())


def archives() -> Iterator[bytes]:
    """Yield a whole file: header, records, two blobs."""
    blobs = {blob_id_of(data): data for data in (b"first", b"second")}
    total = sum(map(len, blobs.values()))
    header = Header(SPACE, 2, bytes(32), 2, total).encode()
    parts = {"crdtmerge.json": header, records_name(0): encode_records(_records())}
    parts |= {blob_name(blob): blobs[blob] for blob in sorted(blobs)}
    out = b"".join(
        entry_head(name, len(data)) + data + bytes(padding(len(data)))
        for name, data in parts.items()
    )
    yield out + bytes(1024)


# --- what people write ------------------------------------------------------------------

YAML: Final = f"""strategy: ties
parameters: {{density: 0.30, lambda: 1, normalize: no}}
pre:
  - trim: {{density: 0.5}}
weights:
  - {{tag: math, weight: 2}}
  - {{content: {ID}, weight: .5}}
rules:
  - {{tensors: "*.bias", parameters: {{density: 1}}}}
  - {{layers: 0..7, parameters: {{density: [0.1, 0.50]}}}}
  - {{name: model.norm.weight, parameters: {{trim.density: 1}}}}
  - {{regex: '.*(q|k)_proj.*', author: {ID}, weight: -0.5}}
output_dtype: bf16
seed_scope: contribution
missing: base
io_budget: 1GB
"""
TOML: Final = f"""strategy = "ties"
parameters = {{density = 0.30, lambda = 1, normalize = false}}
post = [{{"scale/1" = {{by = 0.8}}}}]
weights = [{{tag = "math", weight = 2}}, {{content = "{ID}", weight = 0.5}}]
[[rules]]
layers = 3
tensors = "*.mlp.*"
weight = [0, 1]
"""


def yamls() -> Iterator[bytes]:
    """Yield YAML with aliases, quotes, escapes, tags and numbers."""
    yield b"a: [1, -2.5, 0x1F, true, null, 2026-01-01]\nb: &x {c: 'd'}\ne: *x\n"
    yield b'a: "\\u00e9\\x41\\U0001F600"\nb: |\n  text\n  more\nc: >-\n  folded\n'
    yield b"%YAML 1.1\n---\n- !!str 1\n- !!int '7'\n- ? key\n  : value\n...\n"


def tomls() -> Iterator[bytes]:
    """Yield TOML of every form."""
    yield b"a = [1, 0x1F, -2.5e3, true]\nb = {c = \"d\\u00e9\"}\n[t.u]\nv = 'w'\n"
    yield b'[[x]]\ny = """z\n"""\n[[x]]\nd = 2026-01-01T00:00:00Z\n'


def recipe_yamls() -> Iterator[bytes]:
    """Yield recipe files in YAML."""
    yield YAML.encode()
    yield b"strategy: linear\n"


def recipe_tomls() -> Iterator[bytes]:
    """Yield recipe files in TOML."""
    yield TOML.encode()
    yield b'strategy = "linear"\n'


def mergekits() -> Iterator[bytes]:
    """Yield configurations of every method, and those that people publish."""
    yield from (smallest(method).encode() for method in MERGEKITS)
    yield from (path.read_bytes() for path in sorted(CONFIGURATIONS.glob("*.yml")))
    yield (
        b"merge_method: ties\nbase_model: {model: base}\nmodels:\n- model: a\n"
        b"  parameters: {weight: [0, 1], density: [{filter: mlp, value: 0.5}, 0.2]}\n"
        b"tokenizer: {source: union, tokens: {'<s>': {source: a}}, pad_to_multiple_of: 8}\n"
        b"chat_template: auto\n"
    )


def resolutions() -> Iterator[bytes]:
    """Yield resolutions of a space, of an adapter, and of a merge of no space."""
    tensors = (
        TensorEntry("a", "F32", (2, 3), blob_id_of(bytes(24))),
        TensorEntry("b", "BF16", (), blob_id_of(bytes(2))),
    )
    one = ContentId(bytes([1]) * 32)
    rich = Recipe(
        "ties/1", RECIPE.parameters, (Rule("*", (("weight", "1"),), "tag:x"),)
    )
    unread = Unread(1, 24, bytes(32))
    sources = (
        Source(one, 10**9, (bytes(32),), (), ("x",), unread),
        Source(ContentId(bytes([2]) * 32), 5 * 10**8, ()),
    )
    ids = SPACE, bytes(32), bytes(32), ContentId(bytes(32))
    seeds = (("a", bytes(32)),)
    whole = Resolution("0.1", 1, *ids, rich, sources, seeds, tensors)
    yield whole.to_json().encode()
    adapter = Adapted(4, BlobId(bytes(32)))
    yield (
        Resolution("0.1", 1, *ids, RECIPE, (), (), tensors, adapter).to_json().encode()
    )
    alone = (Source(one, 10**9, (), (("density", "0.5"),)),)
    pieces = ((one, (Piece(one, 0, 4, 0), Piece(one, 2, 4, 4))),)
    root = root_without_space(alone)
    free = (b"", bytes(32), root, ContentId(b""))
    bare = Resolution("0.1", 1, *free, RECIPE, alone, (), tensors, None, pieces)
    yield bare.to_json().encode()


def licences() -> Iterator[bytes]:
    """Yield model cards."""
    yield b"---\nlicense: apache-2.0\ntags: [a, b]\n---\n# A model\n"
    yield b"---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\n---\n"
