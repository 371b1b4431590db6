"""What lies in the store is listed while it changes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from crdtmerge.digest import CHUNK_BYTES, blob_id_of, chunk_digests
from nodes.home import Home
from nodes.store.disk import SystemDisk
from tests.integration.living import homes

DATA = bytes(CHUNK_BYTES) + b"end"
BLOB = blob_id_of(DATA)


def _finish(home: Home) -> None:
    home.blobs.write_chunk(BLOB, 0, DATA[:CHUNK_BYTES])
    home.blobs.write_chunk(BLOB, 1, DATA[CHUNK_BYTES:])
    home.blobs.finish(BLOB)


def _recover(home: Home) -> None:
    home.blobs.begin(BLOB, len(DATA), chunk_digests(DATA))


def _download(home: Home) -> None:
    home.blobs.begin(BLOB, len(DATA), chunk_digests(DATA))


def _leftover(home: Home) -> None:
    home.blobs.put(DATA)
    home.blobs.rows.delete([BLOB])


@pytest.mark.parametrize(
    ("before", "meanwhile", "folder"),
    [(_download, _finish, "partial"), (_leftover, _recover, BLOB.hex()[:2])],
)
def test_a_file_that_goes_while_it_is_listed_is_passed_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[Home], None],
    meanwhile: Callable[[Home], None],
    folder: str,
) -> None:
    """A collection meets downloads that end; that must not stop the node."""
    names = SystemDisk.list
    with homes(tmp_path, "one") as (home,):
        before(home)

        def listing(disk: SystemDisk, path: Path) -> list[str]:
            found = names(disk, path)
            if path.name == folder:
                monkeypatch.setattr(SystemDisk, "list", names)
                meanwhile(home)
            return found

        monkeypatch.setattr(SystemDisk, "list", listing)
        found = home.blobs.holdings()
        assert all(h.stored == 0 for h in found if h.form == "partial")
        # what is taken for a leftover is looked at again before it goes
        home.blobs.removal.drop(found)
        if home.blobs.has(BLOB):
            assert home.blobs.read(BLOB, len(DATA)) == DATA
