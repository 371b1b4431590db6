"""An older build of the program, kept as it was, to run beside today's.

Owns finding and unpacking it. Does not own which one is kept (`tests.older`).
"""

import io
import lzma
import tarfile
from pathlib import Path
from typing import Final

_TESTS: Final = Path(__file__).parents[2] / "tests" / "older"


def kept() -> Path | None:
    """Return the build that the sources of the program keep; None where they are not."""
    return min(_TESTS.glob("*.tar.xz"), default=None)


def members(packed: bytes) -> dict[str, bytes]:
    """Return the files of a kept build, by name."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(packed))) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
    return found


def unpack(build: Path, folder: Path) -> Path:
    """Lay a kept build into `folder`: who runs there, imports it."""
    for name, data in members(build.read_bytes()).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
