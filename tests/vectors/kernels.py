"""Every kernel on its cases, whose bytes are golden.

`python -m tests.vectors.kernels [BACKEND]` prints the digests as JSON, as computed by one
backend and no other.
"""

import json
import sys

from crdtmerge.digest import blob_id_of
from crdtmerge.numerics import backends
from crdtmerge.numerics.cases import KERNELS, cases_of


def digests(backend: str) -> dict[str, str]:
    """Return the digest (hex) of each case that `backend` has a kernel for."""
    module = backends.load(backend)
    return {
        case.title: blob_id_of(case.run(module)).hex()
        for kernel in KERNELS
        if hasattr(module, kernel)
        for case in cases_of(kernel)
    }


def main() -> None:
    """Print the vectors."""
    backend = sys.argv[1] if len(sys.argv) > 1 else backends.REFERENCE
    json.dump(digests(backend), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
