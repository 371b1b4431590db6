"""The version before, kept as it was, to run beside today's (`b3308de`).

Owns the kept file and its digest. Does not own how it is unpacked (`simulations.real`), nor
what both must do together: that is in `tests/integration/test_older_wire.py`. `make.py`
makes the file from git.
"""

from hashlib import sha256
from pathlib import Path
from typing import Final

from simulations.real import older

COMMIT: Final = "b3308de"
KEPT: Final = Path(__file__).parent / f"{COMMIT}.tar.xz"
DIGEST: Final = "fc439ade7bb849009f4013c10f7c2a7245ce7346e8b91914e1cbd05d26bbd190"
"""Of all names and bytes in the file, in order: however it is compressed."""

members = older.members


def digest_of(files: dict[str, bytes]) -> str:
    """Return what `DIGEST` is for these files."""
    whole = sha256()
    for name, data in sorted(files.items()):
        whole.update(f"{name}\n{len(data)}\n".encode() + data)
    return whole.hexdigest()


def unpack(folder: Path) -> Path:
    """Lay the version before into `folder`: who runs there, imports it."""
    assert digest_of(members(KEPT.read_bytes())) == DIGEST
    return older.unpack(KEPT, folder)
