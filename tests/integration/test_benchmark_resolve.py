"""The harness of whole commands: it sees memory, processors and failure."""

import sys
from pathlib import Path

import pytest

from benchmarks.resolve.running import run


def test_a_command_is_measured_by_what_it_takes(tmp_path: Path) -> None:
    """Anonymous memory is seen, that of a mapped file is not."""
    data = tmp_path / "data"
    data.write_bytes(bytes(64 << 20))
    held = "import time; held = b'x' * (64 << 20); time.sleep(0.2)"
    mapped = (
        "import mmap, time; file = open('data', 'rb');"
        " held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ);"
        " sum(held[::4096]); time.sleep(0.2)"
    )
    taken = [run([sys.executable, "-c", code], tmp_path) for code in (held, mapped)]
    assert taken[0].anonymous - taken[1].anonymous > 60 << 20
    assert all(ran.wall_s > 0.2 and 0 < ran.cpu_s < 10 for ran in taken)


def test_a_command_that_fails_says_so(tmp_path: Path) -> None:
    """A time of something that did not happen is worth nothing."""
    with pytest.raises(RuntimeError, match="no way"):
        run([sys.executable, "-c", "import sys; sys.exit('no way')"], tmp_path)
