"""Writing model files and folders: readable by others, the same bytes, all or nothing."""

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import crdtmerge
from crdtmerge.errors import BadInputError, ConflictError, MachineError
from crdtmerge.formats.folder import RESOLUTION_FILE, open_tensor, read_folder
from crdtmerge.formats.output import OutputFolder
from crdtmerge.formats.shards import lay_out_file, lay_out_model
from crdtmerge.formats.writer import ModelWriter, create_files

TENSORS = {
    "ünïcode": torch.arange(3, dtype=torch.uint8),
    "b.weight": torch.linspace(0, 1, 35).reshape(5, 7),
    "a.weight": torch.linspace(-2, 2, 9).bfloat16().reshape(3, 3),
    "half": torch.ones(3).half(),
    "none": torch.zeros(0, 2),
    "one": torch.tensor(0.1, dtype=torch.float64),
    "ids": torch.arange(4),
    "flag": torch.tensor([True, False, True]),
}
CODES = {
    torch.uint8: "U8",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.bool: "BOOL",
}
ENTRIES = [(n, CODES[t.dtype], tuple(t.shape)) for n, t in TENSORS.items()]


def raw(name: str) -> bytes:
    return TENSORS[name].reshape(-1).view(torch.uint8).numpy().tobytes()


def write(path: Path, names: list[str]) -> bytes:
    """Write all tensors in the order of `names`, the entries likewise."""
    entries = sorted(ENTRIES, key=lambda entry: names.index(entry[0]))
    layout = lay_out_file(path.name, entries)
    create_files(path.parent, layout)
    with ModelWriter(path.parent, layout) as writer:
        for name in names:
            writer.write(name, raw(name))
    return path.read_bytes()


def test_file_loads_with_the_formats_own_library(tmp_path: Path) -> None:
    """PyTorch loads every dtype, the scalar and the empty tensor as they were."""
    path = tmp_path / "model.safetensors"
    write(path, list(TENSORS))
    loaded = load_file(path)
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    with safe_open(path, framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    for stored in read_folder(tmp_path).tensors:
        assert bytes(open_tensor(stored)) == raw(stored.name)


def test_order_of_writing_does_not_change_the_file(tmp_path: Path) -> None:
    """Tasks finish in any order; the bytes are the same."""
    names = list(TENSORS)
    assert write(tmp_path / "a", names) == write(tmp_path / "b", names[::-1])


def test_every_tensor_is_aligned_to_its_items(tmp_path: Path) -> None:
    """Odd sizes of narrow dtypes do not push wide ones off their boundary."""
    write(tmp_path / "model.safetensors", list(TENSORS))
    items = {"F64": 8, "I64": 8, "F32": 4, "BF16": 2, "F16": 2, "U8": 1, "BOOL": 1}
    for stored in read_folder(tmp_path).tensors:
        assert stored.offset % items[stored.dtype] == 0, stored.name


def test_threads_write_one_file(tmp_path: Path) -> None:
    """Tensors written at once by several threads do not disturb each other."""
    entries = [(f"t{i:02}", "U8", (100_000,)) for i in range(32)]
    layout = lay_out_model(entries)
    create_files(tmp_path, layout)
    with ModelWriter(tmp_path, layout) as writer, ThreadPoolExecutor(4) as pool:
        for i, (name, _, _) in enumerate(entries):
            pool.submit(writer.write, name, bytes([i]) * 100_000)
    for i, stored in enumerate(read_folder(tmp_path).tensors):
        assert bytes(open_tensor(stored)) == bytes([i]) * 100_000


@pytest.mark.parametrize("shard_bytes", [4, 1000])
@pytest.mark.parametrize("names", [["w", "w"], ["__metadata__"]])
def test_names_that_the_format_cannot_hold_are_refused(
    names: list[str], shard_bytes: int
) -> None:
    """Two tensors of one name, or the reserved one, would be lost in the file."""
    with pytest.raises(BadInputError):
        lay_out_model([(name, "F32", (1,)) for name in names], shard_bytes)


def test_disk_that_is_really_full_is_told() -> None:
    """The system's own full device gives the message."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no full device on this system")
    with pytest.raises(MachineError), OutputFolder(full / "out"):
        pass


def fill(folder: Path, text: str) -> None:
    (folder / "file").write_text(text)


def fail(out: Path, error: BaseException, *, overwrite: bool = False) -> None:
    """Begin an output, then fail."""
    with OutputFolder(out, overwrite=overwrite) as folder:
        fill(folder, "new")
        raise error


def test_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    """Until then nothing is there; afterwards nothing temporary is left."""
    out = tmp_path / "deep" / "out"
    with OutputFolder(out, fsync=True) as folder:
        fill(folder, "new")
        assert not out.exists()
    assert (out / "file").read_text() == "new"
    assert [item.name for item in out.parent.iterdir()] == ["out"]


def test_failed_block_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Errors and Ctrl-C remove what was written and keep what was there."""
    out = tmp_path / "out"
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            fail(out, error())
        assert not list(tmp_path.iterdir())
    out.mkdir()
    fill(out, "old")
    (out / RESOLUTION_FILE).write_text("{}")
    with pytest.raises(MachineError, match="disk is full"):
        fail(out, OSError(errno.ENOSPC, "No space left on device"), overwrite=True)
    assert (out / "file").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_folder_in_the_way_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    """An empty folder is used, a filled one refused, or replaced with `overwrite`."""
    out = tmp_path / "out"
    out.mkdir()
    with OutputFolder(out) as folder:
        fill(folder, "first")
        (folder / RESOLUTION_FILE).write_text("{}")
    with pytest.raises(ConflictError, match="not empty"), OutputFolder(out):
        pass
    assert (out / "file").read_text() == "first"
    with OutputFolder(out, overwrite=True) as folder:
        fill(folder, "second")
    assert (out / "file").read_text() == "second"
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_what_is_no_model_folder_is_never_replaced(tmp_path: Path) -> None:
    """A file, a folder with folders, a model that no resolve wrote: all are kept."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "home" / "photos").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    fill(tmp_path / "model", "mine")
    for name in ("file", "home", "model"):
        out = OutputFolder(tmp_path / name, overwrite=True)
        with pytest.raises(ConflictError), out:
            pass
    assert (tmp_path / "home" / "photos").is_dir()
    assert (tmp_path / "model" / "file").read_text() == "mine"


def test_folder_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    """What another process put there during the work is not lost."""
    out = tmp_path / "out"
    ours = OutputFolder(out)
    fill(ours.__enter__(), "ours")
    out.mkdir()
    fill(out, "theirs")
    with pytest.raises(ConflictError, match="not empty"):
        ours.__exit__(None, None, None)
    assert (out / "file").read_text() == "theirs"
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from crdtmerge.formats.output import OutputFolder

out, moment = Path(sys.argv[1]), sys.argv[2]
rename = Path.rename

def dying(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)

with OutputFolder(out, overwrite=True) as folder:
    (folder / "file").write_text("half")
    if moment == "writing":
        print("writing", flush=True)
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGKILL)
    Path.rename = dying
"""


def start(out: Path, moment: str) -> "subprocess.Popen[str]":
    """Start a process that writes to `out` until it is killed at that moment."""
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out), moment],
        env=os.environ | {"PYTHONPATH": str(Path(crdtmerge.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def partials(out: Path) -> list[str]:
    """Return the hidden folders beside `out`."""
    return [p.name for p in out.parent.iterdir() if p.name.startswith(".out.partial-")]


def write_out(out: Path, text: str) -> None:
    """Write a whole model to `out`, over whatever model is there."""
    with OutputFolder(out, overwrite=True) as folder:
        fill(folder, text)
        (folder / RESOLUTION_FILE).write_text("{}")


def test_what_a_killed_process_left_is_removed_but_not_a_living_ones(
    tmp_path: Path,
) -> None:
    """The lock tells them apart, so a process id that is used again does no harm."""
    out = tmp_path / "out"
    with start(out, "writing") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        (living,) = partials(out)
        # a leftover that bears the id of a living process: ours
        (tmp_path / f".out.partial-{os.getpid()}-1-0" / "new").mkdir(parents=True)
        write_out(out, "whole")
        assert partials(out) == [living]
        process.communicate("go")
    assert process.returncode == -signal.SIGKILL
    assert partials(out) == [living]
    write_out(out, "again")
    assert [item.name for item in tmp_path.iterdir()] == ["out"]
    assert (out / "file").read_text() == "again"


def test_a_model_is_put_back_when_its_successor_died_between_the_renames(
    tmp_path: Path,
) -> None:
    """At that moment nothing is at `out`; the next output finds what was there."""
    out = tmp_path / "out"
    write_out(out, "old")
    with start(out, "renaming") as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(ConflictError, match="not empty"), OutputFolder(out):
        pass
    assert (out / "file").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_a_users_folder_whose_name_fits_is_kept(tmp_path: Path) -> None:
    """Only what holds nothing but our two folders is taken for a leftover."""
    mine = tmp_path / ".out.partial-7"
    mine.mkdir()
    fill(mine, "mine")
    write_out(tmp_path / "out", "new")
    assert (mine / "file").read_text() == "mine"
