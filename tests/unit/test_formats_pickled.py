"""PyTorch files: read in place, byte for byte what torch loads, and never run."""

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import open_tensor, read_folder
from crdtmerge.formats.pickled import read_pickled

DTYPES = (
    *(torch.float64, torch.float32, torch.bfloat16, torch.float16),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
)


def raw(tensor: torch.Tensor) -> bytes:
    """Return a tensor's bytes, as torch has them in memory."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def model() -> dict[str, torch.Tensor]:
    """Return tensors of every dtype, shared ones, slices, a scalar and nothing."""
    whole = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    made = {str(dtype): whole.abs().to(dtype) for dtype in DTYPES}
    shared = {"embed": whole, "head": whole, "rows": whole[2:4]}
    odd = {"one": torch.tensor(1.5), "none": torch.zeros(0, 3), "bytes": whole[0, 1:3]}
    return {**made, **shared, **odd, "own": torch.nn.Parameter(torch.ones(3))}


def check_as_loaded(path: Path) -> None:
    """Check that each tensor read in place is the one that torch loads."""
    loaded = torch.load(path, weights_only=True)
    found = {stored.name: stored for stored in read_pickled(path)}
    assert found.keys() == loaded.keys()
    for name, tensor in loaded.items():
        assert found[name].shape == tuple(tensor.shape)
        assert bytes(open_tensor(found[name])) == raw(tensor), name


def test_each_tensor_is_the_one_that_torch_loads(tmp_path: Path) -> None:
    """All dtypes, shared storages and slices of them, from the file as it lies there."""
    path = tmp_path / "pytorch_model.bin"
    torch.save(model(), path)
    check_as_loaded(path)
    at = {stored.name: stored.offset for stored in read_folder(tmp_path).tensors}
    assert at["head"] == at["embed"], "tied tensors lie in one place"
    assert at["rows"] == at["embed"] + 2 * 4 * 4


def test_dtypes_are_those_of_safetensors(tmp_path: Path) -> None:
    """The two forms of one model read alike; the safetensors library is the oracle."""
    whole = {str(dtype): torch.ones(4, 3).to(dtype) for dtype in DTYPES}
    torch.save(whole, tmp_path / "a.pt")
    save_file(whole, tmp_path / "b.safetensors")
    one, two = (read_folder(tmp_path / name) for name in ("a.pt", "b.safetensors"))
    assert [(t.name, t.dtype, t.shape) for t in one.tensors] == [
        (t.name, t.dtype, t.shape) for t in two.tensors
    ]


@pytest.mark.parametrize("order", ["turned", "no_version"])
def test_records_count_by_their_names(tmp_path: Path, order: str) -> None:
    """Where a record lies is what its own header says, in whatever order they stand.

    torch itself computes offsets of newer files from the order of their records.
    """
    path, other = tmp_path / "a.bin", tmp_path / "b.bin"
    torch.save({"a": torch.ones(4), "b": torch.zeros(4), "c": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        names = old.namelist()
        if order == "no_version":
            names = [name for name in names if not name.endswith(".format_version")]
        for name in reversed(names):
            new.writestr(name, old.read(name))
    check_as_loaded(other)


def test_an_index_joins_pytorch_files(tmp_path: Path) -> None:
    """Shards of pytorch_model.bin.index.json are one model; the index is checked."""
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model-1.bin")
    torch.save({"b": torch.zeros(3)}, tmp_path / "pytorch_model-2.bin")
    placed = {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": placed}))
    found = read_folder(tmp_path).tensors
    assert {t.name: t.path.name for t in found} == placed
    index.write_text(json.dumps({"weight_map": placed | {"c": "pytorch_model-2.bin"}}))
    with pytest.raises(BadInputError, match="places tensor 'c'"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tuned.bin", "x.pt", "x.pth"])
def test_the_only_file_is_the_model(tmp_path: Path, name: str) -> None:
    """What a trainer leaves beside the weights is none of it."""
    torch.save({"w": torch.ones(2)}, tmp_path / name)
    for left in (
        "optimizer.pt",
        "scheduler.pt",
        "rng_state_0.pth",
        "training_args.bin",
    ):
        (tmp_path / left).write_bytes(b"\x80\x02")
    assert [t.path.name for t in read_folder(tmp_path).tensors] == [name]


def test_safetensors_go_first(tmp_path: Path) -> None:
    """Where both lie, the pickle is not even opened; of several, none is guessed."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"not a pickle")
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    assert [t.path.name for t in read_folder(tmp_path).tensors] == ["model.safetensors"]
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").unlink()
    for name in ("a.bin", "b.pt"):
        torch.save({"w": torch.ones(2)}, tmp_path / name)
    with pytest.raises(BadInputError, match="2 bin files and 0 indices"):
        read_folder(tmp_path)


# --- what would run ----------------------------------------------------------------------


class Payload:
    """What unpickles by making a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("forced", ["0", "1"])
def test_a_hostile_pickle_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: str
) -> None:
    """What would run under plain unpickling is refused, whatever the environment asks."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    made, path = tmp_path / "made", tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(2), "x": Payload(made)}, path)
    with pytest.raises(BadInputError, match=r"bin was refused.*mkdir") as caught:
        read_folder(tmp_path)
    assert "nothing of it was run" in caught.value.hint
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists(), "the payload is one that works"


def test_a_bare_pickle_is_not_opened(tmp_path: Path) -> None:
    """Not even by torch: files of its form before 1.6 are several pickles."""
    made, path = tmp_path / "made", tmp_path / "x.pt"
    path.write_bytes(pickle.dumps(Payload(made)))
    with pytest.raises(BadInputError, match=r"before 1\.6"):
        read_folder(path)
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(BadInputError, match=r"before 1\.6") as caught:
        read_folder(path)
    assert "save_pretrained" in caught.value.hint
    assert not made.exists()


def test_without_torch_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch is not required; whoever has safetensors never needs it."""
    torch.save({"w": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BadInputError, match="only torch can read it") as caught:
        read_folder(tmp_path)
    assert "crdtmerge[pytorch]" in caught.value.hint
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(torch, "__version__", "2.11.1+cpu")
    with pytest.raises(BadInputError, match=r"torch 2\.11\.1\+cpu is too old"):
        read_folder(tmp_path)


# --- what cannot be read in place --------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"w": torch.ones(3, 2).t()}, "'w'.*view with strides"),
        ({"w": torch.ones(1).expand(3)}, "'w'.*view with strides"),
        ({"w": torch.eye(2).to_sparse()}, "refused|'w'.*sparse"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "'w'.*complex64"),
        ({"w": torch.ones(2, dtype=torch.complex64).conj().imag}, "'w'.*view"),
        ({"w": torch.ones((1,) * 9)}, "'w'.*9 dimensions"),
        ({"model": {"w": torch.ones(2)}}, "'model'.*dict and no tensor"),
        ({"w": torch.ones(2), "step": 3}, "'step'.*int and no tensor"),
        ({1: torch.ones(2)}, "holds 1"),
        ({"w" * 513: torch.ones(2)}, "513 characters"),
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a .*Tensor"),
        ({}, "no tensor"),
        (torch.nn.Linear(2, 2), "refused"),
    ],
)
def test_what_is_no_plain_tensor_is_refused(
    tmp_path: Path, value: object, said: str
) -> None:
    """The message names file and tensor; the hint says how it is saved otherwise."""
    path = tmp_path / "pytorch_model.bin"
    torch.save(value, path)
    with pytest.raises(BadInputError, match=said) as caught:
        read_folder(path)
    assert "pytorch_model.bin" in str(caught.value)
    assert caught.value.hint


def rewritten(
    path: Path, change: Callable[[str, bytes], bytes], compression: int = 0
) -> None:
    """Write a PyTorch file again, each record as `change` makes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    path.write_bytes(file.getvalue())


@pytest.mark.parametrize(
    ("end", "data", "said"),
    [
        ("byteorder", b"big", "big-endian"),
        ("data/0", b"short", "no record, or one of another size"),
        ("data.pkl", b"", "refused"),
        ("data.pkl", b"\x80\x02}.", "no tensor"),
        ("data.pkl", b"\x80\x02" + b"(" * 10_000, "refused"),
    ],
)
def test_records_that_do_not_fit_are_refused(
    tmp_path: Path, end: str, data: bytes, said: str
) -> None:
    """Another byte order, a record of another size, a pickle that is none."""
    path = tmp_path / "x.bin"
    torch.save({"w": torch.ones(8)}, path)
    rewritten(path, lambda name, old: data if name.endswith(end) else old)
    with pytest.raises(BadInputError, match=said):
        read_folder(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """What is compressed cannot be mapped; a zip of something else is no model."""
    path = tmp_path / "x.bin"
    torch.save({"w": torch.ones(64)}, path)
    rewritten(path, lambda _, old: old, zipfile.ZIP_DEFLATED)
    with pytest.raises(BadInputError, match="compressed"):
        read_folder(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(BadInputError, match="not one that"):
        read_folder(path)


def test_a_program_is_refused(tmp_path: Path) -> None:
    """TorchScript has code in it."""
    path = tmp_path / "x.pt"
    torch.save({"w": torch.ones(8)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/constants.pkl", b"")
    with pytest.raises(BadInputError, match="TorchScript"):
        read_folder(path)


def test_a_tensor_beyond_its_record_is_refused(tmp_path: Path) -> None:
    """A shape that reaches into the next record would read another tensor's bytes."""
    path = tmp_path / "x.bin"
    torch.save({"w": torch.ones(77), "z": torch.ones(99)}, path)
    assert path.read_bytes().count(b"K\x4d\x85") == 1, "the shape (77,) in the pickle"
    rewritten(path, lambda _, old: old.replace(b"K\x4d\x85", b"K\x4e\x85"))
    with pytest.raises(BadInputError, match=r"'w'.*another size"):
        read_folder(path)


@pytest.mark.parametrize("kept", [0, 3, 4, 30, 500, -30, -1])
def test_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    """A download that stopped anywhere is refused, naming the file."""
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(64)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadInputError, match=r"pytorch_model\.bin") as caught:
        read_folder(tmp_path)
    assert caught.value.hint


SMALL = io.BytesIO()
torch.save({"a": torch.arange(3.0), "b": torch.ones(2, 2)}, SMALL)


@given(
    st.lists(
        st.tuples(st.integers(0, len(SMALL.getvalue()) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 40),
)
def test_damage_is_an_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory,
    flips: list[tuple[int, int]],
    cut: int,
) -> None:
    """Whatever bytes change, a damaged file is refused, or its tensors lie inside it."""
    data = bytearray(SMALL.getvalue())
    for place, value in flips:
        data[place] = value
    path = tmp_path_factory.mktemp("damaged") / "x.bin"
    path.write_bytes(data[: len(data) - cut] if cut < 20 else data)
    try:
        found = read_pickled(path)
    except BadInputError as e:
        assert "x.bin" in str(e)  # noqa: PT017 - either outcome is right
    else:
        assert all(t.offset + t.size <= len(data) for t in found)
