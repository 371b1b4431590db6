"""Who reads a home is waited for, and named where the system can."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crdtmerge.errors import MachineError
from nodes import readers
from nodes.readers import Reader, alone, who_reads


def test_readers_share_and_a_sweep_does_not(tmp_path: Path) -> None:
    """Any number reads; while one does nobody is alone; afterwards somebody is."""
    first, second = Reader(tmp_path), Reader(tmp_path)
    for reader in (first, second):
        with alone(tmp_path) as nobody:
            assert not nobody
        reader.release()
        reader.release()
    with alone(tmp_path) as nobody:
        assert nobody
        with alone(tmp_path) as again:
            assert not again


def test_a_reader_that_is_killed_is_not_waited_for(tmp_path: Path) -> None:
    """The system frees its share at its end, and it was named until then."""
    code = (
        "import sys, time; from pathlib import Path; from nodes.readers import Reader;"
        " r = Reader(Path(sys.argv[1])); print('reads', flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, cwd=root, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"reads\n"
        with alone(tmp_path) as nobody:
            assert not nobody
        if readers.LOCKS.exists():
            assert who_reads(tmp_path) == [other.pid]
        other.kill()
        other.wait()
    with alone(tmp_path) as nobody:
        assert nobody
    assert who_reads(tmp_path) == []


def test_a_system_without_a_list_names_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that somebody reads is known then; so it is of lines that mean nothing here."""
    reader = Reader(tmp_path)
    monkeypatch.setattr(readers, "LOCKS", tmp_path / "none")
    assert who_reads(tmp_path) == []
    listed = tmp_path / "listed"
    listed.write_text("\n1: -> FLOCK ADVISORY READ 7 0:1:2 0 EOF\n2: POSIX x y\n")
    monkeypatch.setattr(readers, "LOCKS", listed)
    assert who_reads(tmp_path) == []
    reader.release()


@pytest.mark.parametrize("refusal", [errno.EROFS, errno.EACCES])
def test_a_home_that_cannot_be_written_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    """Nobody collects there. Another refusal is told."""
    numbers = [refusal, errno.EIO]

    def refuses(*_: object) -> int:
        number = numbers.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(readers, "_open", refuses)
    Reader(tmp_path).release()
    with pytest.raises(MachineError, match="input/output"):
        Reader(tmp_path)
