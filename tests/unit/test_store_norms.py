"""Kept norms: derived data, dropped where it is doubtful, shared between processes."""

import struct
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from nodes.store.norms import NORMS_FILE, FileNorms

ONE, TWO = b"1" * 32, b"2" * 32
SMALL = struct.unpack("<d", bytes(range(1, 8)) + b"\x00")[0]
KEPT = {ONE: 0.0, TWO: SMALL}


def filled(home: Path) -> Path:
    """A home's file with two norms."""
    with FileNorms(home) as norms:
        norms.save(KEPT)
    return home / NORMS_FILE


def test_norms_come_back_to_the_bit(tmp_path: Path) -> None:
    """Those asked for that are there; the file is its owner's alone."""
    path = filled(tmp_path)
    with FileNorms(tmp_path) as norms:
        assert norms.load([TWO, b"3" * 32]) == {TWO: SMALL}
        norms.save({ONE: 2.5})
        assert norms.load([ONE, TWO]) == {ONE: 2.5, TWO: SMALL}
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_at_once_keep_norms_in_one_file(tmp_path: Path) -> None:
    """A node and a command, say."""
    with FileNorms(tmp_path) as one, FileNorms(tmp_path) as other:
        one.save({ONE: 1.0})
        other.save({TWO: 2.0})
        assert one.load([ONE, TWO]) == other.load([ONE, TWO]) == {ONE: 1.0, TWO: 2.0}


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to be looked at" * 90)


def _torn(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:] = bytes(len(data) - 100)
    path.write_bytes(bytes(data))


def _of_another_version(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def _of_another_program(path: Path) -> None:
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE norms (key, norm, checked)")
    connection.close()


@pytest.mark.parametrize(
    "spoil", [_garbage, _torn, _of_another_version, _of_another_program, Path.unlink]
)
def test_a_spoilt_file_is_begun_again(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Nothing of it is believed, and norms are kept again."""
    spoil(filled(tmp_path))
    with FileNorms(tmp_path) as norms:
        assert norms.load(KEPT) == {}
        norms.save(KEPT)
    with FileNorms(tmp_path) as norms:
        assert norms.load(KEPT) == KEPT


def test_a_file_that_is_spoilt_while_it_is_open_is_begun_again(tmp_path: Path) -> None:
    """Found by the next question."""
    path = filled(tmp_path)
    with FileNorms(tmp_path) as norms:
        _garbage(path)
        assert norms.load(KEPT) == {}
        norms.save(KEPT)
        assert norms.load(KEPT) == KEPT


def test_a_row_of_other_bits_does_not_count(tmp_path: Path) -> None:
    """One flipped bit would give this replica another model than all others."""
    path = filled(tmp_path)
    connection = apsw.Connection(str(path))
    bits = struct.pack("<d", 3.0)
    connection.execute("UPDATE norms SET norm = ? WHERE key = ?", (bits, ONE))
    connection.close()
    with FileNorms(tmp_path) as norms:
        assert norms.load(KEPT) == {TWO: SMALL}
