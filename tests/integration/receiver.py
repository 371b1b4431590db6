"""A process that receives one blob, so that it can be killed.

    python -m tests.integration.receiver HOME ADDRESS SEED

Makes the home if it is not there, and beside it a log with a byte for each chunk taken.
SEED is that of the sender's key, in hexadecimal digits.
"""

import asyncio
import os
import sys
from contextlib import closing
from functools import partial
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
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        taken = partial(os.write, log, b"x")
        asyncio.run(receive(home.blobs, [(key, address)], taken=taken))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
