"""A resolve that was broken off goes on: nothing is lost, nothing unseen is believed."""

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    ConflictError,
    CrdtMergeError,
    FaultyContributionError,
    MachineError,
)
from crdtmerge.formats.folder import MODEL_FILE
from crdtmerge.formats.journal import Journal
from crdtmerge.formats.shards import lay_out_model
from crdtmerge.resolve.model import Resolved, resolve_model
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import make_plan
from tests.models import SHAPES, Blobs, Merge, about, make_merge, recipe_of

TENSORS = len(SHAPES)
SHARD = 700
"""So that there are several files."""


@dataclass
class Ending(Blobs):
    """A source in which something happens at one of the reads."""

    at: int = 10**9
    happens: Callable[[], None] = lambda: None

    def read(self, blob: BlobId, size: int) -> bytes:
        """Read, or let it happen."""
        if self.reads == self.at:
            self.happens()
        return super().read(blob, size)


def resolved(
    merge: Merge,
    out: Path,
    *,
    name: str = "linear",
    shard: int = SHARD,
    force: bool = False,
) -> Resolved:
    merge.blobs.reads = 0
    plan = make_plan(recipe_of(name), merge.base, merge.contributions)
    return resolve_model(
        plan=plan,
        source=merge.blobs,
        output=Output(out, overwrite=force),
        layout=lay_out_model(plan.outputs, shard),
        about=about(plan),
    )


def content(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ending(merge: Merge, at: int, happens: Callable[[], None]) -> Merge:
    return replace(merge, blobs=Ending(merge.blobs.held, at=at, happens=happens))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    raise KeyboardInterrupt


def killed(merge: Merge, out: Path, at: int, *, force: bool = False) -> bool:
    """Resolve in a process that is killed at a read; tell whether it was."""
    child = os.fork()
    if not child:
        try:
            resolved(ending(merge, at, kill), out, force=force)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def partials(out: Path) -> list[Path]:
    return sorted(out.parent.glob(f".{out.name}.partial-*"))


@pytest.fixture
def whole(tmp_path: Path) -> Mapping[str, bytes]:
    """What a run that nothing disturbs writes."""
    resolved(make_merge(), tmp_path / "whole")
    return content(tmp_path / "whole")


def test_killed_at_any_read_it_goes_on(
    tmp_path: Path, whole: Mapping[str, bytes]
) -> None:
    """SIGKILL of a real process: what was finished is kept, the rest is computed."""
    merge, out = make_merge(), tmp_path / "out"
    at, most = 0, 0
    while killed(merge, out, at):
        assert not out.exists()
        again = resolved(merge, out)
        assert content(out) == whole
        assert again.tally.kept + again.tally.computed == TENSORS
        assert again.tally.kept >= most
        assert partials(out) == []
        most = again.tally.kept
        for path in out.iterdir():
            path.unlink()
        out.rmdir()
        at += 1
    assert most == TENSORS - 1
    assert at > 2 * TENSORS


def test_killed_again_and_again_it_ends(
    tmp_path: Path, whole: Mapping[str, bytes]
) -> None:
    """Each run is killed at its fourth read, and gets a tensor further."""
    merge, out = make_merge(), tmp_path / "out"
    runs = 0
    while killed(merge, out, 4):
        runs += 1
        assert len(partials(out)) == 1
    assert 3 <= runs <= TENSORS
    assert content(out) == whole
    assert partials(out) == []


def test_the_model_that_is_replaced_stays_until_the_end(tmp_path: Path) -> None:
    """With --force over an old model, killed at any read: the old one is whole."""
    out = tmp_path / "out"
    resolved(make_merge((10**9,)), out)
    old = content(out)
    at = 0
    while killed(make_merge(), out, at, force=True):
        assert content(out) == old
        at += 3
    assert content(out) != old


def test_an_interrupt_keeps_what_is_finished_and_says_so(tmp_path: Path) -> None:
    """Ctrl-C: the hidden folder stays, but only if there is something in it."""
    merge, out = make_merge(), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt) as caught:
        resolved(ending(merge, 1, interrupt), out)
    assert partials(out) == []
    assert not hasattr(caught.value, "__notes__")
    with pytest.raises(KeyboardInterrupt) as caught:
        resolved(ending(merge, 9, interrupt), out)
    (kept,) = partials(out)
    (note,) = caught.value.__notes__
    assert str(kept) in note
    assert "again" in note
    assert resolved(merge, out).tally.kept > 0


def test_what_came_in_the_way_meanwhile_costs_no_work(tmp_path: Path) -> None:
    """The model is made, and cannot be put into place: the next run puts it there."""
    merge, out = make_merge(), tmp_path / "out"

    def occupy() -> None:
        out.mkdir()
        (out / "mine").write_text("mine")

    with pytest.raises(ConflictError) as caught:
        resolved(ending(merge, 9, occupy), out)
    (kept,) = partials(out)
    assert str(kept) in caught.value.hint
    assert [path.name for path in out.iterdir()] == ["mine"]
    shutil.rmtree(out)
    assert resolved(merge, out).tally.kept == TENSORS


def test_bad_input_leaves_nothing(tmp_path: Path) -> None:
    """Running it again would end as it ended: there is nothing to go on with."""

    def refuse() -> None:
        raise FaultyContributionError(b"c" * 32, "it is bad")

    out = tmp_path / "out"
    with pytest.raises(FaultyContributionError):
        resolved(ending(make_merge(), 9, refuse), out)
    assert list(tmp_path.iterdir()) == []


def broken_off(merge: Merge, out: Path) -> Path:
    """Break a resolve off; return its hidden folder."""
    with pytest.raises(KeyboardInterrupt):
        resolved(ending(merge, 13, interrupt), out)
    (kept,) = partials(out)
    return kept


def test_what_is_not_as_noted_is_computed(
    tmp_path: Path, whole: Mapping[str, bytes]
) -> None:
    """Any byte of the weights changed, the journal torn anywhere: no wrong byte."""
    merge, out = make_merge(), tmp_path / "out"
    folder = broken_off(merge, out)
    journal = (folder / "journal").read_bytes()
    files = {p: p.read_bytes() for p in (folder / "new").iterdir()}
    for size in range(0, len(journal), 41):
        folder.mkdir(exist_ok=True)
        (folder / "new").mkdir(exist_ok=True)
        for path, data in files.items():
            harmed = bytearray(data)
            if path.suffix == ".safetensors" and size % 2:
                harmed[-1 - size % 60] ^= 1
            path.write_bytes(harmed)
        (folder / "journal").write_bytes(journal[:size])
        again = resolved(merge, out)
        assert content(out) == whole
        assert again.tally.kept <= journal[:size].count(b"\n")
        assert partials(out) == []
        for path in out.iterdir():
            path.unlink()
        out.rmdir()


def test_another_layout_begins_anew(tmp_path: Path) -> None:
    """A journal of other files is of no use, and its folder goes."""
    merge, out = make_merge(), tmp_path / "out"
    broken_off(merge, out)
    again = resolved(merge, out, shard=10**9)
    assert again.tally.kept == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (out / MODEL_FILE).exists()


def test_another_plan_of_this_layout_keeps_what_it_shares(tmp_path: Path) -> None:
    """Ties shares the tensors that are copied with linear, and no merged one."""
    merge, out = make_merge(), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        resolved(ending(merge, 16, interrupt), out)
    again = resolved(merge, out, name="ties")
    assert again.tally.kept == 1  # the tensor of integers
    resolved(merge, tmp_path / "plain", name="ties")
    assert content(out) == content(tmp_path / "plain")


@pytest.mark.parametrize("trick", ["link", "second name", "link to a folder"])
def test_no_link_is_written_through(tmp_path: Path, trick: str) -> None:
    """Who may write beside the output cannot have a run write over another file."""
    merge, out = make_merge(), tmp_path / "out"
    folder = broken_off(merge, out)
    victim = tmp_path / "victim"
    file = min((folder / "new").glob("*.safetensors"))
    victim.write_bytes(file.read_bytes())
    if trick == "link to a folder":
        (folder / "new").rename(tmp_path / "elsewhere")
        (folder / "new").symlink_to(tmp_path / "elsewhere")
        victim = tmp_path / "elsewhere" / file.name
    else:
        file.unlink()
        if trick == "link":
            file.symlink_to(victim)
        else:
            file.hardlink_to(victim)
    before = victim.read_bytes()
    assert resolved(merge, out).tally.kept == 0
    assert victim.read_bytes() == before


class Refusing:
    """Counts the calls that write, and refuses one of them."""

    def __init__(self, number: int) -> None:
        self.number, self.at, self.calls = number, -1, 0

    def wrap(self, call: Callable[..., object]) -> Callable[..., object]:
        """Return a call that is counted, and refused when it is its turn."""

        def refused(*arguments: object, **named: object) -> object:
            self.calls += 1
            if self.calls - 1 == self.at:
                raise OSError(self.number, os.strerror(self.number))
            return call(*arguments, **named)

        return refused


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, refusal: Refusing) -> Iterator[None]:
    with monkeypatch.context() as patched:
        for name in ("pwrite", "write", "posix_fallocate", "ftruncate"):
            patched.setattr(os, name, refusal.wrap(getattr(os, name)))
        patched.setattr(os, "rename", refusal.wrap(os.rename))
        yield


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_refuses_any_write_loses_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: Mapping[str, bytes],
    number: int,
) -> None:
    """One clear error, nothing under the name; and a full disk gets its room back."""
    merge, out = make_merge(), tmp_path / "out"
    counting = Refusing(number)
    with refusing(monkeypatch, counting):
        resolved(merge, tmp_path / "counted")
    kept = 0
    for at in range(counting.calls):
        refusal = Refusing(number)
        refusal.at = at
        with refusing(monkeypatch, refusal), pytest.raises(CrdtMergeError) as caught:
            resolved(merge, out)
        assert isinstance(caught.value, MachineError)
        assert not out.exists()
        if number == errno.ENOSPC:
            assert partials(out) == []
            assert "free some space" in caught.value.hint
        elif partials(out):
            kept += 1
            assert str(partials(out)[0]) in caught.value.hint
        resolved(merge, out)
        assert content(out) == whole
        assert partials(out) == []
        for path in out.iterdir():
            path.unlink()
        out.rmdir()
    assert counting.calls > 3 * TENSORS
    assert bool(kept) == (number == errno.EIO)


def test_a_journal_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    """What comes after it is a line of its own; names may be any text."""
    path, name = tmp_path / "journal", 'a "name"\n of\u2028 any kind'
    first = Journal(path, b"stamp")
    first.note(name, b"k" * 32, BlobId(b"d" * 32))
    first.close()
    with path.open("ab") as file:
        file.write(b"6b6b 6464")
    again = Journal(path, b"stamp")
    again.note("b", b"K" * 32, BlobId(b"D" * 32))
    again.close()
    third = Journal(path, b"stamp")
    assert {n: (f.task[:1], f.digest[:1]) for n, f in third.noted.items()} == {
        name: (b"k", b"d"),
        "b": (b"K", b"D"),
    }
    third.close()
    assert Journal(path, b"other").noted == {}


def test_a_journal_that_was_closed_writes_into_no_other_file(tmp_path: Path) -> None:
    """The system gives its number to the next file; a late thread must not meet that."""
    journal = Journal(tmp_path / "journal", b"stamp")
    journal.close()
    with (tmp_path / "other").open("wb"), pytest.raises(MachineError):
        journal.note("tensor", b"task", BlobId(bytes(32)))
    assert (tmp_path / "other").read_bytes() == b""
