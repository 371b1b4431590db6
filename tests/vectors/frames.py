"""Frames of the sync stream as the version before sent them, byte for byte.

`python -m tests.vectors.frames` writes them, with the code of `tests.older`; they change
only when another version is kept.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from crdtmerge.sync.messages import (
    Attestations,
    AttestationsRequest,
    FeedReply,
    FeedRequest,
    Heartbeat,
    Held,
    Hello,
    Message,
    RecordsReply,
    RecordsRequest,
    Rumour,
    SignedBytes,
    TensorsRequest,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)

KEPT: Final = Path(__file__).parent / "frames.json"
SPACE, ROOT, ID = b"S" * 32, b"R" * 32, b"I" * 32
GENERATION: Final = b"g" * 16
SIGNED: Final = (SignedBytes(b"record", b"s" * 64),)


def messages() -> dict[str, Message]:
    """Return one message of each kind that the version before speaks, by name."""
    beat = Heartbeat(SPACE, ROOT, 3, GENERATION, 7, 2, True, b"a" * 16)
    return {
        "hello": Hello(1, "crdtmerge/0.1.0", True, 1),
        "heartbeat": beat,
        "feed request": FeedRequest(SPACE, GENERATION, 5, 1),
        "feed reply": FeedReply(SPACE, GENERATION, 6, True, SIGNED, 1),
        "trie request": TrieRequest(SPACE, ((), (1, 15)), 2),
        "trie reply": TrieReply(
            SPACE, (TrieLeaf((1,), (ID,)), TrieInner((2,), (ROOT,) * 16)), 2
        ),
        "records request": RecordsRequest(SPACE, (ID,), 3),
        "records reply": RecordsReply(SPACE, SIGNED, (ID,), 3),
        "rumour": Rumour(SPACE, SIGNED),
        "attestations request": AttestationsRequest(SPACE, (Held(ID, 4, b"m" * 16),)),
        "attestations": Attestations(SPACE, SIGNED),
        "tensors request": TensorsRequest(SPACE, ROOT, 9, 1),
    }


def _written() -> dict[str, str]:
    from nodes.convert import encode

    return {name: encode(message).hex() for name, message in messages().items()}


def main() -> None:
    """Write the frames, encoded by the version before in a process of its own."""
    from tests import older

    with tempfile.TemporaryDirectory() as scratch:
        folder = older.unpack(Path(scratch))
        here = str(Path(__file__).parents[2])
        code = (
            f"import sys; sys.path.insert(0, {str(folder)!r}); sys.path.append({here!r});"
            "import json, nodes; from tests.vectors import frames;"
            f"assert nodes.__file__.startswith({str(folder)!r});"
            "print(json.dumps(frames._written(), indent=1))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    json.loads(done.stdout)
    KEPT.write_text(done.stdout)


if __name__ == "__main__":
    main()
