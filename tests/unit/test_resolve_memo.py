"""The memo: what was found out once is not computed again, and never used unseen."""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from crdtmerge.digest import blob_id_of
from crdtmerge.formats.folder import MODEL_FILE
from crdtmerge.formats.header import FileState
from crdtmerge.formats.shards import lay_out_model
from crdtmerge.resolve.memo import Known, Place
from crdtmerge.resolve.model import Resolved, resolve_model
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import make_plan
from crdtmerge.strategies import make_recipe
from nodes.store.memo import MEMO_FILE, HomeMemo
from simulations.disks.disk import Fault, SimulatedDisk
from simulations.disks.power_loss import Loss
from tests.models import (
    SHAPES,
    UNIT,
    Merge,
    about,
    contribution,
    make_merge,
    make_tensors,
    recipe_of,
)

TENSORS = len(SHAPES)


def resolved(
    merge: Merge,
    out: Path,
    memo: HomeMemo | None,
    name: str = "linear",
    **asked: object,
) -> Resolved:
    """Resolve, and forget which blobs were read before."""
    merge.blobs.reads = 0
    recipe = recipe_of(name)
    shard = int(str(asked.pop("shard_bytes", 10**9)))
    if dtype := asked.pop("output_dtype", ""):
        recipe = make_recipe(name, {}, output_dtype=str(dtype))
    plan = make_plan(recipe, merge.base, merge.contributions)
    return resolve_model(
        plan=plan,
        source=merge.blobs,
        output=Output(out, overwrite=bool(asked.pop("force", False))),
        layout=lay_out_model(plan.outputs, shard),
        memo=memo,
        about=about(plan),
    )


def content(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def memo(tmp_path: Path) -> HomeMemo:
    """Return the memo of an empty home."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return HomeMemo(home)


@pytest.mark.parametrize("name", ["linear", "ties", "metagpt"])
@pytest.mark.parametrize("shard_bytes", [10**9, 700])
def test_what_is_known_is_not_computed(
    tmp_path: Path, memo: HomeMemo, name: str, shard_bytes: int
) -> None:
    """Elsewhere and over the old output: no blob is read, and the bytes are the same."""
    merge = make_merge()
    first = resolved(merge, tmp_path / "one", memo, name)
    assert first.tally.computed == TENSORS
    whole = content(tmp_path / "one")
    for out in ("two", "one", "one"):
        again = resolved(merge, tmp_path / out, memo, name, force=True)
        assert merge.blobs.reads == again.tally.computed == again.tally.tasks == 0
        assert again.tally.reused == TENSORS
        assert again.tally.reused_bytes == sum(e.size for e in first.resolution.tensors)
        assert again.resolution == first.resolution
        assert content(tmp_path / out) == whole
    resolved(merge, tmp_path / "parts", memo, name, shard_bytes=shard_bytes)
    assert merge.blobs.reads == 0
    plain = tmp_path / "plain"
    resolved(merge, plain, None, name, shard_bytes=shard_bytes)
    assert content(tmp_path / "parts") == content(plain)


def test_only_what_changed_is_computed(tmp_path: Path, memo: HomeMemo) -> None:
    """A contribution that differs in one tensor changes one key, and one task runs."""
    merge = make_merge()
    resolved(merge, tmp_path / "one", memo)
    first = merge.contributions[0]
    tensors = {e.name: merge.blobs.held[e.blob] for e in first.manifest.tensors}
    tensors["head.bias"] = make_tensors(77)["head.bias"]
    other = contribution(tensors, merge.blobs, merge.base, first.weight)
    changed = replace(merge, contributions=(other, *merge.contributions[1:]))
    again = resolved(changed, tmp_path / "two", memo)
    assert again.tally.computed == 1
    assert again.tally.reused == TENSORS - 1
    # the base, and what each of three says
    size = len(tensors["head.bias"])
    assert (again.read.base, again.read.contributions) == (size, 3 * size)
    resolved(changed, tmp_path / "plain", None)
    assert content(tmp_path / "two") == content(tmp_path / "plain")


def test_a_key_serves_tensors_of_another_name(tmp_path: Path, memo: HomeMemo) -> None:
    """Keys say nothing of names: what two tensors have in common is made once."""
    merge = make_merge((UNIT,))  # of several the order would be another
    resolved(merge, tmp_path / "one", memo)

    def renamed(merge: Merge) -> Merge:
        base = replace(
            merge.base,
            tensors=tuple(
                replace(e, name=f"other.{e.name}") for e in merge.base.tensors
            ),
        )
        made = []
        for c in merge.contributions:
            entries = tuple(
                replace(e, name=f"other.{e.name}") for e in c.manifest.tensors
            )
            manifest = replace(c.manifest, base=base.content_id, tensors=entries)
            made.append(replace(c, content=manifest.content_id, manifest=manifest))
        return replace(merge, base=base, contributions=tuple(made))

    again = resolved(renamed(merge), tmp_path / "two", memo)
    assert again.tally.reused == TENSORS


def test_measures_are_known_where_outputs_are_not(
    tmp_path: Path, memo: HomeMemo
) -> None:
    """Another output dtype is another model, of the same measures: no map runs."""
    merge = make_merge()
    first = resolved(merge, tmp_path / "one", memo, "metagpt")
    merged = TENSORS - 1
    assert first.tally.tasks == merged + TENSORS
    again = resolved(merge, tmp_path / "two", memo, "metagpt", output_dtype="F32")
    assert again.tally.tasks == again.tally.computed < TENSORS
    resolved(merge, tmp_path / "plain", None, "metagpt", output_dtype="F32")
    assert content(tmp_path / "two") == content(tmp_path / "plain")


def edited(path: Path) -> None:
    """Change one byte of the largest tensor, and hide it as well as a user can."""
    state = path.stat()
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert FileState.of(path.stat()) == FileState.of(state)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replaced(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.mkdir()
    path.rmdir()
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [edited, cut, replaced, Path.unlink])
def test_what_is_not_there_as_it_was_is_computed(
    tmp_path: Path, memo: HomeMemo, harm: Callable[[Path], None]
) -> None:
    """Edited in place, cut, another file, gone: no error, no wrong byte."""
    merge = make_merge()
    resolved(merge, tmp_path / "one", memo)
    whole = content(tmp_path / "one")
    harm(tmp_path / "one" / MODEL_FILE)
    again = resolved(merge, tmp_path / "two", memo)
    assert again.tally.computed >= 1
    assert content(tmp_path / "two") == whole
    # and now it is known again
    assert resolved(merge, tmp_path / "three", memo).tally.reused == TENSORS


def known_in(folder: Path, count: int) -> dict[bytes, Known]:
    state = FileState.of(folder.stat())
    return {
        bytes([n]) * 32: Known(blob_id_of(bytes([n])), Place(folder, 8 * n, 8, state))
        for n in range(count)
    }


@pytest.mark.parametrize(
    "column", ["task", "path", "digest", "start", "size", "changed", "seal"]
)
def test_a_damaged_row_is_like_none(
    tmp_path: Path, memo: HomeMemo, column: str
) -> None:
    """Each value of a row is covered by its seal, a measure's too."""
    known = known_in(tmp_path, 3)
    memo.keep(known, {b"m" * 32: (1.5, -2.5)})
    key = bytes([1]) * 32
    path = tmp_path / "home" / MEMO_FILE
    sql = apsw.Connection(str(path))
    value = "start + 1" if column in {"start", "size", "changed"} else "x'1234'"
    sql.execute(f"UPDATE outputs SET {column} = {value} WHERE task = ?", (key,))
    if column in {"task", "seal"}:
        sql.execute(f"UPDATE measures SET {column} = x'1234'")
    else:
        sql.execute("UPDATE measures SET numbers = zeroblob(16)")
    sql.close()
    found = memo.outputs(known)
    assert found == {k: [v] for k, v in known.items() if k != key}
    assert memo.measures([b"m" * 32]) == {}


def test_a_file_that_is_no_memo_is_begun_again(tmp_path: Path, memo: HomeMemo) -> None:
    """Cut, garbage, of a later version, another store: forgotten, without an error."""
    known, path = known_in(tmp_path, 3), tmp_path / "home" / MEMO_FILE
    for harm in (
        lambda: path.write_bytes(b"garbage" * 1000),
        lambda: path.write_bytes(b""),
        lambda: os.truncate(path, 5000),
        lambda: apsw.Connection(str(path)).execute("PRAGMA user_version = 9"),
        lambda: apsw.Connection(str(path)).execute("PRAGMA application_id = 9"),
    ):
        memo.keep(known, {})
        memo.keep(known, {})  # the first may have found, and removed, a damaged one
        assert memo.outputs(known).keys() == known.keys()
        assert path.stat().st_mode & 0o77 == 0
        harm()
        assert memo.outputs(known) == {}


def test_the_oldest_resolves_are_forgotten(
    tmp_path: Path, memo: HomeMemo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memo has a bound; what was found out last stays."""
    monkeypatch.setattr("nodes.store.memo.ROWS_MAX", 4)
    files = []
    for number in range(3):
        file = tmp_path / f"file{number}"
        file.write_bytes(b"")
        known = known_in(file, 2)
        files.append({bytes([number]) + k[1:]: v for k, v in known.items()})
        memo.keep(files[-1], {b"m" + bytes([number]): (float(number),) * 2})
    assert [len(memo.outputs(f)) for f in files] == [0, 2, 2]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_leaves_the_memo_as_it_was(
    tmp_path: Path, number: int
) -> None:
    """At any operation: what was known is, and what is new is known whole or not."""
    home = Path("/home")
    start = SimulatedDisk()
    start.make_folder(home)
    before, after = known_in(tmp_path, 3), known_in(tmp_path, 40)
    after = {b"n" + key[1:]: value for key, value in after.items()}
    HomeMemo(home, start).keep(before, {})
    whole = start.after(Loss("none"))
    HomeMemo(home, whole).keep(before | after, {})
    points = len(whole.operations)
    assert points > 5
    for point in range(points):
        disk = start.after(Loss("none"))
        disk.fault = Fault(point, number)
        HomeMemo(home, disk).keep(before | after, {})
        disk.fault = None
        memo = HomeMemo(home, disk.after(Loss("none")))
        assert memo.outputs(before).keys() == before.keys()
        assert len(memo.outputs(after)) in {0, len(after)}


def test_a_memo_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """A home that is gone, or none: the model is made all the same."""
    merge = make_merge()
    memo = HomeMemo(tmp_path / "no home")
    for out in ("one", "two"):
        assert resolved(merge, tmp_path / out, memo).tally.computed == TENSORS
