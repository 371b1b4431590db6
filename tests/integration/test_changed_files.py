"""The user's files that a contribution by reference lies in are edited, cut, put back.

Whoever uses them is told which file it is, nodes go on, and peers' copies are fetched.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.digest import CHUNK_BYTES, BlobId, chunk_digests
from crdtmerge.errors import ContentMissingError, CorruptBlobError, CrdtMergeError
from crdtmerge.formats.header import FileState, StoredTensor
from nodes.cli.render import status as rendered
from nodes.home import Home
from nodes.store.intake import Intake
from nodes.upkeep.references import check_references
from tests.homes import Fleet, write_model
from tests.integration.living import (
    admit,
    found,
    homes,
    living,
    offer,
    run,
    tensors,
    until,
)

DATA = os.urandom(2 * CHUNK_BYTES + 77)
Change = Callable[[Path], object]


def edit(path: Path) -> None:
    """Write one other byte into the file."""
    with path.open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-9, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def cut(path: Path) -> None:
    """Cut the file in the middle."""
    os.truncate(path, path.stat().st_size // 2)


def replace(path: Path) -> None:
    """Put another file of the same size in its place."""
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    other.replace(path)


def folder(path: Path) -> None:
    """Put a folder in its place, which cannot be read."""
    path.unlink()
    path.mkdir()


CHANGES = (edit, cut, replace, folder, Path.unlink)


class Setting:
    """A home with a base, and a fine-tune that was contributed by reference."""

    def __init__(self, folder: Path) -> None:
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.out = folder / "out"
        base = write_model(folder / "base", 0)
        self.tune = write_model(folder / "tune", 1, near=base)
        self.base = base / "model.safetensors"
        self.file = self.tune / "model.safetensors"
        self.kept = folder / "kept"
        shutil.copy2(self.file, self.kept)
        self.call("space_create", name="s", base=base, strategy="linear")
        self.call("contribute", path=self.tune, reference=True)

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb."""
        return self.fleet.call(self.home, verb, **arguments)

    def status(self) -> Any:
        """Return the status of the space, and which files are said to be changed."""
        facts = self.call("status")
        (space,) = facts["spaces"]
        return space, facts["changed_files"], "\n".join(rendered(facts))

    def check(self) -> list[BlobId]:
        """Look at the files, as a node does when it starts."""
        with self.fleet.open(self.home) as (home, spaces, _):
            return check_references(home, spaces)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """Return a home with one contribution by reference."""
    return Setting(tmp_path)


@pytest.mark.parametrize("change", CHANGES)
def test_a_resolve_names_the_file_and_what_to_do(
    setting: Setting, change: Change
) -> None:
    """The first time, and every time after it; nothing wrong is merged."""
    change(setting.file)
    for _ in range(2):
        with pytest.raises(CrdtMergeError) as refusal:
            setting.call("resolve", out=setting.out)
        assert isinstance(refusal.value, ContentMissingError | CorruptBlobError)
        assert str(setting.file) in str(refusal.value)
        assert "put the file back" in refusal.value.hint
        assert "contribute again" in refusal.value.hint
    assert not setting.out.exists()


@pytest.mark.parametrize("change", CHANGES)
def test_status_tells_before_and_after_a_use(setting: Setting, change: Change) -> None:
    """By a look at the file's state; what was found wrong counts as missing."""
    space, changed, _ = setting.status()
    assert (changed, space["missing_blobs"]) == ([], 0)
    change(setting.file)
    space, changed, text = setting.status()
    fate = "gone" if change is Path.unlink else "changed"
    assert [(f["path"], f["fate"]) for f in changed] == [(str(setting.file), fate)]
    assert f"{setting.file} {'is gone' if fate == 'gone' else 'was changed'}" in text
    assert "put the file back" in text
    with pytest.raises(CrdtMergeError):
        setting.call("resolve", out=setting.out)
    space, changed, _ = setting.status()
    assert space["missing_blobs"] > 0
    assert [c["complete"] for c in space["contributions"]] == [False]
    assert [(f["path"], f["fate"]) for f in changed] == [(str(setting.file), fate)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_put_back_is_used_again(
    setting: Setting, change: Change
) -> None:
    """With another time and inode: its bytes decide."""
    change(setting.file)
    assert setting.check() != []
    assert setting.status()[0]["missing_blobs"] > 0
    if setting.file.is_dir():
        setting.file.rmdir()
    shutil.copy(setting.kept, setting.file)
    assert setting.check() == []
    space, changed, _ = setting.status()
    assert (changed, space["missing_blobs"]) == ([], 0)
    assert setting.call("resolve", out=setting.out)["tensors"] == 3


def test_a_copy_takes_the_place_of_what_went(setting: Setting) -> None:
    """The same model from elsewhere, contributed again, makes it whole."""
    setting.file.unlink()
    assert setting.check() != []
    other = setting.tune.with_name("again")
    other.mkdir()
    shutil.copy(setting.kept, other / "model.safetensors")
    answer = setting.call("contribute", path=other)
    assert not answer["new"]
    assert answer["new_bytes"] > 0
    shutil.rmtree(other)
    space, changed, _ = setting.status()
    assert (changed, space["missing_blobs"]) == ([], 0)
    assert setting.call("resolve", out=setting.out)["tensors"] == 3


def test_a_file_that_was_only_touched_is_read_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another time is a reason to look, and equal bytes to be content with them."""
    os.utime(setting.file, (1, 1))
    assert setting.status()[1][0]["fate"] == "changed"
    assert setting.check() == []
    assert setting.status()[1] == []
    monkeypatch.setattr("nodes.store.access.Access._bad_chunks", None)
    assert setting.check() == [], "nothing was read"


def test_what_only_the_base_needs_stays_and_is_named(setting: Setting) -> None:
    """No peer serves it: the base's own file must come back, or a copy of it."""
    edit(setting.base)
    assert len(setting.check()) == 1
    space, changed, _ = setting.status()
    assert space["missing_blobs"] == 0
    assert [file["path"] for file in changed] == [str(setting.base)]
    with pytest.raises(CorruptBlobError, match="was changed since it was referenced"):
        setting.call("resolve", out=setting.out)


def test_a_tensor_of_a_changed_base_is_copied(setting: Setting) -> None:
    """Contributing says that the bytes are here: where they were is not enough."""
    model = write_model(setting.tune.with_name("other"), 7)
    shutil.copy(setting.base, model / "model.safetensors")  # the base itself
    assert setting.call("contribute", path=model)["new_bytes"] == 0
    edit(setting.base)
    assert setting.call("contribute", path=model)["new_bytes"] > 0


# --- nodes that run -----------------------------------------------------------------------


def refer(home: Home, path: Path) -> None:
    """Keep where DATA lies, in a file of the user's."""
    path.write_bytes(b"head" + DATA)
    state = FileState.of(path.stat())
    tensor = StoredTensor("t0", "U8", (len(DATA),), path, 4, len(DATA), state)
    with ThreadPoolExecutor(1) as pool:
        intake = Intake(home.blobs, pool, reference=True)
        taking = intake.begin(tensor, lambda _a, _n: b"")
        taking.take(DATA, chunk_digests(DATA))
        intake.keep([taking.end()])


@pytest.mark.parametrize(
    ("when", "change"),
    [
        ("before the start", edit),
        ("in use", edit),
        *(("served", change) for change in CHANGES),
    ],
)
def test_a_peer_s_copy_takes_the_place(
    tmp_path: Path, when: str, change: Change
) -> None:
    """Found at the start, by a use or when a peer asks: it is fetched, and nodes go on."""
    path, manifest = tmp_path / "model.bin", tensors(DATA)
    blob = manifest.tensors[0].blob
    with homes(tmp_path, "owner", "guest", "third") as (owner, guest, third):
        space = found(owner)
        admit(owner, space, guest, third)
        refer(owner, path)
        record = offer(owner, space, manifest)
        for home in (owner, guest, third):
            home.records.append(space, [record])
        guest.blobs.put(DATA)
        guest.blobs.put(manifest.encode())
        if when == "before the start":
            change(path)

        async def test() -> None:
            async with living(owner) as host, living(guest, host) as other:
                if when == "in use":
                    change(path)
                    with pytest.raises(CorruptBlobError, match=str(path)):
                        await asyncio.to_thread(owner.blobs.read, blob, len(DATA))
                if when == "served":
                    change(path)
                    async with living(third, host):
                        await until(lambda: third.blobs.has(blob), "a copy")
                        await until(lambda: not_referenced(owner, blob), "a copy here")
                await until(lambda: not_referenced(owner, blob), "a peer's copy")
                assert other.spaces.missing(space) == {}
            assert owner.blobs.read(blob, len(DATA)) == DATA

        run(test())


def not_referenced(home: Home, blob: BlobId) -> bool:
    """Tell whether a blob is here, and not in the user's file."""
    return home.blobs.has(blob) and not home.blobs.references.files()


def test_without_peers_a_node_goes_on(tmp_path: Path) -> None:
    """It refuses by name, serves nothing wrong, and counts the blob as missing."""
    path, manifest = tmp_path / "model.bin", tensors(DATA)
    with homes(tmp_path, "owner") as (owner,):
        space = found(owner)
        refer(owner, path)
        owner.records.append(space, [offer(owner, space, manifest)])

        async def test() -> None:
            async with living(owner) as host:
                cut(path)
                blob = manifest.tensors[0].blob
                for _ in range(2):
                    with pytest.raises(CrdtMergeError, match=str(path)):
                        await asyncio.to_thread(owner.blobs.read, blob, len(DATA))
                assert host.spaces.missing(space) == {blob: len(DATA)}
                with pytest.raises(ContentMissingError, match=str(path)) as refusal:
                    await asyncio.to_thread(
                        host.operations.call, "fetch", {"patience": 1}, lambda _: None
                    )
                assert "put the file back" in refusal.value.hint

        run(test())


def test_a_reader_beside_the_writer_changes_nothing(tmp_path: Path) -> None:
    """Only who has the lock may say that a blob is missing."""
    setting = Setting(tmp_path)
    edit(setting.file)
    with setting.fleet.open(setting.home, write=False) as (home, spaces, _):
        (file,) = [p for p in home.blobs.references.files() if p == setting.file]
        held = home.blobs.references.files()[file]
        bad = 0
        for blob in held:
            size, _ = home.blobs.chunk_list(blob)
            try:
                home.blobs.read(blob, size)
            except CorruptBlobError:
                bad += 1
        assert bad == 1
        assert home.blobs.references.strays() == []
        assert spaces.missing(spaces.all()[0]) == {}
