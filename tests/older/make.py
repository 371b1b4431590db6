"""Makes the kept file of the version before from git: `python -m tests.older.make`.

Without the parts that no node needs: the types of stubs, the demo, the backend for CUDA.
"""

import io
import lzma
import subprocess
import tarfile
from typing import Final

from . import COMMIT, KEPT, digest_of

PACKAGES: Final = ("crdtmerge", "nodes")
LEFT_OUT: Final = (
    "nodes/demo/",
    "crdtmerge/numerics/cuda/",
    "crdtmerge/numerics/cases/",
)


def kept() -> dict[str, bytes]:
    """Return the files of the version before that are kept."""
    archive = ["git", "archive", COMMIT, *PACKAGES]
    done = subprocess.run(archive, capture_output=True, check=True)
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            wanted = member.name.endswith(".py")
            if file and wanted and not member.name.startswith(LEFT_OUT):
                files[member.name] = file.read()
    return files


def packed(files: dict[str, bytes]) -> bytes:
    """Return them as one file, the same bytes each time."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return lzma.compress(raw.getvalue(), preset=9 | lzma.PRESET_EXTREME)


if __name__ == "__main__":
    files = kept()
    KEPT.write_bytes(packed(files))
    print(f"{len(files)} files, {KEPT.stat().st_size} bytes, digest {digest_of(files)}")
