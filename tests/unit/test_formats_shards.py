"""Sharded weights: dealt out as the Hub's library does it, one file where one will do."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import MODEL_FILE, read_folder
from crdtmerge.formats.index import SHARDS_MAX
from crdtmerge.formats.shards import INDEX_FILE, Described, lay_out_model
from crdtmerge.formats.writer import ModelWriter, create_files

TENSORS = {
    f"layers.{i}.{part}": torch.full(shape, i + 0.5, dtype=dtype)
    for i in range(12)
    for part, shape, dtype in (
        ("norm", (5,), torch.float32),
        ("up", (7, 11), torch.bfloat16),
        ("empty", (0, 2), torch.float32),
    )
}
CODES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def described() -> list[Described]:
    return [(n, CODES[t.dtype], tuple(t.shape)) for n, t in TENSORS.items()]


def raw(name: str) -> bytes:
    return TENSORS[name].reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("limit", [154, 200, 348, 1000, 2087])
def test_tensors_are_dealt_out_as_the_hubs_library_does(limit: int) -> None:
    """Same files, same index, for a state in the order of its names."""
    state = {name: TENSORS[name] for name in sorted(TENSORS)}
    theirs = split_torch_state_dict_into_shards(
        state, filename_pattern="model{suffix}.safetensors", max_shard_size=limit
    )
    ours = lay_out_model(described()[::-1], limit)
    index = json.loads(ours.index)
    # What is empty has no storage of its own, and goes elsewhere with theirs.
    filled = {name for name, tensor in state.items() if tensor.numel()}
    for name in filled:
        assert index["weight_map"][name] == theirs.tensor_to_filename[name]
    assert index["weight_map"].keys() == TENSORS.keys()
    assert index["metadata"]["total_size"] == theirs.metadata["total_size"]
    assert ours.files.keys() == theirs.filename_to_tensors.keys()


@pytest.mark.parametrize("limit", [2088, 10**12])
def test_what_fits_one_file_has_no_index(limit: int) -> None:
    """Up to the limit itself; so has a single tensor above it."""
    ours = lay_out_model(described(), limit)
    assert (list(ours.files), ours.index) == ([MODEL_FILE], b"")
    assert list(lay_out_model([("w", "F32", (1000,))], 10).files) == [MODEL_FILE]


def test_too_many_files_are_refused() -> None:
    """No reader would take them; the hint says which word to change."""
    many = [(f"t{i}", "U8", (2,)) for i in range(SHARDS_MAX + 1)]
    with pytest.raises(BadInputError, match="above the limit") as caught:
        lay_out_model(many, 3)
    assert "--shard-size" in caught.value.hint
    assert len(lay_out_model(many[:-1], 3).files) == SHARDS_MAX


def test_threads_fill_all_shards_in_parts(tmp_path: Path) -> None:
    """Tensors in any order, each in pieces: the format's own library reads them back."""
    layout = lay_out_model(described(), 300)
    create_files(tmp_path, layout)

    def fill(name: str) -> None:
        for start in range(0, max(1, len(raw(name))), 50):
            writer.write(name, raw(name)[start : start + 50], start)

    with ModelWriter(tmp_path, layout) as writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, sorted(TENSORS, reverse=True)))
    written = {p.name for p in tmp_path.iterdir()}
    assert written == {*layout.files, INDEX_FILE}
    assert layout.size == sum(p.stat().st_size for p in tmp_path.iterdir())
    for file in layout.files:
        for name, tensor in load_file(tmp_path / file).items():
            assert torch.equal(tensor, TENSORS[name])
            assert tensor.dtype == TENSORS[name].dtype
    assert [t.name for t in read_folder(tmp_path).tensors] == sorted(TENSORS)


def test_few_files_are_open_at_once(tmp_path: Path) -> None:
    """A file is open from its first byte to its last, so many shards need no more."""
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("the system does not list open files")
    before = len(list(fds.iterdir()))
    layout = lay_out_model([(f"t{i:03}", "U8", (9,)) for i in range(200)], 9)
    create_files(tmp_path, layout)
    with ModelWriter(tmp_path, layout) as writer:
        for i in range(200):
            writer.write(f"t{i:03}", bytes(4))
            writer.write(f"t{i:03}", bytes(5), 4)
            assert len(list(fds.iterdir())) <= before
        writer.write("t007", b"")
    assert len(list(fds.iterdir())) == before


def test_a_tensor_that_was_never_written_is_a_bug_of_ours(tmp_path: Path) -> None:
    """A shard whose bytes are zeros must never pass for a model."""
    layout = lay_out_model(described(), 300)
    create_files(tmp_path, layout)
    writer = ModelWriter(tmp_path, layout)
    with pytest.raises(AssertionError, match=r"layers\.0\.norm"), writer:
        pass
