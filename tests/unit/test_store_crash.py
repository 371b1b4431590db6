"""The store under SIGKILL and on disks that are really full, in processes of their own.

Run as a script, this file is the process that is killed or starved.
"""

import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import crdtmerge
from crdtmerge.bodies import Unknown
from crdtmerge.digest import CHUNK_BYTES, BlobId, ContentId, blob_id_of, chunk_digests
from crdtmerge.errors import ConflictError, MachineError
from crdtmerge.identity import SigningKey
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import found_space
from nodes.home import Home, create_home, open_home
from nodes.store.blobs import FileBlobs

KEY = SigningKey(bytes(32))
GENESIS = found_space(
    KEY, name="s", mode="open", base=ContentId(bytes(32)), nonce=bytes(16)
)
SPACE = GENESIS.record.space_id


def next_record(previous: SignedRecord) -> SignedRecord:
    """Return a record that follows `previous`."""
    number = previous.record.author_seq + 1
    record = make_record(
        space=SPACE,
        author=KEY.public,
        author_seq=number,
        prev=previous.record.id,
        auth=SPACE,
        body=Unknown("remark", number),
    )
    return sign_record(record, KEY)


def new_home(path: Path) -> Home:
    """Return a new home with fixed keys."""
    seeds = bytes(32), bytes([1]) * 32
    return create_home(
        path, author_seed=seeds[0], node_seed=seeds[1], generation=bytes(16)
    )


def spawn(role: str, path: Path, *before: str) -> subprocess.Popen[str]:
    """Start this file as a process in the given role."""
    environment = os.environ | {"PYTHONPATH": str(Path(crdtmerge.__file__).parents[1])}
    return subprocess.Popen(
        [*before, sys.executable, __file__, role, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def answer(role: str, path: Path, *before: str) -> list[str]:
    """Run this file to its end in the given role; return the lines it printed."""
    process = spawn(role, path, *before)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.splitlines()


def verify_all(home: Home) -> None:
    """Read every blob whose row is there."""
    for blob in home.blobs.ids():
        size, _ = home.blobs.chunk_list(blob)
        home.blobs.read(blob, size)


# --- what the processes do ---------------------------------------------------------------


def write_until_killed(path: Path) -> None:
    """Keep one blob and one record after the other, saying so after each."""
    source = path.parent / "source"
    with open_home(path, write=True) as home:
        home.records.append(SPACE, [GENESIS])
        for count in itertools.count():
            previous = home.records.load(SPACE)[-1]
            number = previous.record.author_seq + 1
            data = number.to_bytes(8, "big") * (20_000 * (1 + count % 9))
            if count % 3 == 0:
                source.write_bytes(data)
                blob = home.blobs.import_range(source, 0, len(data))
            elif count % 3 == 1:
                blob = home.blobs.put(data)
            else:
                blob = download(home.blobs, data)
            print("blob", blob.hex(), flush=True)
            signed = next_record(previous)
            home.records.append(SPACE, [signed])
            print("record", signed.record.id.hex(), flush=True)


def download(blobs: FileBlobs, data: bytes) -> BlobId:
    """Bring `data` in chunk by chunk, as from a peer."""
    blob, chunks = blob_id_of(data), chunk_digests(data)
    for index in range(blobs.begin(blob, len(data), chunks), len(chunks)):
        start = index * CHUNK_BYTES
        blobs.write_chunk(blob, index, data[start : start + CHUNK_BYTES])
    blobs.finish(blob)
    return blob


class Ballast:
    """A file that takes all the room there is on a disk, for real."""

    def __init__(self, folder: Path) -> None:
        """Take nothing yet."""
        self.path = folder / "ballast"

    def take(self) -> None:
        """Fill the disk to its last byte."""
        with suppress(OSError), self.path.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def give_back(self) -> None:
        """Make room again."""
        self.path.unlink()


def fill_the_disk(path: Path) -> None:
    """Do everything once on a disk that fills meanwhile, then again with room."""
    ballast = Ballast(path)
    home = new_home(path / "home")
    home.records.append(SPACE, [GENESIS])
    old = home.blobs.put(b"old" * 1000)
    data = np.random.default_rng(0).bytes(2 * CHUNK_BYTES)
    source = path / "source"
    source.write_bytes(data)
    trials: tuple[Callable[[], str], ...] = (
        lambda: fill_during_import(home, source, ballast),
        lambda: fill_during_download(home, data, ballast),
        lambda: fill_during_append(home, ballast),
        lambda: fill_before_init(path / "second", ballast),
    )
    for trial in trials:
        print(trial())
        ballast.give_back()
        assert home.blobs.ids() == [old]
        assert home.blobs.read(old, 3000) == b"old" * 1000
    assert home.blobs.import_range(source, 0, len(data)) == blob_id_of(data)
    home.records.append(SPACE, [next_record(GENESIS)])
    verify_all(home)
    home.close()


def fill_during_import(home: Home, source: Path, ballast: Ballast) -> str:
    """The room that was there at the start is gone after the first chunk."""
    before = tree(home.path)
    message = refused(
        lambda: home.blobs.import_range(
            source, 0, 2 * CHUNK_BYTES, progress=lambda _: ballast.take()
        )
    )
    assert tree(home.path) == before
    return message


def fill_during_download(home: Home, data: bytes, ballast: Ballast) -> str:
    """A chunk that did not fit counts as missing, and fits later."""
    blob, chunks = blob_id_of(data), chunk_digests(data)
    home.blobs.begin(blob, len(data), chunks)
    home.blobs.write_chunk(blob, 0, data[:CHUNK_BYTES])
    ballast.take()
    message = refused(lambda: home.blobs.write_chunk(blob, 1, data[CHUNK_BYTES:]))
    assert home.blobs.begin(blob, len(data), chunks) == 1
    ballast.give_back()
    home.blobs.write_chunk(blob, 1, data[CHUNK_BYTES:])
    home.blobs.finish(blob)
    assert home.blobs.read(blob, len(data)) == data
    home.blobs.forget(blob)
    ballast.take()
    return message


def fill_during_append(home: Home, ballast: Ballast) -> str:
    """No record of a batch that did not fit is kept."""
    ballast.take()
    batch = [GENESIS]
    while len(batch) < 2000:
        batch.append(next_record(batch[-1]))
    message = refused(lambda: home.records.append(SPACE, batch))
    assert home.records.load(SPACE) == [GENESIS]
    return message


def fill_before_init(path: Path, ballast: Ballast) -> str:
    """A home that could not be made leaves no folder."""
    ballast.take()
    message = refused(lambda: new_home(path))
    assert not path.exists()
    return message


def hit_the_file_limit(path: Path) -> None:
    """Write more than this process may put in one file."""
    home = new_home(path)
    home.records.append(SPACE, [GENESIS])
    before = tree(path)
    limit = 512 << 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    print(refused(lambda: home.blobs.put(bytes(2 * limit))))
    assert tree(path) == before
    batch = [GENESIS]
    while len(batch) < 5000:
        batch.append(next_record(batch[-1]))
    print(refused(lambda: home.records.append(SPACE, batch)))
    print(refused(lambda: home.records.last(SPACE)))


def tree(folder: Path) -> dict[str, int]:
    """Return the size of every file below `folder` but those of SQLite."""
    found = (item for item in folder.rglob("*") if item.is_file())
    return {
        str(item): item.stat().st_size for item in found if "sqlite" not in item.name
    }


def refused(action: Callable[[], object]) -> str:
    """Run `action`, which the machine must refuse; return the message."""
    try:
        action()
    except MachineError as e:
        return str(e)
    raise AssertionError("nothing was refused")


# --- what the tests ask of them ----------------------------------------------------------


def test_all_that_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """Killed at six random points, the store has every blob and record it confirmed."""
    path = tmp_path / "home"
    new_home(path).close()
    rng = np.random.default_rng(7)
    said: list[str] = []
    for _ in range(6):
        process = spawn("write", path)
        assert process.stdout is not None
        said.append(process.stdout.readline())
        assert said[-1], process.communicate()[1]
        time.sleep(float(rng.uniform(0, 0.1)))
        process.send_signal(signal.SIGKILL)
        said += process.communicate()[0].splitlines(keepends=True)
        with open_home(path, write=True) as home:
            verify_all(home)
            blobs = {blob.hex() for blob in home.blobs.ids()}
            kept = home.records.load(SPACE)
            records = {signed.record.id.hex() for signed in kept}
            assert home.records.last(SPACE) == len(kept)
            assert list((path / "temporary").iterdir()) == []
        words = [line.split() for line in said if line.endswith("\n")]
        assert {name for kind, name in words if kind == "blob"} <= blobs
        assert {name for kind, name in words if kind == "record"} <= records
    assert len(words) > 12


def test_a_living_writer_keeps_others_out_and_a_killed_one_does_not(
    tmp_path: Path,
) -> None:
    """The lock names the process that holds it, and dies with it."""
    path = tmp_path / "home"
    new_home(path).close()
    process = spawn("write", path)
    assert process.stdout is not None
    assert process.stdout.readline(), process.communicate()[1]
    with pytest.raises(ConflictError, match=rf"\(pid {process.pid}\)"):
        open_home(path, write=True)
    with open_home(path, write=False) as reader:  # reading goes on beside the writer
        assert reader.records.load(SPACE)[0] == GENESIS
        verify_all(reader)
    process.kill()
    process.communicate()
    open_home(path, write=True).close()


def test_a_disk_that_fills_up_changes_nothing(tmp_path: Path) -> None:
    """On a real file system of 5 MiB: one clear message each, and it goes on with room."""
    script = f'mount -t tmpfs -o size=5m tmpfs "{tmp_path}" && exec "$@"'
    unshare = ("unshare", "--user", "--map-root-user", "--mount")
    private = (*unshare, "sh", "-c", script, "sh")
    if shutil.which("unshare") is None:
        pytest.skip("this system has no private mounts")
    if subprocess.run([*private, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a private file system")
    imported, downloaded, appended, initialised = answer("fill", tmp_path, *private)
    assert imported.endswith("the disk is full")
    assert downloaded.endswith("the disk is full")
    assert appended.endswith("database or disk is full")
    assert initialised.startswith("creating")
    assert initialised.endswith("the disk is full")


def test_a_refused_write_changes_nothing_on_any_system(tmp_path: Path) -> None:
    """The limit on file sizes refuses blob and store alike; reopened, it is as it was."""
    path = tmp_path / "home"
    blob, append, later = answer("limit", path)
    assert blob.endswith("the file would be larger than this system allows")
    assert "store.sqlite" in append
    assert later.endswith("nothing more is tried")
    with open_home(path, write=True) as home:
        assert home.records.load(SPACE) == [GENESIS]
        assert home.blobs.ids() == []


ROLES = {
    "write": write_until_killed,
    "fill": fill_the_disk,
    "limit": hit_the_file_limit,
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](Path(sys.argv[2]))
