"""Naming and checking a model before it is offered."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crdtmerge.digest import CHUNK_BYTES, blob_id, blob_id_of, chunk_digest
from crdtmerge.errors import BadInputError
from crdtmerge.formats.checking import Ground, take_base, take_model
from crdtmerge.formats.folder import ModelFolder, open_tensor, read_folder
from crdtmerge.formats.ingest import describe, headers
from crdtmerge.formats.progress import Progress
from crdtmerge.formats.survey import plain_pass
from crdtmerge.manifest import Manifest, decode_manifest
from crdtmerge.numerics import TensorFacts


def model(path: Path, **tensors: torch.Tensor) -> ModelFolder:
    path.mkdir(exist_ok=True)
    save_file(tensors, path / "model.safetensors")
    return read_folder(path)


def contributed(folder: ModelFolder, base: ModelFolder, kind: str = "full") -> Manifest:
    """Return the manifest of a folder that passed the checks against a base."""
    found, facts = take_base(base, plain_pass)
    exponents = {name: fact.exponent for name, fact in facts.items()}

    def unread(*_: object) -> memoryview:
        raise AssertionError("the base was read")

    ground = Ground(found.manifest, exponents, unread)
    return take_model(folder, kind, ground, plain_pass).manifest


def test_manifest_names_the_bytes_of_each_tensor(tmp_path: Path) -> None:
    """Blob ids are those of the raw bytes; the manifest is one that peers accept."""
    folder = model(tmp_path, b=torch.arange(9), a=torch.ones(2, 3).bfloat16())
    seen: list[Progress] = []
    manifest = describe(folder, "full", b"b" * 32, "a note", seen.append)
    assert [e.name for e in manifest.tensors] == ["a", "b"]
    for stored, entry in zip(folder.tensors, manifest.tensors, strict=True):
        assert entry.blob == blob_id_of(open_tensor(stored))
    assert decode_manifest(manifest.encode()) == manifest
    count = len(folder.tensors)
    whole = Progress("hashing", folder.size, folder.size, tensors=(count, count))
    assert seen[-1] == whole


def test_chunks_of_a_large_tensor_make_its_blob_id(tmp_path: Path) -> None:
    """A tensor over several chunks has one digest each, and the last may be short."""
    folder = model(tmp_path, w=torch.arange(CHUNK_BYTES // 2 + 3, dtype=torch.float32))
    (stored,) = folder.tensors
    (entry,) = describe(folder, "base").tensors
    data = bytes(open_tensor(stored))
    starts = range(0, len(data), CHUNK_BYTES)
    chunks = [chunk_digest(data[start : start + CHUNK_BYTES]) for start in starts]
    assert len(chunks) == 3
    assert entry.blob == blob_id(stored.size, chunks) == blob_id_of(data)


def test_sharding_does_not_change_a_model(tmp_path: Path) -> None:
    """Where tensors lie is not part of what a model is."""
    tensors = {"a": torch.ones(3), "b": torch.zeros(2)}
    one = model(tmp_path / "one", **tensors)
    two = tmp_path / "two"
    two.mkdir()
    for name, tensor in tensors.items():
        save_file({name: tensor}, two / f"{name}.safetensors")
    (two / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}'
    )
    assert describe(one, "base") == describe(read_folder(two), "base")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(
    tmp_path: Path, dtype: torch.dtype, value: float
) -> None:
    """One NaN or infinity in one tensor refuses the model, naming the tensor."""
    bad = torch.ones(1000, dtype=dtype)
    bad[777] = value
    folder = model(tmp_path, good=torch.ones(3), bad=bad)
    good = model(tmp_path / "base", good=torch.ones(3), bad=torch.ones_like(bad))
    words = r"'bad'.*NaN or infinity: item 777 is"
    with pytest.raises(BadInputError, match=words):
        take_base(folder, plain_pass)
    for kind in ("full", "delta"):
        with pytest.raises(BadInputError, match=words):
            contributed(folder, good, kind)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_model_of_8_bit_floats_is_taken_in(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    """Cast as it is, it has no scales; NaN is found in it as in any other."""
    tensors = {
        "norm.scale": torch.ones(3).to(dtype),
        "a.weight": torch.tensor([0.5, -300.0]).to(dtype),
        "b.scale": torch.ones(3),
    }
    folder = model(tmp_path, **tensors)
    assert decode_manifest(describe(folder, "base").encode()).tensors[0].size == 2
    _, facts = take_base(folder, plain_pass)
    assert facts["a.weight"] == TensorFacts(finite=True, exponent=9)
    tensors["a.weight"][1] = float("nan")
    with pytest.raises(BadInputError, match=r"'a.weight'.*NaN or infinity"):
        take_base(model(tmp_path, **tensors), plain_pass)


@pytest.mark.parametrize(
    "scale",
    [
        "a.weight_scale",
        "a.weight_scale_inv",
        "a.scale_weight",
        "a.input_scale",
        "a.scale",
        "a.weight.scale",
    ],
)
@pytest.mark.parametrize("make", [headers, describe])
def test_quantised_values_with_scales_beside_them_are_refused(
    tmp_path: Path, scale: str, make: Callable[[ModelFolder, str, bytes], Manifest]
) -> None:
    """Their average would be wrong; the message names both and says what to do."""
    weight = torch.ones(4).to(torch.float8_e4m3fn)
    folder = model(tmp_path, **{"a.weight": weight, scale: torch.ones(1)})
    words = rf"'a.weight' is F8_E4M3 with a scale beside it, '{scale}'"
    with pytest.raises(BadInputError, match=words) as caught:
        make(folder, "base", b"")
    assert "dequantise" in caught.value.hint
    wide = model(tmp_path, **{"a.weight": torch.ones(4), scale: torch.ones(1)})
    assert len(make(wide, "base", b"").tensors) == 2


def test_headroom_is_measured_from_the_bases_tensor(tmp_path: Path) -> None:
    """Below 2**(E + 6) passes, at it is refused, with E of the base's own tensor."""
    base = model(tmp_path / "base", w=torch.tensor([0.1, -3.9]), n=torch.arange(2))
    _, facts = take_base(base, plain_pass)
    assert facts == {"w": TensorFacts(finite=True, exponent=2)}
    inside = model(tmp_path / "in", w=torch.tensor([0.0, -255.9]), n=torch.arange(2))
    assert contributed(inside, base).kind == "full"
    outside = model(tmp_path / "out", w=torch.tensor([256.0, 0.0]), n=torch.arange(2))
    with pytest.raises(BadInputError, match=r"'w'.*2\^8"):
        contributed(outside, base)


def test_headroom_has_a_floor(tmp_path: Path) -> None:
    """A base of zeros or tiny values leaves room up to 64."""
    base = model(tmp_path / "base", w=torch.zeros(2))
    contributed(model(tmp_path / "in", w=torch.tensor([63.9, 0])), base)
    with pytest.raises(BadInputError, match="headroom"):
        contributed(model(tmp_path / "out", w=torch.tensor([64.0, 0])), base)
