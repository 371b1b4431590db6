"""Reading model folders: what is accepted, what is refused and how it is said."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import open_tensor, read_chunks, read_folder

Header = dict[str, object]


def write_raw(path: Path, header: object, data: bytes = b"", length: int = -1) -> Path:
    """Write a file whose header is taken as it is, lies included."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length < 0 else length
    path.write_bytes(length.to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: Sequence[object], begin: int, end: int) -> Header:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def save_shards(folder: Path) -> dict[str, str]:
    """Write two shards without an index; return what the index should say."""
    save_file({"a": torch.ones(2), "c": torch.zeros(3)}, folder / "m-1.safetensors")
    save_file({"b": torch.ones(4)}, folder / "m-2.safetensors")
    return {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}


def save_index(folder: Path, placed: object) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def test_tensors_are_read_as_torch_wrote_them(tmp_path: Path) -> None:
    """Names, dtypes, shapes and raw bytes agree, bfloat16, scalars and nothing too."""
    tensors = {
        "z.weight": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
        "a": torch.tensor(1.5, dtype=torch.float64),
        "ids": torch.arange(5),
        "flags": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    folder = read_folder(tmp_path)
    assert [t.name for t in folder.tensors] == sorted(tensors)
    assert {t.name: (t.dtype, t.shape) for t in folder.tensors} == {
        "a": ("F64", ()),
        "flags": ("BOOL", (3,)),
        "ids": ("I64", (5,)),
        "none": ("F32", (0, 4)),
        "z.weight": ("BF16", (2, 3)),
    }
    for stored in folder.tensors:
        flat = tensors[stored.name].reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes()
        assert bytes(open_tensor(stored)) == raw
        assert b"".join(read_chunks(stored)) == raw


def test_single_file_of_any_name_is_a_model(tmp_path: Path) -> None:
    """A folder's only safetensors file is the model, and so is a file by itself."""
    path = tmp_path / "tuned.safetensors"
    save_numpy({"w": np.ones(3, np.float32)}, path)
    assert read_folder(tmp_path).tensors == read_folder(path).tensors
    assert read_folder(path).files == ()


def test_shards_are_one_model(tmp_path: Path) -> None:
    """The tensors of all shards, sorted by name, each from its own file."""
    placed = save_shards(tmp_path)
    save_index(tmp_path, placed)
    found = read_folder(tmp_path)
    assert {t.name: t.path.name for t in found.tensors} == placed
    assert bytes(open_tensor(found.tensors[1])) == np.ones(4, "<f4").tobytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"d": "m-3.safetensors"}, "m-3.safetensors"),
        ({"d": "m-2.safetensors"}, "'d' in m-2.safetensors"),
        ({"b": "m-1.safetensors"}, "m-1.safetensors"),
        ({"d": "../m-2.safetensors"}, "plain file names"),
        ({"d": 3}, "plain file names"),
    ],
)
def test_index_that_lies_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    """An index that names what is not there, or elsewhere, is refused by name."""
    save_index(tmp_path, save_shards(tmp_path) | change)
    with pytest.raises(BadInputError, match=said):
        read_folder(tmp_path)


def test_index_that_leaves_a_tensor_out_is_refused(tmp_path: Path) -> None:
    """Nothing of a shard is dropped in silence."""
    placed = save_shards(tmp_path)
    del placed["c"]
    save_index(tmp_path, placed)
    with pytest.raises(BadInputError, match="'c', not listed"):
        read_folder(tmp_path)


def test_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    """Which of the two would count? Neither."""
    placed = save_shards(tmp_path)
    save_file({"b": torch.ones(4), "a": torch.ones(2)}, tmp_path / "m-2.safetensors")
    save_index(tmp_path, placed)
    with pytest.raises(BadInputError, match="'a' is in both"):
        read_folder(tmp_path)


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b'{"weight_map": {}}', b"\xff"])
def test_index_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    """Damaged JSON and JSON of another form are refused."""
    (tmp_path / "model.safetensors.index.json").write_bytes(text)
    with pytest.raises(BadInputError, match=r"index\.json"):
        read_folder(tmp_path)


def test_several_files_without_index_are_refused(tmp_path: Path) -> None:
    """Guessing which file is the model could merge the wrong one."""
    save_shards(tmp_path)
    with pytest.raises(BadInputError, match="2 safetensors files") as caught:
        read_folder(tmp_path)
    assert "index" in caught.value.hint


def test_folder_without_model_is_refused(tmp_path: Path) -> None:
    """No folder, and a folder without weights, are told apart."""
    with pytest.raises(BadInputError, match="there is no folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "training_args.bin").write_bytes(b"not weights")
    with pytest.raises(BadInputError, match="no safetensors file"):
        read_folder(tmp_path)


@pytest.mark.parametrize("kept", [0, 7, 9, 40, -1])
def test_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    """A download that stopped anywhere is refused, naming the file."""
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(64)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadInputError, match=r"model\.safetensors"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"w": entry("F32", [2], 0, 400)}, "lies.*'w'"),
        ({"w": entry("F32", [100], 0, 400)}, "truncated.*'w' ends at"),
        ({"w": entry("F32", [3], 0, 8)}, "lies.*'w'"),
        ({"w": entry("F32", [2], 8, 0)}, "lies.*'w'"),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 0, 8)}, "not a valid"),
        ({"a": entry("F32", [1], 0, 4), "b": entry("U8", [2], 6, 8)}, "not a valid"),
        ({"w": entry("F32", [-2], 0, 8)}, "'w' is not described"),
        ({"w": entry("F32", [True, 2], 0, 8)}, "'w' is not described"),
        ({"w": entry("F32", [2**70], 0, 8)}, "'w' is not described"),
        ({"w": entry("F32", [1] * 9 + [2], 0, 8)}, "'w' is not described"),
        ({"w": {"dtype": "F32"}}, "'w' is not described"),
        ({"w" * 513: entry("F32", [2], 0, 8)}, "513 characters"),
        ({"": entry("F32", [2], 0, 8)}, "0 characters"),
        ({"\ud800": entry("F32", [2], 0, 8)}, "not Unicode"),
        ({}, "not a valid|no tensor"),
        ([], "not a JSON object"),
        (b"{" * 100_000, "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"w": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b'{"w":\xff}', "not JSON"),
    ],
)
def test_lying_header_is_refused(tmp_path: Path, header: object, said: str) -> None:
    """Offsets, shapes and names that cannot be true are refused before they are used."""
    write_raw(tmp_path / "model.safetensors", header, bytes(8))
    with pytest.raises(BadInputError, match=said):
        read_folder(tmp_path)


def test_name_given_twice_in_one_header_is_refused(tmp_path: Path) -> None:
    """JSON parsers differ on which of two equal keys counts."""
    one = json.dumps(entry("F32", [2], 0, 8)).encode()
    two = b'{"w":' + one + b',"w":' + one + b"}"
    write_raw(tmp_path / "model.safetensors", two, bytes(8))
    with pytest.raises(BadInputError, match="'w' twice"):
        read_folder(tmp_path)


def test_giant_header_is_refused_unread(tmp_path: Path) -> None:
    """A length above the format's limit is refused whatever the file's size."""
    write_raw(tmp_path / "model.safetensors", {}, bytes(64), length=100_000_001)
    with pytest.raises(BadInputError, match="above the limit"):
        read_folder(tmp_path)


def test_empty_model_is_refused(tmp_path: Path) -> None:
    """Metadata alone is no model."""
    metadata = {"__metadata__": {"format": "pt"}}
    write_raw(tmp_path / "model.safetensors", metadata)
    with pytest.raises(BadInputError, match="no tensor"):
        read_folder(tmp_path)


@pytest.mark.parametrize("dtype", ["F8_E8M0", "C64", "F128", "f32"])
def test_unknown_dtype_is_refused_by_name(tmp_path: Path, dtype: str) -> None:
    """The message has tensor and dtype, the hint those that are supported."""
    header = {"w": entry(dtype, [8], 0, 8)}
    write_raw(tmp_path / "model.safetensors", header, bytes(8))
    with pytest.raises(BadInputError, match=f"'w'.*unknown dtype '{dtype}'") as caught:
        read_folder(tmp_path)
    assert "BF16" in caught.value.hint


def test_only_plain_companions_go_along(tmp_path: Path) -> None:
    """Configuration and tokenizer go with a model; weights and old records do not."""
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    kept = ["config.json", "merges.txt", "spiece.model", "vocab.json"]
    left = [".git", "a.bin", "b.PT", "c.index.json", "d.safetensors", "resolution.json"]
    for name in kept + left:
        (tmp_path / name).write_text("{}")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(64 << 20)
    files = read_folder(tmp_path).files
    assert files == tuple((name, tmp_path / name) for name in kept)


def test_linked_files_are_followed(tmp_path: Path) -> None:
    """The download cache of the hub holds links to its files."""
    save_file({"w": torch.ones(2)}, tmp_path / "blob")
    (tmp_path / "text").write_text("{}")
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    (folder / "config.json").symlink_to(tmp_path / "text")
    found = read_folder(folder)
    assert [t.name for t in found.tensors] == ["w"]
    assert [name for name, _ in found.files] == ["config.json"]


def test_file_that_shrank_is_refused(tmp_path: Path) -> None:
    """A file cut after its header was read is an error, not a crash."""
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(4096)}, path)
    (stored,) = read_folder(tmp_path).tensors
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(BadInputError, match="changed"):
        open_tensor(stored)
    with pytest.raises(BadInputError, match="changed"):
        list(read_chunks(stored))


def test_truncated_shard_is_named(tmp_path: Path) -> None:
    """Of several files the one that stopped early is named, and what to do about it."""
    save_index(tmp_path, save_shards(tmp_path))
    shard = tmp_path / "m-2.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(BadInputError, match=r"m-2\.safetensors is truncated") as caught:
        read_folder(tmp_path)
    assert "download it again" in caught.value.hint


@pytest.mark.parametrize("data", [b"", bytes(8), (2).to_bytes(8, "little") + b"{}"])
def test_empty_shard_is_refused(tmp_path: Path, data: bytes) -> None:
    """No bytes, no header, or a header without the tensors that the index places there."""
    save_index(tmp_path, save_shards(tmp_path))
    (tmp_path / "m-2.safetensors").write_bytes(data)
    with pytest.raises(BadInputError, match=r"m-2\.safetensors") as caught:
        read_folder(tmp_path)
    assert caught.value.hint


def test_index_that_names_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    """JSON parsers differ on which of two equal keys counts."""
    placed = json.dumps(save_shards(tmp_path))
    twice = placed[:-1] + ', "a": "m-2.safetensors"}'
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(f'{{"weight_map": {twice}}}')
    with pytest.raises(BadInputError, match=r"index\.json names 'a' twice"):
        read_folder(tmp_path)


def test_links_without_their_file_are_named(tmp_path: Path) -> None:
    """A download cache whose blobs went is no folder without a model."""
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(BadInputError, match="link to a file that is not there"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_pointer_of_git_lfs_is_told(tmp_path: Path, name: str) -> None:
    """A clone without the files themselves is the most common damage of all."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInputError, match="pointer of Git LFS") as caught:
        read_folder(tmp_path)
    assert "git lfs pull" in caught.value.hint


def test_a_long_list_of_names_is_judged_quickly(tmp_path: Path) -> None:
    """Finding the name that is given twice takes no time that grows with its square."""
    names = ",".join(f'"{i}":0' for i in range(200_000))
    write_raw(tmp_path / "model.safetensors", f'{{{names},"199999":0}}'.encode())
    with pytest.raises(BadInputError, match="'199999' twice"):
        read_folder(tmp_path)
