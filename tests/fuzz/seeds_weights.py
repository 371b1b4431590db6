"""Valid inputs to begin with: small models' files, made by the libraries that write such.

Owns the seeds of the targets of `reading_weights`.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Iterator

from crdtmerge.codec import Value, encode
from crdtmerge.formats.header import lay_out
from crdtmerge.manifest import ITEM_BYTES

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


def zip_entries() -> Iterator[bytes]:
    """Yield the entries of a PyTorch file, and of one that lies."""
    plain: list[Value] = [
        ["a/data.pkl", b"\x80\x02}.", 0, 0, 0, -1],
        ["a/byteorder", b"little", 0, 0, 0, -1],
        ["a/data/0", bytes(8), 0, 0, 0, -1],
        ["a/data/1", bytes(8), 0, 0, 0, -1],
    ]
    yield encode(plain)
    yield encode([*plain[:3], ["a/data/1", bytes(8), 0, 0, -1, 1 << 33]])
    yield encode([["a/data.pkl", b"x", 14, 1, 0, 1 << 20]])


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
