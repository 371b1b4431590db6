"""Valid inputs to begin with: what users give, and what a home holds.

Owns the seeds of the targets of `reading_files` and `reading_homes`. Most are made by our
own encoders or by the libraries that write such files; what people write is written here.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crdtmerge.codec import Value, encode
from crdtmerge.digest import CHUNK_BYTES, BlobId, ContentId, blob_id_of
from crdtmerge.encodings import Form
from crdtmerge.encodings import encode as encode_chunk
from crdtmerge.formats.header import lay_out
from crdtmerge.formats.journal import Journal
from crdtmerge.identity import Purpose
from crdtmerge.manifest import ITEM_BYTES, TensorEntry
from crdtmerge.numerics import Data
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.resolve.kept import Packing, header_of
from crdtmerge.resolve.resolution import (
    Adapted,
    Piece,
    Resolution,
    Source,
    Unread,
    root_without_space,
)
from crdtmerge.sync.messages import SignedBytes
from nodes.agent import AgentKey
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
from nodes.sealing import Cost, seal
from nodes.ticket import Ticket
from tests.fuzz.reading_files import scratch
from tests.fuzz.reading_homes import AGENT_KEY
from tests.fuzz.seeds import BIG
from tests.merge_configurations import MERGEKITS, smallest
from tests.unit.peers import SPACE
from tests.vectors.formats import LAST, MANIFEST, OWNER, RECIPE, history, kept_sums

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
    """Yield sizes."""
    yield from (b"500MB", b"20GiB", b"1000000", b"1.5 T", b"0")


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


# --- weights ----------------------------------------------------------------------------


def safetensors() -> Iterator[bytes]:
    """Yield small files: of one tensor of each dtype, and of several."""
    for dtypes in (*([dtype] for dtype in ITEM_BYTES), ["F64", "BF16", "I8"]):
        made = lay_out([(f"t.{dtype}", dtype, (2, 1)) for dtype in dtypes])
        yield made.header + bytes(made.size - len(made.header))
    yield (2).to_bytes(8, "little") + b"{}"


def indices() -> Iterator[bytes]:
    """Yield the index that is right, with metadata and without."""
    placed = {"a": "a.safetensors", "b": "b.safetensors"}
    yield json.dumps({"weight_map": placed}).encode()
    yield json.dumps({"metadata": {"total_size": 16}, "weight_map": placed}).encode()


def _saved(value: object) -> bytes:
    import torch  # takes seconds, and most targets do without

    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def zips() -> Iterator[bytes]:
    """Yield what torch saves, small, and zips that are compressed."""
    import torch

    yield _saved({"w": torch.zeros(2)})
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in (
                ("a/data.pkl", b"\x80\x02N."),
                ("a/data/0", b"12345678"),
            ):
                archive.writestr(zipfile.ZipInfo(name), data, method)
        yield out.getvalue()


def pickles() -> Iterator[bytes]:
    """Yield the pickles of tensors: plain, a view, a parameter, nested, and none."""
    import torch

    whole = torch.zeros(2, 3)
    for value in (
        {"w": whole},
        {"w": whole, "v": whole[1:]},
        {"w": torch.nn.Parameter(whole)},
        {"w": whole.t(), "b": torch.zeros(2, dtype=torch.bfloat16)},
        {"epoch": 3, "w": whole},
        [whole],
    ):
        with zipfile.ZipFile(io.BytesIO(_saved(value))) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
            yield archive.read(name)
    yield pickle.dumps({"a": print}, 2)


# --- JSON beside the weights ------------------------------------------------------------


def model_configs() -> Iterator[bytes]:
    """Yield configurations of models."""
    yield json.dumps(
        {
            "architectures": ["LlamaForCausalLM"],
            "torch_dtype": "float32",
            "num_hidden_layers": 3,
            "layer_types": ["full", "sliding", "full"],
            "mlp_only_layers": [0, 2],
            "quantization_config": {"bits": 4},
        }
    ).encode()
    yield json.dumps({"text_config": {"dtype": "bfloat16", "n_layer": 3}}).encode()


def adapter_configs() -> Iterator[bytes]:
    """Yield configurations of adapters."""
    yield json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}).encode()
    yield json.dumps(
        {
            "peft_type": "LORA",
            "r": 8,
            "lora_alpha": 16.5,
            "rank_pattern": {r"layers\.\d+\.q": 2},
            "alpha_pattern": {"q|k": 3, "^x$": 1},
            "use_rslora": True,
            "fan_in_fan_out": True,
            "init_lora_weights": "gaussian",
            "base_model_name_or_path": "some/model",
        }
    ).encode()


def adapter_names() -> Iterator[bytes]:
    """Yield the tensors of adapters: factors, of an embedding, heads and biases."""
    start = "base_model.model.layers.0.q"
    pair = [[f"{start}.lora_A.weight", [2, 3]], [f"{start}.lora_B.weight", [4, 2]]]
    yield json.dumps(pair).encode()
    more = [
        ["base_model.model.embed.lora_embedding_A", [2, 5]],
        ["base_model.model.embed.lora_embedding_B", [3, 2]],
        ["base_model.model.head.modules_to_save.weight", [2]],
        ["base_model.model.layers.0.q.base_layer.bias", [4]],
        ["base_model.model.layers.0.q.original_module.bias", [4]],
    ]
    yield json.dumps([*pair, *more]).encode()


def token_ids() -> Iterator[bytes]:
    """Yield configurations that name tokens by number."""
    yield b'{"vocab_size": 2, "eos_token_id": 1, "x_token_id": [0, 1], "y_token_id": 9}'
    yield b'{"text_config": {"vocab_size": 2, "image_token_index": 1}, "x_token_id": 0}'


def chat_templates() -> Iterator[bytes]:
    """Yield tokenizer configurations with a template, and with several."""
    yield json.dumps({"chat_template": "{{ messages }}", "eos_token": "</s>"}).encode()
    yield json.dumps({"chat_template": [{"name": "a", "template": "b"}]}).encode()


def tokenizers() -> Iterator[bytes]:
    """Yield tokenizers of the common models."""
    added = [{"id": 2, "content": "<s>", "special": True}]
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}
    yield json.dumps({"model": model, "added_tokens": added}).encode()
    pieces = {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2]], "unk_id": 0}
    yield json.dumps({"model": pieces, "added_tokens": added}).encode()
    pairs = {**model, "type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}
    yield json.dumps({"model": pairs, "normalizer": None}).encode()


def vocabs() -> Iterator[bytes]:
    """Yield older vocabularies."""
    yield b'{"a": 0, "b": 1}\0{"<s>": 2}'
    yield b'{"a": 0}'


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


# --- files of a home --------------------------------------------------------------------


def sealed_keys() -> Iterator[bytes]:
    """Yield encrypted keys: with their checksum, and the lines before it."""
    sealed = seal(
        OWNER.seed, b"passphrase", salt=bytes(16), nonce=bytes(12), cost=Cost(4, 1, 1)
    )
    yield sealed
    yield sealed[: sealed.index(b"checksum")]
    yield sealed.replace(b"scrypt 4 1 1", b"scrypt 17 8 1")


def key_files() -> Iterator[bytes]:
    """Yield keys in the clear, and encrypted."""
    yield f"{OWNER.seed.hex()}\n".encode()
    yield AgentKey(OWNER.public).form()
    yield next(sealed_keys())


def sums() -> Iterator[bytes]:
    """Yield the value of a header of kept sums, with the planes."""
    found, planes = kept_sums(), list[Data]()
    packing = Packing(found.grid, planes.append)
    packing.add(found.part(range(3)))
    header = header_of(found, LAST, packing.packed)
    yield header[16:-32] + b"\0planes" + b"".join(bytes(part) for part in planes)


def sums_files() -> Iterator[bytes]:
    """Yield a header of kept sums as it lies in its file."""
    found, planes = kept_sums(), list[Data]()
    packing = Packing(found.grid, planes.append)
    packing.add(found.part(range(3)))
    yield header_of(found, LAST, packing.packed)


def packed() -> Iterator[bytes]:
    """Yield a packed blob: two lengths, and its chunks."""
    chunks = (BIG[:CHUNK_BYTES], b"tail!")
    for form, width in ((Form.DIFFERENCE, 2), (Form.XOR, 1), (Form.GROUPED, 4)):
        made = [
            encode_chunk(chunk, width=width, against=chunk, form=form) or chunk
            for chunk in chunks
        ]
        yield b"".join(len(one).to_bytes(2, "big") for one in made) + b"".join(made)


def journals() -> Iterator[bytes]:
    """Yield a journal of two tensors, and one that was torn."""
    path = scratch() / "made.journal"
    journal = Journal(path, bytes(32))
    journal.note("a", bytes(32), BlobId(bytes(32)))
    journal.note("é b", bytes(32), BlobId(bytes([1]) * 32))
    journal.close()
    data = path.read_bytes()
    path.unlink()
    yield data
    yield data[:-9]


def anchors() -> Iterator[bytes]:
    """Yield an anchor, the place that a store remembers, and doubts."""
    place = encode([7, "stamp", 8])
    yield b"00000000000000000007\n\0\0" + place + b"\0\0" + encode([])
    yield b"00000000000000000008\n\0\0" + place + b"\0\0" + encode([[SPACE, 1, 1]])
    yield b"\0\0" + encode([0, "", 1]) + b"\0\0" + encode([])


def rows() -> Iterator[bytes]:
    """Yield a row of the memo, its seal left for the target."""
    yield encode([b"/a/model.safetensors", bytes(32), 8, 24, 1000, 1 << 60, 77, b""])


def scrub_places() -> Iterator[bytes]:
    """Yield where a check ended."""
    yield encode([1_700_000_000, bytes(32), 5, 3, 1_700_000_000])


def exponents() -> Iterator[bytes]:
    """Yield exponents of a base."""
    yield b'{"a.weight": 3, "b": -2}'


def attested() -> Iterator[bytes]:
    """Yield what a home attests, its seal left for the target."""
    listed: list[Value] = [entry.to_value() for entry in MANIFEST.tensors]
    yield encode([1, 7, bytes(32), 2, "CPython 3.11, x86_64", listed])


def locks() -> Iterator[bytes]:
    """Yield who holds a lock."""
    yield from (b"123 node\n", b"4567890 command\n")


def requests() -> Iterator[bytes]:
    """Yield requests on the control socket."""
    yield b'{"verb": "status", "arguments": {}}'
    yield b'{"verb": "space_grant", "arguments": {"author": "ab", "rank": "reader"}}'


def agents() -> Iterator[bytes]:
    """Yield what an agent answers: its keys, and a signature."""
    kind = b"ssh-ed25519"
    blob = string(kind) + string(AGENT_KEY.public)
    listed = (1).to_bytes(4, "big") + string(blob) + string(b"a comment")
    yield string(bytes([12]) + listed)
    signature = AGENT_KEY.sign(Purpose.PROBE, b"message")
    signed = string(string(kind) + string(signature))
    yield string(bytes([12]) + listed) + string(bytes([14]) + signed)


def string(data: bytes) -> bytes:
    """Return bytes as the protocol of ssh-agent has them, their length before them."""
    return len(data).to_bytes(4, "big") + data
