"""Files of the user's that blobs lie in: what is changed there is set aside, and fetched.

Owns when that is looked at (at a start, before a fetch, whenever a use finds wrong bytes),
and what follows. Does not own how it is written down (`store.references`).

What a visible contribution needs counts as missing from then on, so that peers that have it
send it. What only a base needs no peer serves: its row stays, and whoever uses it is told
which file is another one now.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from crdtmerge.digest import BlobId
from crdtmerge.errors import CrdtMergeError

from ..home import Home
from ..spaces import Spaces
from ..store.blobs import FileBlobs
from ..store.ranges import Stored
from ..store.reading import bad_chunks
from ..store.references import Fate, Stray, state_of


def watch(home: Home, spaces: Spaces) -> None:
    """Have every use that finds wrong bytes set the blob aside; for the home's writer."""
    home.blobs.notice(partial(mislay, home, spaces))


def mislay(home: Home, spaces: Spaces, blob: BlobId) -> None:
    """Let a blob count as missing, if it is wrong and a contribution needs it."""
    blobs = home.blobs
    if not blobs.has(blob) or blobs.is_sound(blob):
        return  # it went, or was packed or repaired, while it was being read
    if blobs.examination.waits_for_base(blob):
        # SUBTLE: its own file may be right, and the only copy there is. The base is blamed.
        base = blobs.rows.find(blob).against
        if base is not None:
            mislay(home, spaces, base)
        return
    with spaces.lock:
        if any(spaces.serves(space, blob) for space in spaces.all()):
            blobs.removal.set_aside(blob)
            spaces.look_again()


def check_references(home: Home, spaces: Spaces) -> list[BlobId]:
    """Look at the files that are not as they were; return the blobs that are not there.

    Only a file whose state is another one is read. What was set aside comes back if its
    bytes are in their place again.

    Raises:
        MachineError: the store cannot be read or written.
    """
    blobs, references = home.blobs, home.blobs.references
    for stray in references.strays():
        if _take_back(blobs, stray):
            spaces.look_again()
    lost: list[BlobId] = []
    for path, held in references.files().items():
        if references.fate(path) == "as it was":
            continue
        state = state_of(path)
        bad = [blob for blob in held if not blobs.is_sound(blob)]
        for blob in bad:
            mislay(home, spaces, blob)
        lost += bad
        if state is not None and not bad and state == state_of(path):
            references.note(path, state)
    return lost


def _take_back(blobs: FileBlobs, stray: Stray) -> bool:
    """Let a blob be there again if its bytes are back in the user's file; tell it."""
    found = blobs.resumable(stray.blob)
    if found is None or blobs.has(stray.blob):
        return False
    size, chunks = found
    place = Stored(
        stray.blob, size, tuple(chunks), stray.path, stray.offset, referenced=True
    )
    try:
        right = not bad_chunks(blobs.disk, place)
    except CrdtMergeError:
        right = False
    if right:
        blobs.rows.write(place)
    return right


def changed_files(home: Home) -> Iterator[tuple[Path, Fate, int]]:
    """Yield each file that is not as it was: its fate, and how many blobs it concerns."""
    references = home.blobs.references
    files = {path: len(held) for path, held in references.files().items()}
    strays = Counter(stray.path for stray in references.strays())
    for path in sorted(strays.keys() | files.keys()):
        fate = references.fate(path)
        if strays[path]:
            yield path, "gone" if fate == "gone" else "changed", strays[path]
        elif fate in {"gone", "changed"}:
            yield path, fate, files[path]
