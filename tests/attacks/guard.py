"""What no attack may change: record roots, files, tables, and how much memory is taken.

Owns what is looked at, before and after. Does not own homes (`fortress`) nor attacks.

Nothing here asks our own store: files are read as they lie, tables by Python's own SQLite,
roots are built anew from the ids of the rows. SQLite's own three files count by the rows
that they hold, for its pages move at every checkpoint.

Memory is measured twice. `tracemalloc` tells what Python and numpy took at the most, to the
byte. Beside it stands the peak of the process, which the kernel starts anew on demand: it
counts C too (gRPC, msgpack, safetensors, OpenSSL), as far as pages were touched, and is
coarse.
"""

import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from blake3 import blake3

from crdtmerge.errors import CrdtMergeError
from crdtmerge.record import decode_record
from crdtmerge.trie import Trie

PYTHON_BYTES_MAX: Final = 16 << 20
"""What Python's objects may take at the peak of one attack, beside what was there."""
PROCESS_BYTES_MAX: Final = 96 << 20
"""What the process may, with gRPC's buffers and modules that are first used then."""

SQLITE: Final = ("-wal", "-shm", ".sqlite")
"""How the names of SQLite's own files end."""
SCRUBBED: Final = "local/scrub"
"""The setting by which a node, attacked or not, remembers how far it has read its disk."""
PRIVATE: Final = "attackers"
"""A folder of this name is the attacker's own, and not looked at."""


@dataclass(frozen=True)
class State:
    """All that an attack must leave as it was."""

    roots: dict[str, tuple[int, str]]
    """By store and space: how many records there are, and their root."""
    files: dict[str, tuple[int, str]]
    """By path: size and digest; of what is no file, its mode."""
    tables: dict[str, str]
    """By store and table: the digest of its rows."""


def state_of(folder: Path) -> State:
    """Return the state of all that lies below `folder`."""
    roots: dict[str, tuple[int, str]] = {}
    files: dict[str, tuple[int, str]] = {}
    tables: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if PRIVATE in path.relative_to(folder).parts:
            continue
        if path.name.endswith(SQLITE):
            if path.suffix == ".sqlite":
                _look_at(path, name, roots, tables)
            continue
        plain = path.is_file() and not path.is_symlink()
        data = path.read_bytes() if plain else b"%o" % path.lstat().st_mode
        files[name] = (len(data), blake3(data).hexdigest())
    return State(roots, files, tables)


def _look_at(
    path: Path,
    name: str,
    roots: dict[str, tuple[int, str]],
    tables: dict[str, str],
) -> None:
    """Read all rows of an SQLite file, also of one that is in use."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as sql:
        found = sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in found.fetchall():
            rows = sorted(
                repr(row)
                for row in sql.execute(f"SELECT * FROM {table}")
                if row[0] != SCRUBBED
            )
            tables[f"{name}:{table}"] = blake3("\n".join(rows).encode()).hexdigest()
        if f"{name}:records" in tables:
            ids: dict[bytes, list[bytes]] = {}
            for space, data in sql.execute("SELECT space, data FROM records"):
                ids.setdefault(space, []).append(decode_record(data).id)
            for space, of_space in ids.items():
                root = Trie.build(of_space).root.hex()
                roots[f"{name}:{space.hex()}"] = (len(of_space), root)


@contextmanager
def within_memory(
    python: int = PYTHON_BYTES_MAX, process: int = PROCESS_BYTES_MAX
) -> Iterator[None]:
    """Check that no more memory is taken at the peak than these."""
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    resident = _start_peak()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
        grown = _peak() - resident
    finally:
        if not tracing:
            tracemalloc.stop()
    assert peak - before <= python, f"Python took {peak - before} bytes"
    assert grown <= process, f"the process took {grown} bytes"


def _start_peak() -> int:
    """Let the kernel forget the peak of the process; return what it has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """Return the most bytes that the process had in memory since."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel does not tell the peak of a process")


@contextmanager
def guarded(
    folder: Path,
    error: type[CrdtMergeError],
    match: str | None = None,
    *,
    python: int = PYTHON_BYTES_MAX,
) -> Iterator[pytest.ExceptionInfo[CrdtMergeError]]:
    """Check that what is attempted fails by exactly `error`, and changes nothing.

    `CrdtMergeError` stands for any of ours, where chance decides what is broken.
    """
    before = state_of(folder)
    with within_memory(python), pytest.raises(error, match=match) as found:
        yield found
    if error is not CrdtMergeError:
        assert found.type is error, f"{found.type.__name__} is not {error.__name__}"
    assert state_of(folder) == before
