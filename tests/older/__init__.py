"""The version before, kept as it was, to run beside today's (`b3308de`).

Owns the kept file and how it is unpacked. Does not own what both must do together: that is
in `tests/integration/test_older_wire.py`. `make.py` makes the file from git.
"""

import io
import lzma
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Final

COMMIT: Final = "b3308de"
KEPT: Final = Path(__file__).parent / f"{COMMIT}.tar.xz"
DIGEST: Final = "fc439ade7bb849009f4013c10f7c2a7245ce7346e8b91914e1cbd05d26bbd190"
"""Of all names and bytes in the file, in order: however it is compressed."""


def members(packed: bytes) -> dict[str, bytes]:
    """Return the files that the kept file holds."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(packed))) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
    return found


def digest_of(files: dict[str, bytes]) -> str:
    """Return what `DIGEST` is for these files."""
    whole = sha256()
    for name, data in sorted(files.items()):
        whole.update(f"{name}\n{len(data)}\n".encode() + data)
    return whole.hexdigest()


def unpack(folder: Path) -> Path:
    """Lay the version before into `folder`: who runs there, imports it."""
    files = members(KEPT.read_bytes())
    assert digest_of(files) == DIGEST
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
