"""A process that receives one blob, so that it can be killed.

    python -m tests.integration.receiver HOME ADDRESS SEED

Makes the home if it is not there. SEED is that of the sender's key, in hexadecimal digits.
"""

import asyncio
import sys
from contextlib import closing
from pathlib import Path

from crdtmerge.identity import SigningKey
from nodes.home import open_home
from tests.integration.living import make_home
from tests.integration.transfers import receive


def main(folder: Path, address: str, seed: str) -> None:
    """Receive until all is here."""
    if folder.exists():
        home = open_home(folder, write=True, purpose="command")
    else:
        home = make_home(folder)
    with closing(home):
        key = SigningKey(bytes.fromhex(seed))
        asyncio.run(receive(home.blobs, [(key, address)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
