"""Output folders: sharded, verified, replaced whole, all or nothing on a full disk."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from crdtmerge.errors import MachineError, VerificationError
from crdtmerge.formats.companions import CARD_FILE
from crdtmerge.formats.folder import MODEL_FILE, RESOLUTION_FILE, read_folder
from crdtmerge.formats.output import ROOM_BYTES, ROOM_SHARE, OutputFolder
from crdtmerge.formats.shards import INDEX_FILE
from crdtmerge.resolve.verify import verify_folder
from tests.models import Merge, make_merge, resolve

SHARD = 200
FILES = {"config.json": b'{"torch_dtype": "float32"}', "tokenizer.json": b"{}"}


@pytest.fixture(scope="module")
def merge() -> Merge:
    return make_merge()


def content(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, the hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_shards_hold_the_tensors_of_the_one_file(tmp_path: Path, merge: Merge) -> None:
    """Same record, same digests, byte for byte; and so on every run."""
    one = resolve(merge, tmp_path / "one")
    many = resolve(merge, tmp_path / "many", shard_bytes=SHARD)
    again = resolve(merge, tmp_path / "again", shard_bytes=SHARD, threads=1)
    assert one == many == again
    assert content(tmp_path / "many") == content(tmp_path / "again")
    files = {p.name for p in (tmp_path / "many").glob("*.safetensors")}
    assert files == {
        f"model-0000{i}-of-0000{len(files)}.safetensors" for i in range(1, 4)
    }
    expected = load_file(tmp_path / "one" / MODEL_FILE)
    found: dict[str, torch.Tensor] = {}
    for file in files:
        found |= load_file(tmp_path / "many" / file)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name])
        assert tensor.dtype == found[name].dtype
    assert read_folder(tmp_path / "many").size == read_folder(tmp_path / "one").size


def test_a_damaged_shard_or_index_fails_verification(
    tmp_path: Path, merge: Merge
) -> None:
    """One bit, a file that is gone, an index that names another."""
    made = resolve(merge, tmp_path / "out", shard_bytes=SHARD)
    assert verify_folder(tmp_path / "out") == made
    first = min((tmp_path / "out").glob("*.safetensors"))
    index = tmp_path / "out" / INDEX_FILE
    damages: list[tuple[Path, Callable[[bytes], bytes | None]]] = [
        (first, lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        (first, lambda data: data[:-1]),
        (first, lambda _: None),
        (index, lambda data: data.replace(b"-00001-of", b"-00002-of")),
    ]
    for path, damage in damages:
        before = path.read_bytes()
        after = damage(before)
        path.unlink() if after is None else path.write_bytes(after)
        with pytest.raises(VerificationError):
            verify_folder(tmp_path / "out")
        path.write_bytes(before)
    verify_folder(tmp_path / "out")


def test_an_output_of_other_files_is_replaced_whole(
    tmp_path: Path, merge: Merge
) -> None:
    """No shard or index of before stays beside one file, nor the other way round."""
    out = tmp_path / "out"
    for shard_bytes in (SHARD, 10**9, 500, SHARD):
        made = resolve(merge, out, shard_bytes=shard_bytes, overwrite=True)
        assert verify_folder(out) == made
        sharded = shard_bytes < 10**9
        assert (out / INDEX_FILE).exists() == sharded
        assert (out / MODEL_FILE).exists() != sharded
        assert {CARD_FILE, RESOLUTION_FILE} < content(out).keys()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


class Disk:
    """Counts the calls that need room, and is full from one of them on."""

    def __init__(self, patch: pytest.MonkeyPatch, full_at: int | None = None) -> None:
        self.calls = 0
        self.full_at = full_at
        for name in ("posix_fallocate", "pwrite", "mkdir"):
            patch.setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.full_at is not None and self.calls > self.full_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*arguments, **named)

        return counted


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space is not claimed")
def test_a_disk_that_fills_at_any_write_costs_nothing(
    tmp_path: Path, merge: Merge
) -> None:
    """One clear error; what was there stays, nothing partial, and later it works."""
    out = tmp_path / "out"
    asked: dict[str, Any] = {"files": FILES, "shard_bytes": SHARD, "overwrite": True}
    old = resolve(merge, out, "linear", files=FILES)
    before = content(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        resolve(merge, tmp_path / "counted", **asked)
        count = disk.calls
    shutil.rmtree(tmp_path / "counted")
    assert count > 15
    for full_at in range(count):
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, full_at)
            with pytest.raises(MachineError, match="the disk is full") as caught:
                resolve(merge, out, **asked)
        assert caught.value.hint
        assert content(tmp_path) == before, f"full from call {full_at} on"
        assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert verify_folder(out) == old
    made = resolve(merge, out, **asked)
    assert verify_folder(out) == made != old


def full(patch: pytest.MonkeyPatch, free: int, total: int = 10**9) -> None:
    """Let the disk say that so much is free."""
    found = shutil.disk_usage(Path.cwd())
    patch.setattr(
        shutil, "disk_usage", lambda _: found._replace(total=total, free=free)
    )


def test_room_is_looked_for_before_anything_is_read(
    tmp_path: Path, merge: Merge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both numbers are said, and how much is missing; nothing is made."""
    resolve(merge, tmp_path / "sample", files=FILES)
    size = sum(
        len(data)
        for name, data in content(tmp_path / "sample").items()
        if name in {MODEL_FILE, "tokenizer.json"}
    )
    needed = size + size // ROOM_SHARE + ROOM_BYTES
    full(monkeypatch, needed - 1)
    reads = merge.blobs.reads
    for out in (tmp_path / "out", tmp_path / "deep" / "er" / "out"):
        with pytest.raises(MachineError) as caught:
            resolve(merge, out, files=FILES)
        assert f"needs {needed} bytes" in str(caught.value)
        assert f"{needed - 1} are free, 1 too few" in str(caught.value)
        assert caught.value.hint
    assert merge.blobs.reads == reads
    assert [p.name for p in tmp_path.iterdir()] == ["sample"]
    full(monkeypatch, needed)
    resolve(merge, tmp_path / "out", files=FILES)
    full(monkeypatch, 0, total=0)  # a system that does not say
    resolve(merge, tmp_path / "other", files=FILES)


def test_leftovers_are_removed_before_room_is_looked_for(
    tmp_path: Path, merge: Merge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed output left may be what fills the disk."""
    left = tmp_path / ".out.partial-1-1-0"
    (left / "new").mkdir(parents=True)
    real = shutil.disk_usage(tmp_path)

    def said(_: Path) -> Any:
        return real._replace(total=10**9, free=0 if left.exists() else 10**9)

    monkeypatch.setattr(shutil, "disk_usage", said)
    resolve(merge, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    OutputFolder(tmp_path / "new", size=10**8).check()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
