"""What a manifest says of each tensor of its base, and what fits none."""

import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from crdtmerge.changes import (
    Change,
    Delta,
    LowRank,
    Whole,
    change_of_key,
    changes_of,
    key_of,
    task_vector_of,
)
from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import BadInputError
from crdtmerge.manifest import Manifest, TensorEntry

BLOBS: dict[BlobId, bytes] = {}


def entry(name: str, array: torch.Tensor, dtype: str = "F32") -> TensorEntry:
    """A tensor whose bytes `read` gives back."""
    data = array.contiguous().numpy().tobytes()
    BLOBS[blob_id_of(data)] = data
    return TensorEntry(name, dtype, tuple(array.shape), blob_id_of(data))


def read(tensor: TensorEntry) -> bytes:
    return BLOBS[tensor.blob]


def scale(target: str, value: float = 0.5) -> TensorEntry:
    return entry(
        f"{target}.lora_scale", torch.tensor(value, dtype=torch.float64), "F64"
    )


def manifest(kind: str, *entries: TensorEntry) -> Manifest:
    ordered = tuple(sorted(entries, key=lambda e: e.name))
    return Manifest(kind, b"" if kind == "base" else BASE.content_id, ordered)


BASE = manifest(
    "base",
    entry("conv.weight", torch.zeros(6, 4, 3, 3)),
    entry("emb.weight", torch.zeros(10, 4)),
    entry("lin.weight", torch.zeros(6, 4)),
    entry("lin.bias", torch.zeros(6)),
    entry("steps", torch.zeros(1, dtype=torch.int64), "I64"),
)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def test_a_kernels_factors_are_what_a_convolution_makes_of_them() -> None:
    """PEFT: the second factor is a 1 x 1 convolution over the first."""
    a, b = drawn(2, 4, 3, 3), drawn(6, 2, 1, 1)
    made = manifest(
        "lora",
        entry("conv.weight.lora_A", a),
        entry("conv.weight.lora_B", b),
        scale("conv.weight"),
    )
    (change,) = changes_of(made, BASE).values()
    assert isinstance(change, LowRank)
    product = torch.nn.functional.conv2d(a.permute(1, 0, 2, 3), b)
    expected = 0.5 * product.permute(1, 0, 2, 3)
    tau = task_vector_of(change, read, "w").reshape(expected.shape)
    assert np.allclose(tau, expected, atol=1e-6)


def test_an_embeddings_product_is_transposed() -> None:
    """Its weight is (vocabulary, width), its factors (rank, vocabulary), (width, rank)."""
    a, b = drawn(2, 10), drawn(4, 2)
    made = manifest(
        "lora",
        entry("emb.weight.lora_embedding_A", a),
        entry("emb.weight.lora_embedding_B", b),
        scale("emb.weight", 2.0),
        entry("lin.bias", torch.ones(6)),
    )
    changes = changes_of(made, BASE)
    assert list(changes) == ["emb.weight", "lin.bias"]
    assert isinstance(changes["lin.bias"], Whole)
    pair = changes["emb.weight"]
    assert isinstance(pair, LowRank)
    tau = task_vector_of(pair, read, "w").reshape(10, 4)
    assert np.allclose(tau, 2 * (b @ a).T, atol=1e-6)


def test_a_delta_is_rounded_once_to_float32() -> None:
    """It may come in float64; what it does not mention is left as it is."""
    values = torch.tensor([0.1, -0.2, 1 / 3, 0, -0.0, 5], dtype=torch.float64)
    changes = changes_of(manifest("delta", entry("lin.bias", values, "F64")), BASE)
    assert list(changes) == ["lin.bias"]
    delta = changes["lin.bias"]
    assert isinstance(delta, Delta)
    expected = np.array([0.1, -0.2, 1 / 3, 0, 0, 5], dtype="<f4")
    assert task_vector_of(delta, read, "w").tobytes() == expected.tobytes()


def test_the_key_tells_apart_what_gives_other_bits() -> None:
    """Equal bytes as a whole tensor, a delta or factors are three things."""
    square = entry("lin.weight", torch.zeros(6, 4))
    as_half = Whole(replace(square, dtype="BF16"))
    changes: list[Change] = [Whole(square), as_half, Delta(square)]
    keys = {repr(key_of(change, square)) for change in changes}
    pair = entry("a", drawn(4, 4)), entry("b", drawn(4, 4)), scale("t")
    keys |= {repr(LowRank(layer, *pair).key) for layer in ("linear", "fan_in")}
    keys.add(repr(LowRank("linear", *pair[:2], scale("t", 0.25)).key))
    assert len(keys) == 6


def test_a_change_is_found_again_by_its_key() -> None:
    """What sums have kept of a contribution is enough to read it once more."""
    target = BASE.tensors[0]
    assert target.name == "conv.weight"
    factors = entry("a", drawn(2, 4, 3, 3)), entry("b", drawn(6, 2, 1, 1)), scale("t")
    embedded = entry("a", drawn(2, 6)), entry("b", drawn(4, 2)), scale("t", 3.0)
    for change in (
        Delta(entry("conv.weight", drawn(6, 4, 3, 3).double(), "F64")),
        LowRank("linear", *factors),
        LowRank("embedding", *embedded),
    ):
        found = change_of_key(decode(encode(change.key), 1000), target)
        assert key_of(found, target) == change.key
        assert not isinstance(found, Whole)
        again = task_vector_of(found, read, "w")
        assert again.tobytes() == task_vector_of(change, read, "w").tobytes()
    for dtype in ("F32", "BF16"):
        whole = Whole(replace(target, dtype=dtype))
        key = decode(encode(key_of(whole, target)), 1000)
        assert change_of_key(key, target) == whole
    assert change_of_key(target.blob, target) == Whole(target)
    keys: list[Value] = [
        [],
        ["delta", "F32"],
        ["lora", 2, [], [], []],
        ["lora", 0, 1, 2, 3],
        7,
    ]
    for key in keys:
        with pytest.raises(BadInputError, match=r"of 'conv\.weight' has this key"):
            change_of_key(key, target)


A, B = drawn(2, 4), drawn(6, 2)


def _pair(**changed: object) -> Callable[[], Manifest]:
    def make() -> Manifest:
        parts: dict[str, object] = {
            "a": entry("lin.weight.lora_A", A),
            "b": entry("lin.weight.lora_B", B),
            "scale": scale("lin.weight"),
            **changed,
        }
        kept = [part for part in parts.values() if isinstance(part, TensorEntry)]
        return manifest("lora", *kept)

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_pair(b=None), "incomplete"),
        (_pair(scale=None), "incomplete"),
        (_pair(a=None), "'lin.weight.lora_B', which fits none"),
        (_pair(a=entry("lin.weight.lora_A", drawn(3, 4))), r"\[3, 4\] and \[6, 2\]"),
        (_pair(a=entry("lin.weight.lora_A", drawn(2, 5))), r"\[2, 5\]"),
        (
            _pair(
                a=entry("lin.weight.lora_A", torch.zeros(0, 4)),
                b=entry("lin.weight.lora_B", torch.zeros(6, 0)),
            ),
            r"\[0, 4\]",
        ),
        (_pair(scale=entry("lin.weight.lora_scale", torch.ones(1))), "factors for"),
        (_pair(more=entry("lin.weight", torch.zeros(6, 4))), "fits none"),
        (_pair(more=entry("steps", torch.zeros(2))), "in the base I64"),
        (
            _pair(
                a=entry("lin.weight.lora_fan_in_A", A),
                b=entry("lin.weight.lora_fan_in_B", B),
            ),
            r"in the base it is \[6, 4\]",
        ),
        (
            lambda: manifest("delta", entry("steps", torch.zeros(1))),
            "only floating-point",
        ),
        (lambda: BASE, "'base' is no contribution"),
    ],
)
def test_what_fits_no_tensor_is_refused(
    make: Callable[[], Manifest], said: str
) -> None:
    """Half pairs, other shapes, rank zero, both ways at once: named."""
    with pytest.raises(BadInputError, match=said):
        changes_of(make(), BASE)


def test_a_scale_is_read_as_float64() -> None:
    """Eight little-endian bytes, whatever machine wrote them."""
    assert BLOBS[scale("t", 0.1).blob] == struct.pack("<d", 0.1)
